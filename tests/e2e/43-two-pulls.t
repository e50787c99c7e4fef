#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Processes that pull at once into one store: the same image, and images that
# share layers.  All succeed, each blob is fetched once, the store has no fault.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
export QUICKLAYER_ROOT=$TMP/store
start_registry
python3 "$LAB/mktree.py" 4300 "$TMP/img" --entries 4000 --layers 4 ||
	bail mktree
push_image "oci:$TMP/img:t" tree:t || bail push
# The same layers, one more on top.
mkdir -p "$TMP/x/more" "$TMP/mnt"
echo more >"$TMP/x/more/more"
tar -C "$TMP/x" -cf "$TMP/x.tar" more
mapfile -t layers < <(cd "$TMP/img/blobs/sha256" && jq -r --arg d "$PWD" \
	'.layers[].digest | sub("sha256:"; $d + "/")' \
	"$(jq -r '.manifests[0].digest[7:]' "$TMP/img/index.json")")
make_image "$TMP/img" more "${layers[@]}" "$TMP/x.tar:gzip" >/dev/null ||
	bail "image"
push_image "oci:$TMP/img:more" tree:more || bail push

# pulls IMAGE...: all at once; prints those that failed.
pulls()
{
	local image pids=() i=0
	for image; do
		"$QL" pull --json "$image" >"$TMP/out.$i" 2>"$TMP/err.$i" &
		pids+=($!)
		i=$((i + 1))
	done
	for i in "${!pids[@]}"; do
		wait "${pids[i]}" || cat "$TMP/err.$i"
	done
}

is "$(pulls "$REGISTRY/tree:t" "$REGISTRY/tree:t")" "" \
	"two pulls of one image"
ok "nothing in the store is wrong" "$QL" fsck
"$QL" mount "$REGISTRY/tree:t" "$TMP/mnt"
python3 "$LAB/dumptree.py" "$TMP/mnt" >"$TMP/two"
"$QL" umount "$TMP/mnt"

rm -rf "$TMP/store"
ok "one pull" "$QL" pull "$REGISTRY/tree:t"
"$QL" mount "$REGISTRY/tree:t" "$TMP/mnt"
python3 "$LAB/dumptree.py" "$TMP/mnt" >"$TMP/one"
"$QL" umount "$TMP/mnt"
ok "makes the same tree" cmp "$TMP/one" "$TMP/two"
size_one=$(du -s --apparent-size "$TMP/store/objects" | cut -f1)

rm -rf "$TMP/store"
is "$(pulls "$REGISTRY/tree:t" "$REGISTRY/tree:more" "$REGISTRY/tree:t" \
	"$REGISTRY/tree:more")" "" "four pulls of two images that share layers"
ok "nothing in the store is wrong" "$QL" fsck
size_four=$(du -s --apparent-size "$TMP/store/objects" | cut -f1)
[ $((size_four - size_one)) -le 64 ] && pass "nothing is stored twice" ||
	fail "stored twice: $size_one KiB, then $size_four KiB"
is "$("$QL" cat "$REGISTRY/tree:more" /more/more)" more "the second is whole"
is "$(find "$TMP/store/partial" -type f -size +0 | wc -l)" 0 \
	"nothing is left half-made"
done_testing
