#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Cache policies over generated traces (mktrace.py: 12 of different skew, drift
# and sharing, with seeds of their own) at budgets of 2 to 40 % of all layers.
# Every trace is replayed twice: with the registry alone, where all bytes cost
# the same, and with peers that are four times as fast and have a third of the
# layers, which is where time saved is taken from.
#
#   SEED    of the first trace (101)    PULLS   a trace (15000)
#   RESULTS keeps each cell's figures (cells.tsv below $B)
. "$(dirname "$0")/lib.sh"

SEED=${SEED:-101}
PULLS=${PULLS:-15000}
RESULTS=${RESULTS:-$B/bench-cache}
[ -x "$QL" ] || bail "$QL is not built"
mkdir -p "$RESULTS"

PARTS=ours-nofamily,ours-nostack,ours-nocost,ours-noghosts

# run NAME LINKS TRACE: a line for each cell: links, trace, budget, policy, ...
run()
{
	"$QL" cachesim "$3" --policy "all,$PARTS" --bandwidth "$2" --json \
		--plot "$RESULTS/$1.svg" >"$TMP/out.json" ||
		bail "cachesim failed"
	jq -r --arg name "$1" --arg links "$2" '.results | to_entries[] |
		[$links, $name, (.key % 5), .value.policy,
		 .value.byte_hit_ratio, .value.object_hit_ratio,
		 .value.saved_seconds, .value.registry_bytes,
		 .value.evictions, .value.decision_ns] | @tsv' \
		"$TMP/out.json"
}

seed=$SEED
: >"$RESULTS/cells.tsv"
for skew in 0.7 0.9 1.1; do
	for change in "0 20" "0.05 5"; do
		for sharing in 0.5 0.9; do
			read -r drift update <<<"$change"
			name="skew$skew-drift$drift-update$update-share$sharing"
			"$LAB/mktrace.py" --seed "$seed" --pulls "$PULLS" \
				--skew "$skew" --drift "$drift" --update \
				"$update" --sharing "$sharing" >"$TMP/trace" ||
				bail "mktrace.py failed"
			run "$name" 100 "$TMP/trace" >>"$RESULTS/cells.tsv"
			run "$name-peers" 100,400,33% "$TMP/trace" \
				>>"$RESULTS/cells.tsv"
			note "$name"
			seed=$((seed + 1))
		done
	done
done

# 100,000 layers tracked, a pull of 8 each time.
awk 'BEGIN {
	srand(7)
	for (p = 0; p < 100000; p++) {
		r = int(20000 * rand() ^ 2)
		t = sprintf("2017-06-%02dT%02d:%02d:%02d.000Z", 1 + p / 4000,
			p / 200 % 20, p / 4 % 50, p % 4 * 10)
		f = "{\"timestamp\":\"%s\",\"http.request.method\":\"GET\"," \
		    "\"http.request.remoteaddr\":\"c\"," \
		    "\"http.request.uri\":\"v2/r%d/%s\"," \
		    "\"http.response.written\":%d}\n"
		printf f, t, r, "manifests/1", 500
		for (l = 0; l < 8; l++)
			printf f, t, r, "blobs/" r "-" l, 1000
	}
}' >"$TMP/large"
"$QL" cachesim "$TMP/large" --policy ours --budget 60%,100% --json \
	>"$TMP/large.json" || bail "cachesim failed"

"$LAB/cachebars.py" "$RESULTS/cells.tsv" "$TMP/large.json"
