#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Eviction that is killed at any moment, whoever makes room and for what:
# nothing that is referenced is gone, after the next start nothing is left that
# is not, and the account is what is on the disk.
#
#   QL_KILLS   rounds (6: one of each kind)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
rounds=${QL_KILLS:-6}
MIB=1048576
PLENTY=$((200 * MIB))
mkdir -p "$TMP/m" "$TMP/live"

# ---- images: a base, and files of its own for each ----

# 1, 2, 3: their parts can come one by one.  4, 5: whole layers.  6: as 1, and
# nothing of it is here.
IMAGES=(1 2 3 4 5 6)
python3 - "$TMP" "${IMAGES[@]}" <<-'PY' || bail "files"
	import os, random, sys
	root = sys.argv[1]
	for name in ["base"] + ["own" + i for i in sys.argv[2:]]:
	    r = random.Random("78 " + name)
	    words = [r.randbytes(5).hex() for i in range(2000)]
	    for i in range(50):
	        d = "%s/%s/%s/d%d" % (root, name, name, i % 7)
	        os.makedirs(d, exist_ok=True)
	        n = r.choice([10, 100, 3000, 20000, 60000])
	        if i == 0:
	            n = 1500000
	        data = " ".join(r.choice(words) for k in range(n // 11)).encode()
	        with open("%s/f%d" % (d, i), "wb") as f:
	            f.write(data if i % 3 else r.randbytes(n))
PY
start_registry
img()
{
	echo "$REGISTRY/img$1:t"
}
tar -C "$TMP/base" -cf "$TMP/base.tar" . || bail tar
for i in "${IMAGES[@]}"; do
	tar -C "$TMP/own$i" -cf "$TMP/own$i.tar" . &&
		make_image "$TMP/oci" "t$i" "$TMP/base.tar:gzip" \
			"$TMP/own$i.tar:gzip" >/dev/null || bail "image"
	mkdir "$TMP/want$i"
	cp -a "$TMP/base/." "$TMP/own$i/." "$TMP/want$i/"
	case $i in
	4 | 5) push_image "oci:$TMP/oci:t$i" "img$i:t" || bail "push" ;;
	*)
		"$QL" push -q --format zstd:chunked "oci:$TMP/oci:t$i" \
			"$(img "$i")" >/dev/null || bail "push"
		;;
	esac
done

# limits [BUDGET]: what is counted, what there is, and the budget.
limits()
{
	"$B/tests/lab/limits" "$QUICKLAYER_ROOT" ${1:+"$1" 0}
}
pull()
{
	"$QL" pull --no-agent -q "$@" >/dev/null
}
# same IMAGE: a mount of it shows what it was made of.
same()
{
	local status
	"$QL" mount --no-agent "$(img "$1")" "$TMP/m" || return
	diff -r "$TMP/m" "$TMP/want$1"
	status=$?
	"$QL" umount "$TMP/m" && return "$status"
}
# All files of the store that stand for something, by name.
files()
{
	(cd "$QUICKLAYER_ROOT" &&
		find objects images layers packed -type f | sort)
}
# whole IMAGE: all of it, plain, and packed where it can be.
whole()
{
	pull --full "$(img "$1")" && same "$1"
}

# What each has by itself: nothing else is to be there for it.
for i in "${IMAGES[@]}"; do
	QUICKLAYER_ROOT=$TMP/alone
	limits $PLENTY >/dev/null && whole "$i" && files >"$TMP/files$i" ||
		bail "image $i"
	rm -rf "$TMP/alone"
done
# Of 1 to 4 all is here, of 6 nothing but its tables.
QUICKLAYER_ROOT=$TMP/start
limits $PLENTY >/dev/null || bail "limits"
for i in 1 2 3 4; do
	whole $i || bail "image $i"
done
pull "$(img 6)" && "$QL" pin "$(img 1)" >/dev/null || bail "start"
read -r _ USED _ < <(limits)
QUICKLAYER_ROOT=$TMP/store
note "all of it takes $USED bytes"

# ---- who makes room ----

# Each starts what is to be killed, by its own $PIDS.
kind_free()
{
	"$QL" gc --no-agent --free $((4 * MIB)) --budget 200MiB \
		>/dev/null 2>&1 &
	PIDS=($!)
}
# As much as can go without that anything would have to come again.
kind_demote()
{
	"$QL" gc --no-agent --free $((2 * MIB)) >/dev/null 2>&1 &
	PIDS=($!)
}
# A pull that needs the room of others.
kind_pull()
{
	"$QL" pull --no-agent -q --full "$(img 5)" >/dev/null 2>&1 &
	PIDS=($!)
}
# Who reads what has not come yet.
kind_read()
{
	"$QL" mount --no-agent --foreground "$(img 6)" "$TMP/live" \
		>/dev/null 2>&1 &
	PIDS=($!)
	LAB_PIDS+=("$!")
	wait_for 10 test -d "$TMP/live/own6"
	find "$TMP/live" -type f -exec cat {} + >/dev/null 2>&1 &
	READER=$!
}
# Two of them, and one that makes room for nothing.
kind_two()
{
	"$QL" pull --no-agent -q --full "$(img 5)" >/dev/null 2>&1 &
	PIDS=($!)
	"$QL" pull --no-agent -q --full "$(img 6)" >/dev/null 2>&1 &
	PIDS+=($!)
	"$QL" gc --no-agent --free $((2 * MIB)) >/dev/null 2>&1 &
	PIDS+=($!)
}
kind_agent()
{
	printf 'root: %s\ncache:\n  budget: 200MiB\n' "$TMP/store" \
		>"$TMP/agent.yaml"
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	PIDS=("$LAB_PID")
	lab_ready agent || bail "agent"
	printf 'root: %s\ncache:\n  budget: %d\n' "$TMP/store" \
		$((USED - 3 * MIB)) >"$TMP/agent.yaml"
	kill -HUP "$LAB_PID"
}

