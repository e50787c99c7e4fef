#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Eviction that is killed at any moment: nothing that is referenced is gone, and
# after the next start and gc nothing is left that is not.
#
#   QL_KILLS   rounds (3)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
rounds=${QL_KILLS:-3}
mkdir -p "$TMP/m"

start_registry
for seed in 1 2 3; do
	python3 "$LAB/mktree.py" $((7700 + seed)) "$TMP/img$seed" \
		--entries 1500 --layers 3 || bail "mktree"
	push_image "oci:$TMP/img$seed:t" "tree$seed:t" || bail "push"
	QUICKLAYER_ROOT=$TMP/whole "$QL" pull -q --full \
		"$REGISTRY/tree$seed:t" >/dev/null || bail "pull"
done

dump()
{
	"$QL" mount --no-agent "$REGISTRY/tree$1:t" "$TMP/m" &&
		python3 "$LAB/dumptree.py" "$TMP/m" &&
		"$QL" umount "$TMP/m"
}
for seed in 1 2 3; do
	QUICKLAYER_ROOT=$TMP/whole dump "$seed" >"$TMP/want$seed" || bail "dump"
done

# All files of the store that stand for something, by name.
files()
{
	(cd "$1" && find objects images layers packed partial -type f | sort)
}

killed=0
for ((round = 1; round <= rounds; round++)); do
	trouble=
	rm -rf "$TMP/store"
	cp -a "$TMP/whole" "$TMP/store"
	# Some of it, all of it; by gc, or by a pull that needs the room.
	size=$((1 << 20 << (round % 5)))
	"$QL" gc --no-agent --free "$size" --budget 200MiB \
		>"$TMP/log" 2>&1 &
	pid=$!
	us=$((RANDOM * 8 % (60000 * (1 + round % 4))))
	sleep "$(printf '0.%06d' "$us")"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	[ $? = 137 ] && killed=$((killed + 1))
	"$QL" fsck >"$TMP/log" 2>&1 ||
		trouble+="fsck after the kill: $(cat "$TMP/log"); "
	"$QL" gc --no-agent >"$TMP/log" 2>&1 || trouble+="gc: $(cat "$TMP/log"); "
	"$QL" fsck >"$TMP/log" 2>&1 || trouble+="fsck: $(cat "$TMP/log"); "
	left=$("$QL" gc --no-agent --dry-run --json 2>&1)
	files "$TMP/store" >"$TMP/before"
	"$QL" gc --no-agent >/dev/null 2>&1
	files "$TMP/store" | cmp -s - "$TMP/before" ||
		trouble+="something was left: $left; "
	for seed in 1 2 3; do
		"$QL" pull -q "$REGISTRY/tree$seed:t" >"$TMP/log" 2>&1 ||
			trouble+="pull $seed: $(cat "$TMP/log"); "
		dump "$seed" >"$TMP/got" 2>"$TMP/log" ||
			trouble+="mount $seed: $(cat "$TMP/log"); "
		cmp -s "$TMP/want$seed" "$TMP/got" ||
			trouble+="another tree $seed; "
	done
	"$QL" fsck >"$TMP/log" 2>&1 || trouble+="fsck at the end: $(cat "$TMP/log"); "
	is "$trouble" "" "round $round: killed after $((us / 1000)) ms of $size"
done
note "$killed of $rounds evictions were running when they were killed"
[ "$killed" -gt 0 ] && pass "some were killed in the act" ||
	fail "none was killed in the act"
done_testing
