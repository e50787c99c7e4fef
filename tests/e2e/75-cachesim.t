#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Replaying traces of pulls: what a generated one gives, in a table, as JSON
# and as a picture; traces that are broken, out of order, an array, from a
# pipe; an access log of a node, a pull's layers at once; and memory that does
# not grow with a trace's length.
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

# ---- an access log of ours ----

# digest N: of a layer or an image.
digest()
{
	printf 'sha256:%02x%062d' "$1" 0
}

# own REPOSITORY LAYER...: a pull of layers of 400 bytes, 100 to fetch.
own()
{
	local repository=$1 n below="" line
	shift
	line="{\"time\": \"2026-11-24T18:00:00.123Z\", \"repository\": \"$repository\""
	echo "$line, \"image\": \"$(digest 255)\"}"
	for n; do
		echo "$line, \"layer\": \"$(digest "$n")\"$below," \
			"\"size\": 400, \"bytes\": 100, \"hit\": false}"
		below=", \"parent\": \"$(digest "$n")\""
	done
}

# counts FILE BUDGET POLICY: requests, hits, bytes of them, evictions.
counts()
{
	"$QL" cachesim "$1" --policy "$3" --budget "$2" --json |
		jq -c '.results[0] | [.requests, .hits, .hit_bytes,
			.registry_bytes, .evictions]'
}

{
	echo '{"quicklayer_access_log": 1}'
	own r/a 1 2
	own r/b 1 3
	echo '{"quicklayer_access_log": 1}' # of a log that was rotated
	own r/a 1 2
} >"$TMP/own"
is "$("$QL" cachesim "$TMP/own" --policy lru --budget 1200 --json |
	jq -c '.trace | [.pulls, .requests, .broken, .other]')" "[3,6,0,2]" \
	"a node's own log is read"
# Space is by size, traffic by what a fetch takes.
is "$(counts "$TMP/own" 1200 lru)" "[6,3,300,300,0]" \
	"... space in bytes of disk, traffic in bytes of fetching"
is "$(counts "$TMP/own" 1199 lru)" "[6,2,200,400,2]" "... a byte less is less"
# 2 is asked for more often than 1, but stands on it, and goes for 4, which has
# been asked for least but is in use then.
{
	echo '{"quicklayer_access_log": 1}'
	own r/a 1 2
	for _ in 1 2 3; do own r/b 2; done
	own r/c 4
	own r/b 2
} >"$TMP/stack"
is "$(counts "$TMP/stack" 800 ours)" "[7,3,300,400,2]" \
	"... what stands on what"
# r/a does without 1, which it had more often than r/b has 3.
{
	echo '{"quicklayer_access_log": 1}'
	own r/a 1
	for _ in 1 2 3; do
		own r/a 1
		own r/b 3
	done
	for _ in 1 2 3; do own r/a 2; done
	own r/c 4
	own r/b 3
} >"$TMP/family"
is "$(counts "$TMP/family" 1200 ours)" "[12,8,800,400,1]" \
	"... and whose it is"
sed 2,4d "$TMP/own" | sed 1s/1/2/ >"$TMP/later"
like "$("$QL" cachesim "$TMP/later" --policy lru --budget 1200 2>&1)" \
	"an access log of another version" "one of a later version is not"

# A pull's layers are in use until it is over: what comes with it does not go
# for it, even where its layers alone are more than fits.
{
	echo '{"quicklayer_access_log": 1}'
	own r/a 1 2 3
	own r/a 1 2 3
} >"$TMP/held"
is "$(counts "$TMP/held" 1199 lru)" "[6,2,200,400,2]" \
	"a pull's layers are held until the next"
# The same as a registry's trace, layer by layer, loses all of them.
{
	for pull in 1 2; do
		for n in 1 2 3; do
			printf '{"timestamp": "2017-06-20T00:0%d:0%dZ", ' \
				"$pull" "$n"
			printf '"http.request.method": "GET", '
			printf '"http.request.uri": "v2/r/a/blobs/%d", ' "$n"
			printf '"http.response.written": 400}\n'
		done
	done
} >"$TMP/one-by-one"
is "$(counts "$TMP/one-by-one" 1199 lru)" "[6,0,0,2400,4]" \
	"... and one by one in a registry's trace"

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
