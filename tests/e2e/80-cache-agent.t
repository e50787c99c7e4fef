#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An agent with a budget: images pulled in turn, what status says, a dry run
# that foretells what gc does, budgets that change, promises, pins that leave
# no room, and images that were only looked at.
# The shell of another namespace expands its own arguments.
# shellcheck disable=SC2012,SC2016
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
QLD=$B/quicklayerd
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
SOCKET=$TMP/store/agent/quicklayerd.sock
MNT=$TMP/store/agent/mnt/images
MIB=1048576

# ---- images: a base of 2 MB, and 6 MB of its own for each ----

start_registry
IMAGES=6
mkdir "$TMP/base"
head -c 2000000 /dev/urandom >"$TMP/base/common"
tar -C "$TMP/base" -cf "$TMP/base.tar" .
for ((i = 1; i <= IMAGES; i++)); do
	mkdir "$TMP/own$i"
	for j in {1..12}; do
		head -c 500000 /dev/urandom >"$TMP/own$i/f$i.$j"
	done
	tar -C "$TMP/own$i" -cf "$TMP/own.tar" . &&
		make_image "$TMP/oci" "t$i" "$TMP/base.tar" "$TMP/own.tar" \
			>/dev/null || bail make_image
	"$QL" push -q "oci:$TMP/oci:t$i" "$REGISTRY/img$i:t" >/dev/null ||
		bail push
done
img()
{
	echo "$REGISTRY/img$1:t"
}

# ---- an agent ----

# configure LINE...: of the mapping cache.
configure()
{
	printf 'root: %s\nread_timeout: 5s\nbackground_rate: 0\n' \
		"$TMP/store" >"$TMP/agent.yaml"
	printf 'cache:\n' >>"$TMP/agent.yaml"
	printf '  %s\n' "$@" >>"$TMP/agent.yaml"
}
start_agent()
{
	lab_start agent "$QLD" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent
}
# reload PATTERN: SIGHUP, until the log says that.
reload()
{
	: >"$TMP/agent.log"
	kill -HUP "$AGENT"
	wait_for 5 grep -q "$1" "$TMP/agent.log"
}
# cache FILTER: of the status that the agent gives.
cache()
{
	"$QL" status --json | jq -r ".cache | $1"
}
on_disk()
{
	du -sx --block-size=1 "$TMP/store" | cut -f1
}
# All of it is here, plain or packed.
whole()
{
	"$QL" status --json "$(img "$1")" 2>/dev/null |
		jq -e '.files == .files_here + .files_packed' >/dev/null
}
same()
{
	timeout 60 diff -r "$TMP/own$1" "$MNT/$(img "$1")/" \
		>"$TMP/diff" 2>&1
	! grep -v '^Only in .*: common$' "$TMP/diff"
}

for text in 0 -1 101% 1MiB plenty; do
	configure "budget: $text"
	fails "a budget of $text" 1 "$QLD" --check-config \
		--config "$TMP/agent.yaml"
	like "$OUT" "agent.yaml:5: cache.budget: bytes, as in 500MiB" \
		"... is named with its line"
done
configure "reserve: 1000TB"
fails "a reserve larger than the disk" 1 "$QLD" --config "$TMP/agent.yaml"
like "$OUT" "reserve" "... is named"

BUDGET=$((26 * MIB))
configure "budget: 26MiB" "reserve: 9MiB"
start_agent && pass "an agent with a budget" ||
	bail "no agent: $(cat "$TMP/agent.log")"
is "$(cache '[.budget, .reserve, .evictions, .refused, .last_refusal] | @json')" \
	"[$BUDGET,9437184,0,0,null]" "status says which, and that nothing went"

# ---- more than it has room for ----

over=0
for i in 1 2 3 4 5 6; do
	ok "image $i is pulled" "$QL" pull -q --full "$(img $i)"
	whole $i || fail "image $i is not whole"
	disk=$(on_disk)
	used=$(cache .used)
	[ "$used" -le "$BUDGET" ] && [ "$disk" -le "$BUDGET" ] || over=1
	# But for a folder or two that were made since it was counted.
	[ "$disk" -le $((used + 65536)) ] || over=2
done
is "$over" 0 "the budget holds all the time, and what is used is not more" ||
	note "used $used, on disk $disk"
[ "$(cache .evictions)" -gt 0 ] && pass "something was evicted" ||
	fail "nothing was evicted"
