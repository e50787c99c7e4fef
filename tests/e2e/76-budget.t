#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A budget: while images come, whole and by their reads, from several processes
# that are killed at any moment, the store never takes more of the disk, as the
# filesystem itself says every 10 ms; and nobody is refused while something can
# go for him.
#
#   QL_KILLS   rounds of kills (3)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
rounds=${QL_KILLS:-3}
MIB=$((1 << 20))
BUDGET=$((24 * MIB))
export QUICKLAYER_ROOT=$TMP/disk/store
unset QUICKLAYER_SOCKET

# A filesystem of its own: its own numbers are the proof.
truncate -s 200M "$TMP/disk.img"
mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$TMP/disk.img" \
	2>/dev/null || skip_all "no mkfs.ext4"
mkdir -p "$TMP/disk" "$TMP/m"
mount -o loop "$TMP/disk.img" "$TMP/disk" || skip_all "no loop device"

used_now()
{
	echo $(($(stat -f -c '(%b - %f) * %S' "$TMP/disk")))
}
BASE=$(used_now)
at_base()
{
	[ "$(used_now)" -le "$BASE" ]
}

limits()
{
	"$B/tests/lab/limits" "$QUICKLAYER_ROOT" "$@"
}
# Starts to watch; the folder of the store is not there yet.
watch_begin()
{
	rm -rf "$TMP/disk/store" "$TMP/used"
	sync -f "$TMP/disk"
	wait_for 10 at_base ||
		bail "something is left: $(used_now), not $BASE"
	lab_start watch python3 "$LAB/watch-used.py" "$TMP/disk" "$BASE" \
		"$TMP/used"
	WATCH=$LAB_PID
	wait_for 10 test -s "$TMP/used" || bail "watch"
}
# The most that was used: at most so many bytes.
watch_end()
{
	local most least looks
	lab_end "$WATCH"
	read -r most least looks <"$TMP/used"
	note "at most $((most / 1024)) KiB of $(($1 / 1024)), $looks looks," \
		"$((least / 1024)) KiB free at least"
	[ "$looks" -gt 10 ] && [ "$most" -le "$1" ] && pass "$2" ||
		fail "$2: $most bytes"
}

# ---- bad input ----

"$QL" images >/dev/null 2>&1
fails "a budget that holds nothing" 1 limits 1000000 0
like "$OUT" "budget of 1000000 bytes is too small: at least" "... is named"
fails "a reserve larger than the filesystem" 1 limits 0 "$((1 << 40))"
like "$OUT" "reserve of 1099511627776 bytes is larger than the filesystem" \
	"... is named"
is "$(limits | cut -d' ' -f3)" 0 "... and nothing is set"

# ---- images: a base, and something of its own for each ----

for i in {1..20}; do
	mkdir -p "$TMP/base"
	head -c $((RANDOM * 6 + 1)) /dev/urandom >"$TMP/base/file$i"
done
tar -C "$TMP/base" -cf "$TMP/base.tar" .
for n in {1..9}; do
	mkdir -p "$TMP/own$n"
	for i in {1..30}; do
		head -c $((RANDOM * 8 + 1)) /dev/urandom >"$TMP/own$n/o$n-$i"
	done
	head -c 2500000 /dev/urandom >"$TMP/own$n/large$n"
	tar -C "$TMP/own$n" -cf "$TMP/own$n.tar" .
	make_image "$TMP/oci" "t$n" "$TMP/base.tar:gzip" "$TMP/own$n.tar:gzip" \
		>/dev/null || bail image
done
mkdir "$TMP/big"
head -c 30000000 /dev/urandom >"$TMP/big/one"
tar -C "$TMP/big" -cf "$TMP/big.tar" .
make_image "$TMP/oci" big "$TMP/big.tar" >/dev/null || bail image
start_registry
for n in {1..8}; do
	push_image "oci:$TMP/oci:t$n" "whole$n:t" &&
		"$QL" push -q "oci:$TMP/oci:t$n" "$REGISTRY/lazy$n:t" \
			>/dev/null || bail push
done
push_image "oci:$TMP/oci:t9" whole9:t &&
	push_image "oci:$TMP/oci:big" big:t || bail push

# Reads all of an image by a mount of its own, and compares.
read_all()
{
	local n=$1 m=$TMP/m/$2
	mkdir -p "$m"
	"$QL" mount --no-agent "$REGISTRY/lazy$n:t" "$m" || return
	cmp "$m/large$n" "$TMP/own$n/large$n" && cmp "$m/file7" "$TMP/base/file7"
	local status=$?
	"$QL" umount "$m"
	return $status
}
pull()
{
	"$QL" pull --no-agent -q "$@" >/dev/null
}

