#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Layers as podman (zstd:chunked) and stargz-snapshotter (eStargz, and its
# zstd:chunked) make them of one tree: what we know of them by their tables of
# contents is what their archives hold, entry by entry, and each piece of
# content is where the table says.
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source=tests/lab/engines.sh
. "$LAB/engines.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
command -v ctr-remote >/dev/null ||
	skip_all "no ctr-remote (Debian's stargz-snapshotter)"
LAZY=$B/tests/lab/lazylayer
LAB_AT_EXIT+=(containerd_end)

# ---- an image in each form ----

mkdir -p "$TMP/src"
python3 "$LAB/oddtree.py" "$TMP/src" || bail oddtree
mkdir "$TMP/names"
mv "$TMP/src/data/"$'\xff'* "$TMP/names/" || bail "no name of no character set"
head -c 9000000 /dev/urandom >"$TMP/src/big"
truncate -s 3000000 "$TMP/src/zeros"
{
	head -c 100000 /dev/urandom
	head -c 500000 /dev/zero
	head -c 100000 /dev/urandom
} >"$TMP/src/holes"
cp "$TMP/src/holes" "$TMP/src/etc/holes-again"
: >"$TMP/src/.wh.gone"

# pack NAME FOLDER: an image of the folder in the registry, NAME:plain.
pack()
{
	tar -C "$2" --format=pax --xattrs --xattrs-include='*' \
		-cf "$TMP/$1.tar" . &&
		make_image "$TMP/oci" "$1" "$TMP/$1.tar" &&
		push_image "oci:$TMP/oci:$1" "$1:plain"
}

# Podman remembers blobs that it has seen, and would push those again as they
# are: it gets a memory that is empty each time.
# shellcheck disable=SC2016
podman_chunked()
{
	local LAB_IN=(unshare -m sh -c 'mkdir -p /var/lib/containers/cache &&
		mount -t tmpfs none /var/lib/containers/cache && exec "$@"' -)
	lab_podman pull --tls-verify=false "$REGISTRY/$1:plain" &&
		lab_podman push --tls-verify=false --format oci \
			--compression-format zstd:chunked \
			"$REGISTRY/$1:plain" "$REGISTRY/$1:chunked"
}

# convert NAME FORM OPTION...
convert()
{
	local name=$1 form=$2
	shift 2
	ctr-remote -a "$TMP/containerd/sock" images pull --plain-http \
		"$REGISTRY/$name:plain" &&
		ctr-remote -a "$TMP/containerd/sock" images convert --oci \
			"$@" "$REGISTRY/$name:plain" "$REGISTRY/$name:$form" &&
		ctr-remote -a "$TMP/containerd/sock" images push --plain-http \
			"$REGISTRY/$name:$form"
}

# fetch NAME FORM: sets $MANIFEST and $BLOB, files.
fetch()
{
	local dir=$TMP/$1-$2 digest
	skopeo --insecure-policy copy --quiet --src-tls-verify=false \
		"docker://$REGISTRY/$1:$2" "oci:$dir:x" || bail "skopeo $1:$2"
	digest=$(jq -r '.manifests[0].digest' "$dir/index.json")
	MANIFEST=$dir/blobs/sha256/${digest#sha256:}
	digest=$(jq -r '.layers[0].digest' "$MANIFEST")
	BLOB=$dir/blobs/sha256/${digest#sha256:}
}

# lazy HOW: with a store of its own; the tree, or what it says, in $TMP/HOW.
lazy()
{
	local status=0
	rm -rf "$TMP/store"
	mkdir "$TMP/store"
	"$LAZY" "$1" "$TMP/store" "$MANIFEST" "$BLOB" >"$TMP/$1" \
		2>"$TMP/$1.err" || status=$?
	[ "$status" = 0 ] || note "$(cat "$TMP/$1.err")"
	return "$status"
}

# Times as eStargz writes them: to the nearest second.
to_seconds()
{
	awk '{ split($6, t, ".")
		$6 = sprintf("%.0f.000000000", t[1] + (t[2] >= 500000000))
		print }' "$1"
}

# same FORM [FILTER]
same()
{
	fetch odd "$1"
	lazy toc && lazy full || {
		fail "$1: was read"
		return
	}
	"${2:-cat}" "$TMP/full" >"$TMP/want"
	ok "$1: the tree is that of the archive" diff "$TMP/want" "$TMP/toc"
	ok "$1: all content is where the table says" lazy check
	like "$(cat "$TMP/check")" "^20[0-9][0-9] files" "$1: all of it"
	like "$(cat "$TMP/toc.err")" "^ranges=1 bytes=[0-9]{5,6} " \
		"$1: one range was read"
}

start_registry
containerd_wipe
pack odd "$TMP/src" >"$TMP/log" 2>&1 || bail "image: $(cat "$TMP/log")"
ok "podman makes zstd:chunked" podman_chunked odd
ok "ctr-remote makes eStargz" convert odd estargz --estargz
for path in data/large etc/small many/file-0007; do
	printf '{"path":"%s","layerIndex":0}\n' "$path"
done >"$TMP/record"
ok "ctr-remote makes eStargz in another order, with small chunks" \
	convert odd ordered --estargz --estargz-record-in "$TMP/record" \
	--estargz-chunk-size 65536
ok "ctr-remote makes zstd:chunked" convert odd zstd --zstdchunked

same chunked
same estargz to_seconds
like "$(cat "$TMP/toc")" "/.no.prefetch.landmark " "it has a landmark"
like "$(cat "$TMP/toc")" "/stargz.index.json " "and its table is a file"
same ordered to_seconds
like "$(cat "$TMP/toc")" "/.prefetch.landmark " "it has a landmark"
same zstd to_seconds

# ---- what is not believed, and what cannot be had ----

fetch odd chunked
jq '.layers[0].annotations |= with_entries(if .key | endswith("checksum")
	then .value |= .[:-1] + (if .[-1:] == "0" then "1" else "0" end)
	else . end)' "$MANIFEST" >"$TMP/lie.json"
MANIFEST=$TMP/lie.json
fails "a table with another digest is refused" 1 \
	"$LAZY" toc "$TMP/store" "$MANIFEST" "$BLOB"
like "$OUT" "digest is another" "it is said why"
fetch odd plain
fails "a plain layer is told from the others" 3 \
	"$LAZY" toc "$TMP/store" "$MANIFEST" "$BLOB"

# Tables are JSON, which cannot say such names.
pack names "$TMP/names" >"$TMP/log" 2>&1 || bail "image: $(cat "$TMP/log")"
podman_chunked names >"$TMP/log" 2>&1 || bail "podman: $(cat "$TMP/log")"
fetch names chunked
fails "names that JSON cannot say make a layer a plain one" 3 \
	"$LAZY" toc "$TMP/store" "$MANIFEST" "$BLOB"
like "$OUT" "UTF-8" "it is said why"
ok "and it is had as that" lazy full
done_testing
