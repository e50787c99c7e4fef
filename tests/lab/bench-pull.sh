#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Full pull of a real image of 300 to 500 MB gzip from a local docker-registry,
# cold, into an empty store: quicklayer against podman and containerd (its
# overlayfs), in turns, medians with their spread, and ratios.  Then peak
# memory, what a second image that shares 90 % of its files costs on disk, and
# how long a mount of what is here takes to its first ls.
#
#   RUNS   of each (5)          BENCH_DIR   where stores are made (/var/tmp)
#
# Before each run the stores are wiped, caches dropped, and the registry's blobs
# and all binaries read again, so that the clients' disks are cold and the
# registry is not what is measured.
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

RUNS=${RUNS:-5}
[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] || bail "$QL is not built"
export QUICKLAYER_ROOT=$TMP/store

# ---- the three ----

quicklayer_wipe()
{
	rm -rf "$TMP/store"
}

quicklayer_pull()
{
	/usr/bin/time -o "$TMP/rss" -f %M "$QL" pull "$1" >"$TMP/log" 2>&1
}

podman_pull()
{
	lab_podman pull -q --tls-verify=false "docker://$1" >"$TMP/log" 2>&1
}

containerd_pull()
{
	lab_ctr image pull --plain-http \
		--snapshotter overlayfs "$1" >"$TMP/log" 2>&1
}

# measure WHO: one run, its milliseconds into $TMP/WHO.ms.
measure()
{
	local who=$1 start
	"${who}_wipe"
	cold "$QL"
	start=$(now_ms)
	"${who}_pull" "$IMAGE" || bail "$who: $(tail -5 "$TMP/log")"
	echo $(($(now_ms) - start)) >>"$TMP/$who.ms"
	[ "$who" != quicklayer ] || cat "$TMP/rss" >>"$TMP/quicklayer.rss"
	echo "  $who: $(tail -1 "$TMP/$who.ms") ms" >&2
}

# ---- the report ----

report_pull()
{
	local who mine median
	mine=$(spread <"$TMP/quicklayer.ms")
	echo "Full pull, cold, $IMAGE_MB MB gzip, median (min - max) of $RUNS, ms ${COLD:-}"
	printf '  %-28s %s\n' quicklayer "$mine"
	for who in podman containerd; do
		median=$(spread <"$TMP/$who.ms")
		printf '  %-28s %-28s %sx as long   (bar: 2x)\n' "$who" \
			"$median" "$(ratio "${median%% *}" "${mine%% *}")"
	done
	printf 'Peak memory of that pull, KiB: %s   (bar: 65536)\n' \
		"$(spread <"$TMP/quicklayer.rss")"
}

disk_bytes()
{
	du -s --block-size=1 "$TMP/store${1:-}" | cut -f1
}

report_second()
{
	local before after files unique=$1
	quicklayer_wipe
	"$QL" pull "$IMAGE" >/dev/null 2>&1 || bail "pull"
	before=$(disk_bytes)
	files=$(disk_bytes /objects)
	"$QL" pull "$SECOND" >/dev/null 2>&1 || bail "pull of the second"
	after=$(disk_bytes)
	files=$(($(disk_bytes /objects) - files))
	printf 'Second image: %d bytes are new, the store grew by %d: %sx   (bar: 1.1x)\n' \
		"$unique" $((after - before)) \
		"$(ratio $((after - before)) "$unique")"
	printf '  of which files, in whole blocks: %d; metadata: %d\n' \
		"$files" $((after - before - files))
}

report_mount()
{
	local i start
	mkdir -p "$TMP/mnt"
	for ((i = 0; i < RUNS * 4 + 1; i++)); do
		start=${EPOCHREALTIME/[.,]/}
		"$QL" mount "$IMAGE" "$TMP/mnt" && ls "$TMP/mnt" >/dev/null ||
			bail "mount"
		echo $(((${EPOCHREALTIME/[.,]/} - start) / 10))
		"$QL" umount "$TMP/mnt" || bail "umount"
	done | awk '{ print $1 / 100 }' >"$TMP/mount.ms"
	echo "Mount of an image that is here, to the first ls, ms:" \
		"$(spread <"$TMP/mount.ms")   (bar: 15)"
}

oci=$("$LAB/mkimage.sh" bench | tail -1)
second=$("$LAB/mkimage.sh" second | tail -1)
unique_file=${second#oci:}
unique_file=${unique_file%/oci:*}/unique-bytes
start_registry registry
echo "pushing" >&2
push_image "$oci" bench:1 || bail push
push_image "$second" second:1 || bail push
IMAGE=$REGISTRY/bench:1
SECOND=$REGISTRY/second:1
layout=${oci#oci:}
IMAGE_MB=$(($(du -s --block-size=1 --apparent-size "${layout%:*}/blobs" |
	cut -f1) / 1000000))

for ((run = 0; run < RUNS; run++)); do
	echo "run $((run + 1)) of $RUNS" >&2
	measure quicklayer
	measure podman
	measure containerd
done
podman_wipe
report_pull
report_second "$(cat "$unique_file")"
report_mount