is "$(cache '.refused, .last_refusal' | xargs)" "0 null" "nobody was refused"
ok "the newest is right" same 6
ok "nothing in the store is wrong" "$QL" fsck
gone=
for i in 1 2 3 4 5; do
	whole $i || gone="$gone $i"
done
[ -n "$gone" ] && pass "images$gone are not whole now" ||
	fail "all are whole"
first=${gone:1:1}
ok "one that went comes again" "$QL" pull -q --full "$(img "$first")"
ok "... and is right" same "$first"
is "$(curl -s --unix-socket "$SOCKET" http://agent/v1/status |
	jq -c '.cache.held | keys')" \
	'["in_flight","mounted","pinned","promised"]' "the API says the same"
like "$("$QL" status)" \
	"MB of a budget of 27 MB are used .*layers were evicted so far" \
	"status says it to people"

# ---- what would go ----

# Nothing goes on any more, nor has somebody to go on.
calm()
{
	local was
	was=$(cache '[.used, .evictions] | @json')
	sleep 1.2
	[ "$(cache '[.used, .evictions] | @json')" = "$was" ]
}
for i in 1 2 3; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || bail "pull $i"
done
wait_for 1 calm || note "it is not calm"
"$QL" gc --dry-run --json --free 7MB >"$TMP/plan.json" ||
	fail "gc --dry-run --json"
layers()
{
	jq -r '.steps[] | select(.what == "drop") | .layer // .image' \
		"$TMP/plan.json" | sort
}
before=$(cache .used)
[ -n "$(layers)" ] && pass "a dry run names layers" || fail "no layers"
is "$(jq -e '[.steps[] | select(.what == "drop")] |
	all(.bytes > 0 and (.why | length) > 0 and .again_bytes > 0 and
	.again_seconds > 0)' "$TMP/plan.json")" true \
	"... and why, bytes, and what it costs to have them again"
is "$(cache .used)" "$before" "... and takes nothing away"
like "$("$QL" gc --dry-run --free 7MB)" \
	"WHAT .*AGAIN .*drop .*steps would free" "... or prints a table"
store_layers()
{
	"$QL" images --json | jq -r '.[].layers[]' | sort -u
}
here()
{
	for i in 1 2 3 4 5 6; do
		whole $i && echo $i
	done
}
was=$(here)
ok "gc" "$QL" gc --json --free 7MB
freed=$((before - $(cache .used)))
[ "$freed" -ge 7000000 ] && pass "it frees what was asked for" ||
	fail "it freed $freed"
planned=$(jq .evicted.bytes "$TMP/plan.json")
[ $((freed - planned)) -lt 1000000 ] && [ $((planned - freed)) -lt 1000000 ] &&
	pass "... as much as the dry run said" ||
	fail "planned $planned, freed $freed"
# Which images lost something: those of the layers that were named.
lost=$(comm -23 <(echo "$was" | sort) <(here | sort) | xargs)
named=$(jq -r '.steps[].images[]' "$TMP/plan.json" |
	sed -n 's,.*/img\([0-9]\):t$,\1,p' | sort -u | xargs)
for i in $lost; do
	[[ " $named " == *" $i "* ]] || fail "image $i went, $named were named"
done
[ -n "$lost" ] && pass "what went is what was named" || fail "nothing went"
ok "nothing in the store is wrong" "$QL" fsck

# ---- budgets that change ----

at_most()
{
	[ "$(cache .used)" -le "$1" ]
}
for i in 1 2 3; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || bail pull
done
configure "budget: 16MiB"
reload "configuration read again"
ok "a lower budget is reached by itself" wait_for 10 at_most $((16 * MIB))
is "$(cache .budget)" $((16 * MIB)) "... and shown"
for text in 101% 4MiB; do
	configure "budget: $text"
	reload "configuration is as before"
	is "$(cache .budget)" $((16 * MIB)) "one of $text changes nothing"
done
configure "budget: none"
reload "configuration read again"
is "$(cache .budget)" null "none takes it away"
for i in 1 2 3 4; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || bail pull
done
is "$(here | head -4 | xargs)" "1 2 3 4" "... and all stays"

# ---- promises ----

ok "pin --for" "$QL" pin --for 2h "$(img 1)"
until=$("$QL" status --json "$(img 1)" | jq .promised)
[ $((until - $(date +%s))) -gt 7000 ] && [ $((until - $(date +%s))) -le 7201 ] &&
	pass "... lasts so long" || fail "until $until"
