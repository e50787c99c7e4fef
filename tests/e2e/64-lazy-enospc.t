#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A disk that fills up while an image comes: who reads what has no room gets
# EIO, what is here is read on, and once there is room all of it comes.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
mkdir -p "$TMP/store" "$TMP/m"
mount -t tmpfs -o size=40m tmpfs "$TMP/store" || skip_all "no tmpfs"

lazy_image 30

# Leaves so many KiB beside what a store keeps free.
fill_disk()
{
	rm -f "$TMP/store/ballast"
	local free
	free=$(df --output=avail -k "$TMP/store" | tail -1)
	head -c "$(((free - 8192 - $1) * 1024))" /dev/zero \
		>"$TMP/store/ballast"
}
same()
{
	timeout 40 cmp "$D/$1" "$TMP/files/$1"
}
# What goes wrong when a server (by D) has no room and then has some.
story()
{
	ok "$1: with room, a file" same large1
	ok "... and a small one" same small1
	ok "... and a part" cmp -n 4096 "$D/large2" "$TMP/files/large2"
	sleep 1.5 # until these are durable
	fill_disk 500
	fails "... without, a large one fails" 1 cat "$D/large3"
	like "$OUT" "Input/output error" "... by EIO"
	fails "... and again" 1 cat "$D/large4"
	ok "... what is here is read" same large1
	ok "... also the small ones" same small1
	ok "... and what has room comes" same small2
	# To the last byte: not even the reserve is left.
	head -c 100m /dev/zero >"$TMP/store/ballast2" 2>/dev/null
	fails "... with none at all, nothing comes" 1 cat "$D/small3"
	ok "... and what is here is read" same small1
	rm "$TMP/store/ballast" "$TMP/store/ballast2"
	ok "... with room again, it comes" same large3
	ok "... and all the rest" diff -r "$D/" "$TMP/files"
}

"$QL" pull -q "$IMAGE" >/dev/null || bail pull
"$QL" mount --no-agent "$IMAGE" "$TMP/m" || bail mount
D=$TMP/m story "a mount of its own"
"$QL" umount "$TMP/m"
ok "nothing in the store is wrong" "$QL" fsck
ok "the image goes" "$QL" rmi "$IMAGE"
is "$(find "$TMP/store/objects" "$TMP/store/partial" -type f -size +0)" "" \
	"... with all its files"

printf 'root: %s\nread_timeout: 5s\n' "$TMP/store" >"$TMP/agent.yaml"
echo 'background_rate: 0' >>"$TMP/agent.yaml"
lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
AGENT=$LAB_PID
lab_ready agent || bail agent
"$QL" pull -q "$IMAGE" >/dev/null || bail pull
D=$TMP/store/agent/mnt/images/$IMAGE story "the agent"
fill_disk 0
"$QL" status --json | jq -e .fill >/dev/null
ok "... a full disk lets an image be removed" "$QL" rmi "$IMAGE"
rm "$TMP/store/ballast"
ok "nothing in the store is wrong" "$QL" fsck
lab_end "$AGENT"
lab_umount_below "$TMP/store"
done_testing
