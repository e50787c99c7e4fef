#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A full disk: the pull says so and exits 1, the store stays usable and has no
# fault, and once there is room the pull goes on from where it was.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mounts)"
mkdir -p "$TMP/store" "$TMP/mnt" "$TMP/a" "$TMP/b"
mount -t tmpfs -o size=16m tmpfs "$TMP/store" || skip_all "no tmpfs"
export QUICKLAYER_ROOT=$TMP/store

# A small image, and a large one on top of the same layer.
for i in {1..40}; do
	head -c 50000 /dev/urandom >"$TMP/a/small-$i"
	head -c 1000000 /dev/urandom >"$TMP/b/large-$i"
done
tar -C "$TMP/a" -cf "$TMP/a.tar" .
tar -C "$TMP/b" -cf "$TMP/b.tar" .
make_image "$TMP/img" small "$TMP/a.tar:gzip" >/dev/null
make_image "$TMP/img" large "$TMP/a.tar:gzip" "$TMP/b.tar:gzip" >/dev/null
start_registry
push_image "oci:$TMP/img:small" img:small || bail push
push_image "oci:$TMP/img:large" img:large || bail push

ok "a small image fits" "$QL" pull "$REGISTRY/img:small"
fails "a large one does not" 1 "$QL" pull "$REGISTRY/img:large"
like "$OUT" "No space left|no space left" "and says why"
note "$OUT"
ok "nothing in the store is wrong" "$QL" fsck
ok "it can be listed" "$QL" images
ok "the small image mounts" "$QL" mount "$REGISTRY/img:small" "$TMP/mnt"
ok "and reads" diff -r "$TMP/a" "$TMP/mnt"
ok "and is unmounted" "$QL" umount "$TMP/mnt"
fails "the large image is not here" 1 "$QL" ls "$REGISTRY/img:large"
fails "trying again fails again" 1 "$QL" pull "$REGISTRY/img:large"

mount -o remount,size=100m "$TMP/store"
ok "with room, the pull completes" "$QL" pull "$REGISTRY/img:large"
ok "nothing in the store is wrong" "$QL" fsck
ok "the large image mounts" "$QL" mount "$REGISTRY/img:large" "$TMP/mnt"
cp -a "$TMP/b/." "$TMP/a/"
ok "and reads" diff -r "$TMP/a" "$TMP/mnt"
ok "and is unmounted" "$QL" umount "$TMP/mnt"
ok "it is removed" "$QL" rmi "$REGISTRY/img:large"
ok "nothing in the store is wrong" "$QL" fsck

# Full to the last byte: even a removal has to work, or nothing helps.
mount -o remount,size=16m "$TMP/store" 2>/dev/null
head -c 100m /dev/zero >"$TMP/store/filler" 2>/dev/null
fails "no room at all" 1 "$QL" pull "$REGISTRY/img:large"
ok "an image can still be removed" "$QL" rmi "$REGISTRY/img:small"
rm -f "$TMP/store/filler"
ok "nothing in the store is wrong" "$QL" fsck
done_testing
