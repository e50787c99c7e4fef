#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-cooperate.sh's part "sequence"; sourced there.  The images of
# tools/corpus are deployed one after the other, in the order of a trace by the
# generator for cachesim (mktrace.py), each to REPLICAS nodes drawn anew, whose
# stores have SPACE bytes each: what is measured is the time until the last of
# them has printed what the image's program prints.  quicklayer keeps to its
# budget by itself; of containerd's, images go that were used least recently
# until its folder has that size.  After each deployment there are GAP seconds.
#
#   PULLS     (40)            SPACE     bytes (500000000)    SEED  (1)
#   REPLICAS  nodes of each deployment (4)                   GAP   (2)
#   SEQUENCE  contenders ("quicklayer alone containerd")
# shellcheck disable=SC2034,SC2153,SC2154

PULLS=${PULLS:-40}
SPACE=${SPACE:-500000000}
SEED=${SEED:-1}
REPLICAS=${REPLICAS:-4}
GAP=${GAP:-2}
SEQUENCE=${SEQUENCE:-quicklayer alone containerd}
SEQUENCE_OTHERS=2.1 # containerd's mean time of ours

# $CACHE/sequence: a registry's storage with each as NAME:1 and NAME:ql.
sequence_images()
{
	local oci=$CACHE/../corpus/oci name
	exec 9>"$CACHE/lock"
	flock 9
	"$LAB/../../tools/corpus/corpus" --starts >"$TMP/starts" ||
		bail "the corpus"
	if [ ! -e "$CACHE/sequence.done" ]; then
		"$LAB/../../tools/corpus/corpus" --oci "$TMP/corpus" >&2 ||
			bail "the corpus"
		oci=$TMP/corpus
		REGISTRY_DIR_KEEP=$CACHE/sequence start_registry make-sequence
		while IFS=$'\t' read -r name _; do
			push_image "oci:$oci:$name" "$name:1" &&
				QUICKLAYER_ROOT=$TMP/work "$QL" push -q \
					"$REGISTRY/$name:1" \
					"$REGISTRY/$name:ql" >/dev/null ||
				bail "push $name"
			rm -rf "$TMP/work"
		done <"$TMP/starts"
		lab_end "$REGISTRY_PID"
		rm -rf "$TMP/corpus"
		touch "$CACHE/sequence.done"
	fi
	exec 9>&-
}

# Lines "IMAGE MEMBER...": the trace's repositories are the images, in an order
# by the seed.
sequence_trace()
{
	python3 "$LAB/mktrace.py" --seed "$SEED" --pulls "$PULLS" \
		--repositories "$(wc -l <"$TMP/starts")" |
		python3 -c '
import json, random, sys
seed, replicas, names, members = sys.argv[1:]
rng = random.Random(int(seed))
names, members = names.split(), members.split()
rng.shuffle(names)
known = {}
for line in sys.stdin:
    r = json.loads(line)
    parts = r["http.request.uri"].split("/")
    if r["http.request.method"] == "GET" and parts[-2] == "manifests":
        name = known.setdefault("/".join(parts[1:-2]), len(known))
        print(names[name % len(names)],
              *rng.sample(members, min(int(replicas), len(members))))
' "$SEED" "$REPLICAS" "$(cut -f1 "$TMP/starts" | tr '\n' ' ')" "$1"
}

# containerd_within M REF: REF was used now; images go until there is room.
containerd_within()
{
	local oldest
	member "$1"
	touch "$ROOT/used"
	{ grep -vxF "$2" "$ROOT/used"; echo "$2"; } >"$ROOT/used.new"
	mv "$ROOT/used.new" "$ROOT/used"
	while [ "$(du -sB1 -x "$ROOT/root" | cut -f1)" -gt "$SPACE" ] &&
		oldest=$(head -1 "$ROOT/used") && [ -n "$oldest" ]; do
		ctr -a "$ROOT/sock" images rm --sync "$oldest" >/dev/null
		sed -i 1d "$ROOT/used"
	done
}

# deployment WHO K IMAGE MEMBER...
deployment()
{
	local who=$1 k=$2 name=$3 ref pattern start m
	shift 3
	MEMBERS=$*
	start=$(awk -F '\t' -v n="$name" '$1 == n { print $2 }' "$TMP/starts")
	pattern=$(awk -F '\t' -v n="$name" '$1 == n { print $3 }' "$TMP/starts")
	CMD=(sh -c "$start") SEEN=$pattern STAYS=0
	ref=$REGISTRY/$name:${TAG[$who]}
	begin
	fleet run "$who" "$ref"
	record sequence "$name" "$who" "$k"
	came "sequence $who $k: $name"
	if [ "$who" = containerd ]; then
		for m; do
			containerd_within "$m" "$ref"
		done
	fi
}

sequence_of()
{
	local who=$1 k=0 line kept=$NODE_MORE
	everyone
	NODE_MORE=$'cache:\n  budget: '$SPACE
	"${who}_ready"
	NODE_MORE=$kept
	cold "$QL" "${QL}d"
	while read -r -a line <&4; do
		k=$((k + 1))
		deployment "$who" "$k" "${line[@]}"
		sleep "$GAP"
	done 4<"$TMP/sequence"
	"${who}_end"
}

sequence_mean()
{
	awk -F '\t' -v c="$1" '$1 == "sequence" && $3 == c { n++; t += $5 }
		END { if (n) printf "%.2f", t / n }' "$OUT"
}

sequence_sent()
{
	awk -F '\t' -v c="$1" '$1 == "sequence" && $3 == c { t += $9 }
		END { printf "%.0f", t }' "$OUT"
}

part_sequence()
{
	local who kept=$REGISTRY log=$SITES_LOG m
	sequence_images
	SITES_LOG=sequence-registry
	sites_registry "$CACHE/sequence"
	everyone
	sequence_trace "$MEMBERS" >"$TMP/sequence" || bail "the trace"
	for who in $SEQUENCE; do
		sequence_of "$who"
	done
	echo
	echo "sequence: $PULLS deployments to $REPLICAS nodes each," \
		"$((SPACE / 1000000)) MB a node"
	for who in $SEQUENCE; do
		printf '  %-18s mean %8s s  registry %6s MB\n' "$who" \
			"$(sequence_mean "$who")" "$(sequence_sent "$who")"
	done
	m=$(sequence_mean quicklayer)
	[ -z "$m" ] || [ -z "$(sequence_mean containerd)" ] ||
		bar "containerd's mean time / ours" \
			"$(ratio "$(sequence_mean containerd)" "$m")" \
			least "$SEQUENCE_OTHERS"
	lab_end "$REGISTRY_PID"
	REGISTRY=$kept SITES_LOG=$log
}
