#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An image that is packed in a store that is full: all of it can be read,
# although opened it would take several times the budget.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
MIB=$((1 << 20))
BUDGET=$((24 * MIB))
mkdir -p "$TMP/m" "$TMP/want/small"

# 45 MB that are a fifth of that when compressed: one file is larger than what
# is left beside it.
python3 - "$TMP/want" <<-'PY' || bail files
	import random, sys
	want = sys.argv[1]
	r = random.Random(797)
	words = [r.randbytes(6).hex() for i in range(3000)]
	def text(n):
	    return " ".join(r.choices(words, k=n // 13)).encode()
	for i in range(300):
	    with open("%s/small/f%d" % (want, i), "wb") as f:
	        f.write(text(r.choice([100, 3000, 40000, 90000])))
	for i in range(5):
	    with open("%s/large%d" % (want, i), "wb") as f:
	        f.write(text(1600000 + 70001 * i))
	with open(want + "/huge", "wb") as f:
	    f.write(text(26000000))
PY
tar -C "$TMP/want" --owner=0 --group=0 -cf "$TMP/image.tar" . || bail tar
make_image "$TMP/oci" t "$TMP/image.tar:gzip" >/dev/null || bail make_image
start_registry
SRC=oci:$TMP/oci:t
"$QL" push -q --format zstd:chunked "$SRC" "$REGISTRY/lab:chunked" \
	>/dev/null || bail "push chunked"
"$QL" push -q --format estargz "$SRC" "$REGISTRY/lab:estargz" >/dev/null ||
	bail "push estargz"
push_image "$SRC" lab:indexed || bail "push gzip"
(
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$REGISTRY/lab:indexed" &&
		"$QL" index --push "$REGISTRY/lab:indexed"
) >/dev/null || bail "index"
rm -rf "$TMP/other"

begin()
{
	rm -rf "$TMP/store"
	"$B/tests/lab/limits" "$TMP/store" "$BUDGET" 0 >/dev/null ||
		bail limits
}
holds()
{
	local used
	used=$(du -sx -B1 "$TMP/store" | cut -f1)
	[ "$used" -le "$BUDGET" ] && pass "... the budget holds" ||
		fail "... the store takes $used of $BUDGET bytes"
}
# reads DIR: all that is there, from several at once.
reads()
{
	local pids=() pid status=0
	diff -r "$1/small" "$TMP/want/small" & pids+=($!)
	cmp "$1/huge" "$TMP/want/huge" & pids+=($!)
	for i in 0 1 2 3 4; do
		cmp "$1/large$i" "$TMP/want/large$i" || status=1
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || status=1
	done
	return "$status"
}
# random DIR: small parts of the largest file, here and there.
random()
{
	python3 - "$1/huge" "$TMP/want/huge" <<-'PY'
		import os, random, sys
		r = random.Random(3)
		got, want = (os.open(p, os.O_RDONLY) for p in sys.argv[1:])
		size = os.fstat(want).st_size
		assert os.fstat(got).st_size == size
		for i in range(60):
		    at, n = r.randrange(size), r.choice([1, 4096, 70000, 300000])
		    assert os.pread(got, n, at) == os.pread(want, n, at), (at, n)
	PY
}

for form in chunked estargz indexed; do
	image=$REGISTRY/lab:$form
	begin
	ok "$form: a full pull" "$QL" pull -q --no-agent --full "$image" ||
		continue
	holds
	ok "... it mounts" "$QL" mount --no-agent "$image" "$TMP/m"
	ok "... all of it is read" reads "$TMP/m"
	ok "... and parts of it, here and there" random "$TMP/m"
	holds
	ok "... is unmounted" "$QL" umount "$TMP/m"
	ok "... with nothing wrong" "$QL" fsck
	is "$("$QL" cat --no-agent "$image" /huge 2>"$TMP/err" | sha256sum)" \
		"$(sha256sum <"$TMP/want/huge")" "... its largest file alone"
	note "$(cat "$TMP/err")"
done

# ---- what has no table comes plain, and as a whole ----

# Its largest file does not fit; or none is too large, and all are.
mkdir "$TMP/many"
for i in {1..30}; do
	head -c 1000000 /dev/urandom >"$TMP/many/f$i"
done
tar -C "$TMP/many" --owner=0 --group=0 -cf "$TMP/many.tar" . || bail tar
make_image "$TMP/oci-many" t "$TMP/many.tar:gzip" >/dev/null || bail make_image
for oci in oci oci-many; do
	begin
	manifest=$(jq -r '.manifests[0].digest' "$TMP/$oci/index.json" | tr : /)
	size=$(jq '.layers[0].size' "$TMP/$oci/blobs/$manifest")
	fails "$oci: what does not fit" 1 \
		"$QL" pull -q --no-agent --full "oci:$TMP/$oci:t"
	like "$OUT" "layer sha256:[0-9a-f]* \($size bytes as it comes\): " \
		"... is named with its size"
	like "$OUT" "the budget of $BUDGET" "... and the budget is"
	holds
	is "$("$QL" images --json)" "[]" "... and nothing is left of it"
done
like "$("$QL" status)" "there was no room .* the budget of $BUDGET" \
	"... status says so, too"

# ---- through the agent ----

cat >"$TMP/agent.yaml" <<-YAML
	root: $TMP/store
	cache:
	  budget: $BUDGET
YAML
for form in chunked indexed; do
	image=$REGISTRY/lab:$form
	begin
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" || bail agent
	ok "$form: a full pull through the agent" \
		"$QL" pull -q --full "$image"
	holds
	ok "... all of it is read" reads "$TMP/store/agent/mnt/images/$image"
	holds
	lab_end "$AGENT"
	lab_umount_below "$TMP/store"
	ok "... with nothing wrong" "$QL" fsck
done
done_testing
