#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Replaying traces of pulls: what a generated one gives, in a table, as JSON
# and as a picture; traces that are broken, out of order, an array, from a
# pipe; and memory that does not grow with a trace's length.
. "$(dirname "$0")/../lab/lib.sh"

MKTRACE=$LAB/mktrace.py
"$MKTRACE" --seed 5 --pulls 1500 --repositories 60 >"$TMP/trace" ||
	bail "mktrace.py failed"

# ---- one trace, all policies ----

ok "a trace is replayed" "$QL" cachesim "$TMP/trace" --json --plot "$TMP/p.svg"
"$QL" cachesim "$TMP/trace" --json >"$TMP/all.json"
is "$(jq '.results | length' "$TMP/all.json")" 45 "nine policies, five budgets"
is "$(jq '.trace.broken + .trace.late' "$TMP/all.json")" 0 "no line is broken"
is "$(jq '.trace.pulls' "$TMP/all.json")" 1500 "every pull is one"
is "$(jq '[.results | group_by(.budget)[] |
	(map(select(.policy == "belady"))[0].byte_hit_ratio) as $bound |
	map(select(.byte_hit_ratio > $bound + 1e-9)) | length] | add' \
	"$TMP/all.json")" 0 "no policy is above the clairvoyant bound"
is "$(jq '[.results | group_by(.policy)[] | sort_by(.budget) |
	select(.[0].byte_hit_ratio > .[4].byte_hit_ratio)] | length' \
	"$TMP/all.json")" 0 "twenty times the budget is never worse"
is "$(jq '[.results[] | select(.registry_bytes + .hit_bytes != .bytes)] |
	length' "$TMP/all.json")" 0 "what is no hit comes from the registry"
ok "the picture is XML" python3 -c \
	'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$TMP/p.svg"
is "$("$MKTRACE" --seed 5 --pulls 1500 --repositories 60 | cmp - "$TMP/trace" \
	&& echo same)" same "the same seed makes the same trace"

like "$("$QL" cachesim "$TMP/trace" --policy ours --budget 500MiB)" \
	"ours +524 MB +[0-9.]+% +[0-9.]+% " "the table"

"$QL" cachesim "$TMP/trace" --policy lru --budget 10% --json \
	--bandwidth 100,400,100% >"$TMP/peers.json"
is "$(jq '.results[0].registry_bytes' "$TMP/peers.json")" 0 \
	"where peers have it all, nothing comes from the registry"

# ---- the same trace otherwise ----

results()
{
	"$QL" cachesim "$@" --policy ours,lru --budget 5% --json 2>"$TMP/err" |
		jq -c '[.results[] | [.hits, .hit_bytes, .evictions]]'
}

want=$(results "$TMP/trace")
is "$(results - <"$TMP/trace")" "$want" "from standard input"
{
	echo "["
	sed '$!s/$/,/' "$TMP/trace"
	echo "]"
} >"$TMP/array"
is "$(results "$TMP/array")" "$want" "as an array"
awk 'NR % 40 == 0 { print "{\"timestamp\": \"2017-06" } { print }
	NR % 77 == 0 { print "not JSON" }' "$TMP/trace" >"$TMP/broken"
is "$(results "$TMP/broken")" "$want" "with broken lines between"
like "$(cat "$TMP/err")" "[0-9]+ broken lines were skipped" "... counted"
like "$(cat "$TMP/err")" "line 40: " "... and named"
awk '{ line[NR % 50] = $0; if (NR % 50 == 0) {
	for (i = 49; i >= 0; i--) print line[i] } }
	END { for (i = NR % 50; i > 0; i--) print line[i] }' \
	"$TMP/trace" >"$TMP/shuffled"
is "$(wc -l <"$TMP/shuffled")" "$(wc -l <"$TMP/trace")" "(shuffled by fifties)"
"$QL" cachesim "$TMP/shuffled" --policy lru --budget 5% --json >"$TMP/s.json"
is "$(jq '.trace.late, .trace.broken' "$TMP/s.json" | xargs)" "0 0" \
	"out of order by less than the window, none is late"

# ---- wrong words ----

fails "an unknown policy" 1 "$QL" cachesim "$TMP/trace" --policy fifo
like "$OUT" "cachesim: --policy fifo: no such policy" "... is named"
for budget in "" x -5 5x 1e30; do
	fails "a budget of '$budget'" 1 "$QL" cachesim "$TMP/trace" \
		--budget "$budget"
	like "$OUT" "cachesim: --budget $budget: bytes" "... is told"
done
fails "no bandwidth" 1 "$QL" cachesim "$TMP/trace" --bandwidth 0
fails "no trace" 1 "$QL" cachesim "$TMP/none"
like "$OUT" "cachesim: $TMP/none: No such file" "... is named"
is "$("$QL" cachesim "$TMP/trace" --policy all --budget 0 --json |
	jq '[.results[] | .hits + .evictions] | add')" 0 "a budget of 0 keeps nothing"
: >"$TMP/empty"
is "$("$QL" cachesim "$TMP/empty" --policy all --json | jq '.trace.lines')" 0 \
	"an empty trace"

# ---- memory ----

peak()
{
	/usr/bin/env python3 - "$@" <<'PY'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=open(0), stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
PY
}
for _ in {1..20}; do cat "$TMP/trace"; done >"$TMP/long"
one=$(peak "$QL" cachesim "$TMP/trace" --policy ours)
twenty=$(peak "$QL" cachesim "$TMP/long" --policy ours)
note "$one MB for a trace, $twenty MB for one twenty times as long"
ok "memory is not by a trace's length" test "$twenty" -le $((one + 4))

done_testing
