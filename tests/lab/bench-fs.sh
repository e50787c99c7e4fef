#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The FUSE mount of an image against native overlayfs over the same files
# unpacked on the same disk, in turns in one run: find -printf over 100,000
# files, warm and first; sequential read of 500 MB; the server's memory; how
# long a mount takes to its first ls.  Medians with their spread, and ratios
# (native time over ours: above 1 is faster than native).
#
#   RUNS   of each (5)       BENCH_DIR   where files are made (/var/tmp)
#   FILES  in the image (100000)         MB   read (500)
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"

RUNS=${RUNS:-5}
FILES=${FILES:-100000}
MB=${MB:-500}
[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] || bail "$QL is not built"
export QUICKLAYER_ROOT=$TMP/store

say()
{
	printf 'bench-fs: %s\n' "$*" >&2
}

# elapsed FILE COMMAND...: adds the milliseconds it took to the file.
elapsed()
{
	local file=$1 start=$EPOCHREALTIME end
	shift
	"$@" >/dev/null || bail "$*"
	end=$EPOCHREALTIME
	awk -v a="$start" -v b="$end" \
		'BEGIN { printf "%.1f\n", (b - a) * 1000 }' >>"$TMP/$file"
}

# "median (min - max)" of a file of numbers, and the median alone.
spread()
{
	sort -n "$TMP/$1" | awk '{ v[NR] = $1 } END {
		m = (v[int((NR + 1) / 2)] + v[int(NR / 2 + 1)]) / 2
		printf "%g (%g - %g)\n", m, v[1], v[NR] }'
}

median()
{
	spread "$1" | cut -d' ' -f1
}

# row WHAT BAR NATIVE OURS: a line of the table, with the ratio.
row()
{
	awk -v what="$1" -v bar="$2" -v n="$(median "$3")" -v o="$(median "$4")" \
		-v ns="$(spread "$3")" -v os="$(spread "$4")" 'BEGIN {
		printf "%-30s %-24s %-24s %6.2f  >= %-5s %s\n", what, ns, os,
			n / o, bar, (n / o >= bar) ? "ok" : "MISSED" }'
}

row_limit()
{
	awk -v what="$1" -v bar="$2" -v o="$(median "$3")" -v os="$(spread "$3")" \
		'BEGIN { printf "%-30s %-24s %-24s %6s  <= %-5s %s\n", what, "-",
			os, "-", bar, (o <= bar) ? "ok" : "MISSED" }'
}

drop_caches()
{
	sync
	echo 3 >/proc/sys/vm/drop_caches || say "caches are not dropped"
}

server_rss()
{
	local pid
	pid=$(getfattr --only-values -n user.quicklayer.server "$1" 2>/dev/null |
		cut -d' ' -f1)
	awk '/^VmRSS/ { printf "%.1f\n", $2 / 1024 }' "/proc/$pid/status" \
		>>"$TMP/$2"
}

walk()
{
	find "$1" -printf '%s %m\n'
}

overlay_on()
{
	mkdir -p "$1.upper" "$1.work" "$1.merged"
	mount -t overlay overlay \
		-o "lowerdir=$1,upperdir=$1.upper,workdir=$1.work" "$1.merged"
}

# ---- what is measured on ----

say "making and pulling an image of $FILES files, and one of $MB MB"
python3 "$LAB/bigtree.py" "$FILES" >"$TMP/many.tar" || bail "bigtree.py"
mkdir -p "$TMP/many" "$TMP/large" "$TMP/mnt"
tar -C "$TMP/many" -xf "$TMP/many.tar" || bail "tar"
head -c "${MB}000000" /dev/urandom >"$TMP/large/file"
tar -C "$TMP/large" -cf "$TMP/large.tar" . || bail "tar"
for name in many large; do
	make_image "$TMP/oci-$name" t "$TMP/$name.tar" >/dev/null ||
		bail "make_image"
	rm "$TMP/$name.tar"
	"$QL" pull "oci:$TMP/oci-$name:t" >/dev/null 2>&1 || bail "pull"
	rm -r "$TMP/oci-$name"
	overlay_on "$TMP/$name" || bail "overlay"
done
MANY=oci:$TMP/oci-many:t
LARGE=oci:$TMP/oci-large:t
M=$TMP/mnt

# ---- the walk ----

say "walking"
for ((i = 0; i < RUNS; i++)); do
	"$QL" mount "$MANY" "$M" || bail "mount"
	drop_caches
	elapsed first-fuse walk "$M"
	elapsed warm-fuse walk "$M"
	server_rss "$M" rss
	"$QL" umount "$M" || bail "umount"
	umount "$TMP/many.merged"
	overlay_on "$TMP/many" || bail "overlay"
	drop_caches
	elapsed first-native walk "$TMP/many.merged"
	elapsed warm-native walk "$TMP/many.merged"
done

# ---- the read ----

say "reading"
read_whole()
{
	dd if="$1" of=/dev/null bs=1M status=none
}
object=$(find "$QUICKLAYER_ROOT/objects" -type f -size "${MB}000000c")
cat "$object" "$TMP/large/file" >/dev/null
for ((i = 0; i < RUNS; i++)); do
	"$QL" mount "$LARGE" "$M" || bail "mount"
	elapsed read-fuse read_whole "$M/file"
	"$QL" umount "$M" || bail "umount"
	elapsed read-native read_whole "$TMP/large.merged/file"
	"$QL" mount "$LARGE" "$M" --no-passthrough || bail "mount"
	elapsed read-spliced read_whole "$M/file"
	elapsed again-spliced read_whole "$M/file"
	"$QL" umount "$M" || bail "umount"
done

# ---- the mount ----

say "mounting"
mount_and_ls()
{
	"$QL" mount "$MANY" "$M" && ls "$M"
}
for ((i = 0; i < RUNS; i++)); do
	elapsed mount mount_and_ls
	"$QL" umount "$M" || bail "umount"
done

# ---- the table ----

printf '%-30s %-24s %-24s %6s  %-8s\n' "milliseconds: median (spread)" \
	"native overlayfs" "quicklayer" ratio bar
row "find, $FILES files, warm" 0.7 warm-native warm-fuse
row "find, first walk" 0.3 first-native first-fuse
row "read $MB MB" 0.8 read-native read-fuse
row "  no passthrough, first" 0 read-native read-spliced
row "  no passthrough, again" 0 read-native again-spliced
row_limit "mount to first ls" 15 mount
row_limit "server's RSS, walked (MiB)" 24 rss
