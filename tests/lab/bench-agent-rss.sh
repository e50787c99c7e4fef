#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The memory of quicklayerd: images from a docker-registry, pulled lazily by
# its API, filled to the last file in the background, then walked in the
# agent's mount.  Prints VmRSS after each step and its peak; fails where VmRSS
# is above the bar once all has come.
#
#   IMAGES  how many (10)         FILES      in all of them (300000)
#   BAR     MiB (48)              BENCH_DIR  for stores (/var/tmp)
#   FORMAT  of the layers: zstd:chunked, estargz, or gzip with an index
#           (zstd:chunked)
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"

IMAGES=${IMAGES:-10}
FILES=${FILES:-300000}
BAR=${BAR:-48}
FORMAT=${FORMAT:-zstd:chunked}
LIMIT=1800 # seconds for all to come
FAILED=0

[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "${QL}d" ] || bail "$B is not built"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"

say()
{
	printf 'bench-agent-rss: %s\n' "$*" >&2
}

# One image; another store makes what is pushed beside or instead of it.
image()
{
	local i=$1
	python3 "$LAB/bigtree.py" $((FILES / IMAGES)) "$((i + 1))" \
		>"$TMP/layer.tar" || return
	make_image "$TMP/oci" t "$TMP/layer.tar:gzip" >/dev/null || return
	if [ "$FORMAT" = gzip ]; then
		push_image "oci:$TMP/oci:t" "many$i:1" &&
			"$QL" pull -q --full "$REGISTRY/many$i:1" &&
			"$QL" index --push "$REGISTRY/many$i:1"
	else
		"$QL" push -q --format "$FORMAT" "oci:$TMP/oci:t" \
			"$REGISTRY/many$i:1"
	fi
}

# memory WHAT: a line of the table; sets $RSS (MiB).
memory()
{
	local peak
	RSS=$(awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' \
		"/proc/$AGENT/status") || bail "the agent is gone"
	peak=$(awk '/^VmHWM/ { printf "%.1f", $2 / 1024 }' \
		"/proc/$AGENT/status")
	printf '%-28s %8s %8s\n' "$1" "$RSS" "$peak"
}

all_here()
{
	local i
	for ((i = 0; i < IMAGES; i++)); do
		[ "$("$QL" status --no-agent --json "$REGISTRY/many$i:1" |
			jq '.files == .files_here')" = true ] || return
	done
}

# Looks now and then, past the agent: what it is asked takes its memory.
wait_for_all()
{
	local i
	for ((i = 0; i < LIMIT; i += 5)); do
		sleep 5
		all_here && return 0
	done
	return 1
}

start_registry
say "making and pushing $IMAGES images with $FILES files"
for ((i = 0; i < IMAGES; i++)); do
	(QUICKLAYER_ROOT=$TMP/other image "$i") >"$TMP/out" 2>&1 ||
		bail "image $i: $(tail -3 "$TMP/out")"
	rm -rf "$TMP/oci" "$TMP/layer.tar"
done
rm -rf "$TMP/other"

lab_start agent "${QL}d" --root "$TMP/store"
AGENT=$LAB_PID
wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" ||
	bail "quicklayerd: $(cat "$TMP/agent.log")"
echo "quicklayerd, $IMAGES images with $FILES files together ($FORMAT), MiB"
printf '%-28s %8s %8s\n' "" VmRSS peak
memory "started"
for ((i = 0; i < IMAGES; i++)); do
	"$QL" pull -q --plain-http "$REGISTRY/many$i:1" >/dev/null ||
		bail "pull many$i"
done
memory "pulled"
wait_for_all || bail "not all has come after $LIMIT s"
sleep 5
memory "all has come"
awk -v rss="$RSS" -v bar="$BAR" 'BEGIN { exit !(rss <= bar) }' || FAILED=1
find "$TMP/store/agent/mnt/by-digest/" -follow -printf '%s %m\n' |
	awk 'END { if (NR < '"$FILES"') exit 1 }' || bail "the mount's files"
memory "walked"
verdict=ok
[ $FAILED = 0 ] || verdict=MISSED
printf 'bar, once all has come: <= %s %s\n' "$BAR" "$verdict"
exit $FAILED
