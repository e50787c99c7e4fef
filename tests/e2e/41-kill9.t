#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A pull that is killed at any moment leaves a store without a fault, which the
# next pull completes.  Every third round the same store is killed three times.
#
#   QL_KILLS   rounds (10)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
export QUICKLAYER_ROOT=$TMP/store
rounds=${QL_KILLS:-10}

start_registry
python3 "$LAB/mktree.py" 4100 "$TMP/img" --entries 6000 --layers 5 ||
	bail "mktree"
push_image "oci:$TMP/img:t" tree:t || bail "push"
IMAGE=$REGISTRY/tree:t

dump()
{
	"$QL" mount "$IMAGE" "$TMP/mnt" &&
		python3 "$LAB/dumptree.py" "$TMP/mnt" &&
		"$QL" umount "$TMP/mnt"
}

# Starts a pull and kills it after so many microseconds; says how that went.
killed_pull()
{
	local pid status
	"$QL" pull "$IMAGE" >/dev/null 2>"$TMP/err" &
	pid=$!
	sleep "$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	status=$?
	[ "$status" = 137 ] && KILLED=$((KILLED + 1))
	[ "$status" = 137 ] || [ "$status" = 0 ]
}

mkdir -p "$TMP/mnt"
start=${EPOCHREALTIME/[.,]/}
ok "a whole pull" "$QL" pull "$IMAGE"
took=$((${EPOCHREALTIME/[.,]/} - start))
note "it takes $((took / 1000)) ms"
dump >"$TMP/want" || fail "dump"

KILLED=0
for ((round = 1; round <= rounds; round++)); do
	rm -rf "$TMP/store"
	trouble=
	times=$((round % 3 ? 1 : 3))
	moments=()
	for ((i = 0; i < times; i++)); do
		moment=$(((RANDOM * 32768 + RANDOM) % took))
		moments+=($((moment / 1000)))
		killed_pull "$moment" ||
			trouble+="pull: $(cat "$TMP/err"); "
		# It may have been too early for there to be a store.
		"$QL" fsck >"$TMP/log" 2>&1 ||
			grep -q "no store is there" "$TMP/log" ||
			trouble+="fsck after the kill: $(cat "$TMP/log"); "
	done
	"$QL" pull "$IMAGE" >"$TMP/log" 2>&1 ||
		trouble+="next pull: $(cat "$TMP/log"); "
	"$QL" fsck >"$TMP/log" 2>&1 || trouble+="fsck: $(cat "$TMP/log"); "
	dump >"$TMP/got" 2>&1 || trouble+="mount; "
	cmp -s "$TMP/want" "$TMP/got" || trouble+="another tree; "
	[ -z "$(find "$TMP/store/partial" -type f -size +0 2>/dev/null)" ] ||
		trouble+="left in partial/; "
	is "$trouble" "" "round $round: killed after ${moments[*]} ms"
done
note "$KILLED pulls were running when they were killed"
[ "$KILLED" -gt 0 ] && pass "some pulls were killed in the act" ||
	fail "no pull was killed in the act"
done_testing
