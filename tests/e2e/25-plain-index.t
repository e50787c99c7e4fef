#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An ordinary image of gzip, zstd and plain layers is pulled whole from a real
# registry, which makes a table of contents of each layer: small, right (every
# span is decoded by itself, every piece and file hashed), and gone with its
# image.  That content comes by it: test-plainindex.c.
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store
STORE=$TMP/store
CHECK=$(dirname "$QL")/tests/lab/checktoc
mkdir "$TMP/a" "$TMP/b" "$TMP/c"

# ---- an image ----

python3 - "$TMP" <<-'PY' || bail "files"
	import os, random, sys
	top, rnd = sys.argv[1], random.Random(25)
	words = [bytes(rnd.choices(range(33, 127), k=rnd.randint(3, 12)))
	         for _ in range(2000)]
	def write(path, size):
	    data = b" ".join(rnd.choices(words, k=size // 6 + 1))[:size]
	    open(os.path.join(top, path), "wb").write(data)
	for i, size in enumerate((0, 1, 64, 65, 4096, (1 << 20) - 1, 1 << 20,
	                          (1 << 20) + 1, 5 << 20)):
	    write("a/file%d" % i, size)
	write("a/large", 60 << 20)
	with open(os.path.join(top, "a/sparse"), "wb") as f:
	    f.write(b"begin" * 1000)
	    f.seek(9 << 20)
	    f.write(b"end" * 1000)
	for i in range(300):
	    write("b/small%d" % i, rnd.randrange(20000))
	write("b/big", 10 << 20)
	write("c/plain", 6 << 20)
PY
for l in a b c; do
	tar -C "$TMP/$l" --sparse -cf "$TMP/$l.tar" . || bail tar
done
make_image "$TMP/oci" plain "$TMP/a.tar:gzip" "$TMP/b.tar:zstd" \
	"$TMP/c.tar" >/dev/null || bail "make_image"
start_registry
push_image "oci:$TMP/oci:plain" plain:1 || bail push
IMAGE=$REGISTRY/plain:1

# ---- pulled whole ----

ok "the image is pulled" "$QL" pull "$IMAGE"
tables=("$STORE"/layers/*.toc)
is "${#tables[@]}" 3 "each layer has a table of contents"

# The registry's file of a table's blob.
blob_of()
{
	local blob=${1##*/}
	blob=${blob%.toc}
	echo "$REGISTRY_DIR/docker/registry/v2/blobs/sha256/${blob:0:2}/$blob/data"
}

# Tables that, as they would travel, are more than 1 % of a layer of some size:
# a few hundred small files in a small layer cost their digests.
fat_tables()
{
	local t size packed
	for t in "${tables[@]}"; do
		size=$(stat -c %s "$(blob_of "$t")")
		packed=$(zstd -q -19 -c "$t" | wc -c)
		[ "$size" -lt 10000000 ] ||
			[ $((packed * 100)) -le "$size" ] ||
			echo "$t: $packed of $size"
	done
}
is "$(fat_tables)" "" "tables are 1 % of their layers at most"

for t in "${tables[@]}"; do
	ok "a table's spans, pieces and files are right" \
		"$CHECK" "$t" "$(blob_of "$t")"
done
ok "the store has no fault" "$QL" fsck

# ---- and gone ----

ok "the image is removed" "$QL" rmi "$IMAGE"
is "$(find "$STORE/layers" -type f)" "" "and with it the tables"

done_testing