like "$("$QL" images)" "img1:t .*promised" "images shows it"
fails "gc of all there is" 1 "$QL" gc --free 1TB
like "$OUT" "promised" "... says what is in the way"
ok "the promised one is whole" whole 1
is "$(here | xargs)" 1 "... it alone"
[ "$(cache .held.promised)" -gt 6000000 ] &&
	pass "status counts what is promised" ||
	fail "promised: $(cache .held.promised)"
ok "a promise does not keep it from rmi" "$QL" rmi "$(img 1)"
"$QL" pull -q --full "$(img 1)" >/dev/null
"$QL" pin --for 1h "$(img 1)"
ok "unpin ends a promise" "$QL" unpin "$(img 1)"
is "$("$QL" status --json "$(img 1)" | jq .promised)" 0 "... at once"
"$QL" pin --for 1s "$(img 1)"
sleep 2
"$QL" gc --free 1TB >/dev/null 2>&1
whole 1 && fail "a promise that ended holds" ||
	pass "a promise that has ended holds nothing"
for time in 0 1x 31d ''; do
	fails "pin --for '$time'" 2 "$QL" pin --for "$time" "$(img 1)"
done

# ---- all of it pinned ----

# Without a budget they come plain.
"$QL" gc --free 1TB >/dev/null 2>&1
for i in 1 2 3; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || bail "pull $i"
	"$QL" pin "$(img $i)" || bail pin
done
configure "budget: 22MiB"
reload "configuration read again"
fails "a pull that has no room" 1 timeout 60 "$QL" pull -q --full "$(img 4)"
like "$OUT" "pinned" "... says what is in the way"
[ "$(cache .refused)" -gt 0 ] && pass "status counts it" ||
	fail "not counted"
like "$(cache .last_refusal.why)" "pinned" "... and says why"
like "$("$QL" status)" "there was no room .*pinned" "... to people, too"
[ "$(cache .held.pinned)" -gt 19000000 ] &&
	pass "status counts what is pinned" ||
	fail "pinned: $(cache .held.pinned)"
ok "who reads what is here goes on" same 1
at_most $((22 * MIB)) && pass "the budget holds" || fail "used $(cache .used)"
configure "budget: 12MiB"
reload "configuration read again"
sleep 1
is "$(here | head -3 | xargs)" "1 2 3" \
	"a budget below what is pinned takes nothing of it"
[ "$(cache .used)" -gt $((12 * MIB)) ] &&
	like "$(cache .last_refusal.why)" "pinned" "... which status says"
for i in 1 2 3; do
	"$QL" unpin "$(img $i)"
done
ok "without pins it is reached" wait_for 70 at_most $((12 * MIB))
configure "budget: 26MiB"
reload "configuration read again"

# ---- a pull alone fails, and no reader ----

configure "budget: none"
reload "configuration read again"
"$QL" gc --free 1TB >/dev/null 2>&1
for i in 1 2; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || bail "pull $i"
	"$QL" pin "$(img $i)"
done
"$QL" pull -q "$(img 5)" >/dev/null || bail "lazy pull"
configure "budget: $(($(cache .used) / 1024 + 1000))KiB"
reload "configuration read again"
sleep 1
refused=$(cache .refused) budget=$(cache .budget)
ok "who reads what has no room gets it, not kept" same 5
whole 5 && fail "... it is kept" || pass "... it is not kept"
[ "$(cache .refused)" -gt "$refused" ] && pass "... status counts it" ||
	fail "$(cache .refused) refused, as before"
like "$(cache .last_refusal.why)" "pinned" "... and says why"
at_most "$budget" && pass "... the budget holds" ||
	fail "used $(cache .used) of $budget"
ok "... again" same 5
fails "who pulls it fails" 1 timeout 60 "$QL" pull -q --full "$(img 5)"
like "$OUT" "pinned" "... and is told what is in the way"
ok "... others go on" same 1
ok "... also the other" same 2
configure "budget: 26MiB"
reload "configuration read again"
ok "with room, all of it comes" same 5
for i in 1 2; do
	"$QL" unpin "$(img $i)"
done

# ---- looked at, and no longer used ----