# ---- what there is after it ----

# Words on what is there beyond what the images need that are.
beyond()
{
	local i
	"$QL" images --json 2>/dev/null | jq -r '.[].name' |
		sed -n 's,.*/img\([0-9]\):t$,\1,p' >"$TMP/images"
	while read -r i; do
		cat "$TMP/files$i"
	done <"$TMP/images" | sort -u >"$TMP/needed"
	files | comm -13 "$TMP/needed" - | head -5 | xargs
}
# The account: exactly, once it was counted; before that, but for so many bytes
# (folders that grew are found by the walk alone).
account()
{
	local counted used disk
	read -r counted used _ < <(limits)
	disk=$(du -sx --block-size=1 "$TMP/store" | cut -f1)
	[ "$used" = "$disk" ] || echo "counted $used, du says $disk;"
	# More may be counted for one that was killed, and never less.
	[ "$counted" -ge $((used - $1)) ] ||
		echo "it said $counted, and there are $used;"
	[ "$2" = more ] || [ "$counted" -le $((used + $1)) ] ||
		echo "it said $counted, and there are but $used;"
}
here()
{
	"$QL" status --json "$(img "$1")" |
		jq -e '.files > 0 and .files == .files_here + .files_packed' \
			>/dev/null
}
sound()
{
	"$QL" fsck >"$TMP/log" 2>&1 || echo "fsck $1: $(cat "$TMP/log");"
}

check() # KIND
{
	local i left
	account 65536 more
	sound "after the kill"
	here 1 || echo "something of the pinned image is gone;"
	# Eviction leaves nothing behind; a pull may, until gc.
	case $1 in
	free | demote | agent)
		left=$(beyond)
		[ -z "$left" ] || echo "left at the next start: $left;"
		;;
	esac
	"$QL" gc --no-agent >"$TMP/log" 2>&1 || echo "gc: $(cat "$TMP/log");"
	left=$(beyond)
	[ -z "$left" ] || echo "left after gc: $left;"
	[ -z "$(find "$TMP/store/partial" -name '*.cfs' -o -name '*.toc')" ] ||
		echo "unfinished files are left;"
	sound "after gc"
	# But for folders that grew since it was counted.
	account 65536 exactly
	limits $PLENTY >/dev/null
	for i in "${IMAGES[@]}"; do
		pull "$(img "$i")" 2>"$TMP/log" || echo "pull $i: $(cat "$TMP/log");"
		same "$i" >"$TMP/log" 2>&1 || echo "image $i: $(head -5 "$TMP/log");"
	done
	sound "at the end"
}

# ---- kills ----

KINDS=(free demote pull read two agent)
# How long it may take until one is killed, ms: as long as they take here.
declare -A WITHIN KILLED TRIED
for kind in "${KINDS[@]}"; do
	WITHIN[$kind]=300 KILLED[$kind]=0 TRIED[$kind]=0
done
for ((round = 1; round <= rounds; round++)); do
	kind=${KINDS[round % ${#KINDS[@]}]}
	rm -rf "$TMP/store"
	cp -a "$TMP/start" "$TMP/store"
	READER=
	case $kind in
	pull | read | two) limits $((USED + 3 * MIB / 2)) >/dev/null ;;
	esac
	"kind_$kind"
	us=$(((RANDOM << 15 | RANDOM) % (${WITHIN[$kind]} * 1000)))
	sleep "$(printf '0.%06d' "$us")"
	running=0
	for pid in "${PIDS[@]}"; do
		kill -9 "$pid" 2>/dev/null
	done
	for pid in "${PIDS[@]}" $READER; do
		wait "$pid" 2>/dev/null
		[ $? = 137 ] && running=$((running + 1))
		lab_forget "$pid"
	done
	lab_umount_below "$TMP/store"
	lab_umount_below "$TMP"
	# An agent and a mount run on when they have done it.
	case $kind in
	agent)
		read -r _ used _ < <(limits)
		[ "$used" -gt $((USED - 3 * MIB)) ] || running=0
		;;
	read) here 6 && running=0 ;;
	esac
	if [ $running -gt 0 ]; then
		KILLED[$kind]=$((KILLED[$kind] + 1))
		WITHIN[$kind]=$((WITHIN[$kind] * 5 / 4))
	else
		WITHIN[$kind]=$((WITHIN[$kind] * 3 / 4 + 1))
	fi
	[ "${WITHIN[$kind]}" -lt 900 ] || WITHIN[$kind]=900
	TRIED[$kind]=$((TRIED[$kind] + 1))
	is "$(check "$kind" 2>&1 | xargs -0)" "" \
		"round $round: $kind killed after $((us / 1000)) ms"
done
sum=0
for kind in "${KINDS[@]}"; do
	note "$kind: ${KILLED[$kind]} of ${TRIED[$kind]} were killed in the act"
	sum=$((sum + KILLED[$kind]))
done
[ "$sum" -gt 0 ] && pass "some were killed in the act" ||
	fail "none was killed in the act"
done_testing