# ---- one after another ----

watch_begin
ok "a budget of $BUDGET bytes" limits "$BUDGET" 0
trouble=
for n in 1 2 3 4 5 6 7 8 1 2; do
	pull --full "$REGISTRY/whole$n:t" 2>"$TMP/err" ||
		trouble+="pull $n: $(cat "$TMP/err"); "
done
is "$trouble" "" "all images are pulled whole, one after another"
trouble=
for n in 3 4 5 6 7 8; do
	{ pull "$REGISTRY/lazy$n:t" && read_all "$n" one; } 2>"$TMP/err" ||
		trouble+="read $n: $(cat "$TMP/err"); "
done
is "$trouble" "" "and read as they come"
ok "nothing in the store is wrong" "$QL" fsck
fails "a file larger than the budget" 1 pull "$REGISTRY/big:t"
like "$OUT" "30[0-9]* bytes .*budget of $BUDGET" "... is refused, both named"
ok "what was there goes on" pull --full "$REGISTRY/whole1:t"

# Down and up, while it runs.
ok "a smaller budget" limits "$((16 * MIB))" 0
ok "is obeyed by who comes next" pull --full "$REGISTRY/whole9:t"
read -r _ used _ < <(limits)
[ "$used" -le $((16 * MIB)) ] && pass "room was made" || fail "$used used"
ok "and a larger one" limits "$BUDGET" 0
ok "is used" pull --full "$REGISTRY/whole3:t"
watch_end "$BUDGET" "never more than the budget was used"

# ---- a reserve ----

watch_begin
free=$(($(stat -f -c '%a*%S' "$TMP/disk")))
ok "a reserve that leaves 20 MiB" limits $((150 * MIB)) $((free - 20 * MIB))
trouble=
for n in 1 2 3 4 5 6; do
	pull --full "$REGISTRY/whole$n:t" 2>"$TMP/err" ||
		trouble+="pull $n: $(cat "$TMP/err"); "
done
is "$trouble" "" "all images are pulled"
read -r _ least _ <"$TMP/used"
[ "$least" -ge $((free - 20 * MIB)) ] && pass "and it is left free" ||
	fail "$least of $((free - 20 * MIB)) bytes are free"
watch_end $((20 * MIB)) "never more than 20 MiB were used"
watch_begin
ok "a reserve of more than is free" limits 0 $((free + MIB))
fails "... lets nothing in" 1 pull "$REGISTRY/lazy1:t"
like "$OUT" "no space left in .*reserved" "... and says why"
lab_end "$WATCH"
read -r most _ <"$TMP/used"
[ "$most" -le $((2 * MIB)) ] && pass "and only the catalogue is there" ||
	fail "$most bytes were used"

# ---- all at once, and killed ----

worker()
{
	local r=$1 n
	while :; do
		n=$((RANDOM % 8 + 1))
		if [ $((RANDOM % 2)) = 0 ]; then
			pull --full "$REGISTRY/whole$n:t"
		else
			pull "$REGISTRY/lazy$n:t" && read_all "$n" "$r"
		fi
	done
}
watch_begin
limits "$BUDGET" 0 >/dev/null
for ((round = 1; round <= rounds; round++)); do
	pids=()
	for w in 1 2 3; do
		# A group of its own, so that all of it can be killed.
		setsid bash -c "$(declare -f pull read_all worker)
			export RANDOM; RANDOM=$((round * 10 + w))
			REGISTRY=$REGISTRY TMP=$TMP QL=$QL; worker $w" \
			>"$TMP/worker$w.log" 2>&1 &
		pids+=($!)
		LAB_PIDS+=($!)
	done
	ms=$((RANDOM % 2500 + 500))
	sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
	for pid in "${pids[@]}"; do
		kill -9 -- "-$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
		lab_forget "$pid"
	done
	lab_umount_below "$TMP/m"
	trouble=
	"$QL" fsck >"$TMP/fsck" 2>&1 || trouble="fsck: $(cat "$TMP/fsck"); "
	read -r counted used _ < <(limits)
	# Folders and extents that grow by themselves are the margin's.
	[ "$((counted + MIB))" -ge "$used" ] ||
		trouble+="counted $counted, and there are $used; "
	is "$trouble" "" "round $round: killed after $ms ms"
done
trouble=
for n in 1 2 3 4 5 6 7 8; do
	pull --full "$REGISTRY/whole$n:t" 2>"$TMP/err" ||
		trouble+="pull $n: $(cat "$TMP/err"); "
done
is "$trouble" "" "all images can be pulled after it"
ok "nothing in the store is wrong" "$QL" fsck
watch_end "$BUDGET" "never more than the budget was used"
done_testing