"$QL" pull -q --full "$(img 1)" >/dev/null
ls -R "$MNT/$(img 1)/" >/dev/null
cat "$MNT/$(img 1)/f1.1" >/dev/null
sleep 0.5
"$QL" gc --free 1TB >/dev/null 2>&1
whole 1 && fail "it keeps the image" ||
	pass "to look at an image does not keep it"
"$QL" pull -q --full "$(img 1)" >/dev/null
exec 7<"$MNT/$(img 1)/f1.1"
"$QL" gc --free 1TB >/dev/null 2>&1
ok "an open file does" whole 1
[ "$(cache .held.mounted)" -gt 7000000 ] &&
	pass "... status counts it as in use" ||
	fail "in use: $(cache .held.mounted)"
exec 7<&-
(
	cd "$MNT/$(img 1)/" && "$QL" gc --free 1TB >/dev/null 2>&1
	pwd -P >"$TMP/pwd"
	whole 1
) && pass "a working folder does" || fail "a working folder does not"
like "$(cat "$TMP/pwd")" "by-digest/sha256" "... and is where it was"
mkdir "$TMP/m"
"$QL" mount "$(img 1)" "$TMP/m"
"$QL" gc --free 1TB >/dev/null 2>&1
ok "a mount does" whole 1
"$QL" umount "$TMP/m"
unshare --mount --propagation private sh -c 'mount --bind "$1" "$2" &&
	echo mounted && exec sleep 60' sh "$MNT/$(img 1)/" "$TMP/m" \
	>"$TMP/bound" &
bound=$!
LAB_PIDS+=("$bound")
wait_for 5 grep -q mounted "$TMP/bound"
"$QL" gc --free 1TB >/dev/null 2>&1
ok "a mount that only others see does" whole 1
lab_end "$bound"
sleep 0.5
"$QL" gc --free 1TB >/dev/null 2>&1
whole 1 && fail "it is kept when all of that is over" ||
	pass "when all of that is over it goes"

# ---- without an agent ----

lab_end "$AGENT"
lab_umount_below "$TMP/store"
for text in 0 -1 101% 1MiB x; do
	fails "gc --budget=$text" 2 "$QL" gc "--budget=$text"
done
fails "gc --reserve=x" 2 "$QL" gc --reserve=x
fails "gc --free 0" 2 "$QL" gc --free 0
ok "gc --budget" "$QL" gc --budget 30MiB --reserve 10MiB
is "$(cache '[.budget, .reserve] | @json')" "[31457280,10485760]" \
	"is kept in the store"
ok "gc --dry-run --budget" "$QL" gc --dry-run --budget 10MiB
is "$(cache .budget)" 31457280 "... sets nothing"
for i in 1 2 3 4 5 6; do
	"$QL" pull -q --full "$(img $i)" >/dev/null || fail "pull $i"
	[ "$(on_disk)" -le 31457280 ] || fail "more than the budget"
done
pass "pulls without an agent keep to it"
printf 'root: %s\n' "$TMP/store" >"$TMP/agent.yaml"
start_agent || bail agent
is "$(cache .budget)" 31457280 "an agent that names none keeps to it"
lab_end "$AGENT"
lab_umount_below "$TMP/store"
configure "budget: 20MiB"
start_agent || bail agent
is "$(cache .budget)" $((20 * MIB)) "one that names another sets it"
ok "... and goes down to it" wait_for 10 at_most $((20 * MIB))
lab_end "$AGENT"
lab_umount_below "$TMP/store"

# What a killed pull has left goes at the next start.
mkdir -p "$TMP/store/objects/aa"
head -c 300000 /dev/urandom >"$TMP/junk"
sum=$(sha256sum <"$TMP/junk" | cut -c1-64)
mkdir -p "$TMP/store/objects/${sum:0:2}"
cp "$TMP/junk" "$TMP/store/objects/${sum:0:2}/${sum:2}"
"$QL" gc --dry-run >"$TMP/out"
like "$(cat "$TMP/out")" "objects/${sum:0:2}/${sum:2}" \
	"gc --dry-run names what nothing needs"
[ -e "$TMP/store/objects/${sum:0:2}/${sum:2}" ] || fail "it is gone"
start_agent || bail agent
[ -e "$TMP/store/objects/${sum:0:2}/${sum:2}" ] && fail "an agent leaves it" ||
	pass "an agent removes it at its start"
lab_end "$AGENT"
lab_umount_below "$TMP/store"
ok "nothing in the store is wrong" "$QL" fsck
done_testing
