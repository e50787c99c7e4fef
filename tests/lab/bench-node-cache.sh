#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The node under a budget: the corpus of 17 images (tools/corpus), as it is and
# refactored, as zstd:chunked in a real docker-registry, pulled through
# quicklayerd by a trace (Zipf over the images, seeded), and readers read files of
# what was just pulled.  The store has a filesystem of its own, whose own
# numbers, read each 10 ms, say what it takes; the registry's log says what was
# sent, which is held against what cachesim makes of the node's access log.
#
#   PULLS     (1000)          BUDGET  bytes (500000000)   SEED  (1)
#   SKEW      Zipf's (0.9)    READERS (2)     IMAGES  of the corpus (all)
#   KINDS     of images ("plain edge": as they are, and refactored)
#   BENCH_DIR where stores are (/var/tmp)
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"

PULLS=${PULLS:-1000}
BUDGET=${BUDGET:-500000000}
SEED=${SEED:-1}
SKEW=${SKEW:-0.9}
READERS=${READERS:-2}
KINDS=${KINDS:-plain edge}
CORPUS=$LAB/../../tools/corpus/corpus
[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] || bail "$QL is not built"
unset QUICKLAYER_SOCKET QUICKLAYER_ACCESS_LOG
export REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"
STORE=$TMP/disk/store
ACCESS=$TMP/access.log

mb()
{
	awk -v n="$1" 'BEGIN { printf "%.1f MB", n / 1e6 }'
}

# ---- images ----

# Sets NAMES, of references below $REGISTRY.
make_images()
{
	local name kind sources=() all=()
	# shellcheck disable=SC2086
	"$CORPUS" --oci "$TMP/oci" ${IMAGES:-} >&2 || bail "the corpus"
	mapfile -t all < <(jq -r \
		'.manifests[].annotations["org.opencontainers.image.ref.name"]' \
		"$TMP/oci/index.json" | sort)
	REGISTRY_ACCESS=1 start_registry registry
	export QUICKLAYER_ROOT=$TMP/work
	NAMES=()
	for name in "${all[@]}"; do
		"$QL" push -q "oci:$TMP/oci:$name" "$REGISTRY/plain/$name:1" \
			>/dev/null || bail "push $name"
		sources+=("$REGISTRY/plain/$name:1")
		for kind in $KINDS; do
			NAMES+=("$kind/$name:1")
		done
	done
	"$QL" refactor --json "${sources[@]}" --to "$REGISTRY/edge/{name}:{tag}" \
		>"$TMP/refactor.json" || bail "refactor"
	rm -rf "$TMP/work" "$TMP/oci"
}

# ---- a node ----

used_now()
{
	stat -f -c '%b %f %S' "$TMP/disk" | awk '{ print ($1 - $2) * $3 }'
}

start_node()
{
	truncate -s $((BUDGET * 2 + 300000000)) "$TMP/disk.img"
	mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 \
		"$TMP/disk.img" || bail "mkfs.ext4"
	mkdir -p "$TMP/disk"
	mount -o loop "$TMP/disk.img" "$TMP/disk" || bail "no loop device"
	BASE=$(used_now)
	cat >"$TMP/agent.yaml" <<-YAML
		root: $STORE
		access_log: $ACCESS
		cache:
		  budget: $BUDGET
	YAML
	export QUICKLAYER_ROOT=$STORE
	lab_start watch python3 "$LAB/watch-used.py" "$TMP/disk" "$BASE" \
		"$TMP/used"
	WATCH=$LAB_PID
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	lab_ready agent || bail "quicklayerd"
}

# reader N IMAGE: reads some files of an image that was just pulled.
reader()
{
	local path
	find "$STORE/agent/mnt/images/$2/usr" -type f -size -200k \
		2>/dev/null | shuf -n 20 >"$TMP/files.$1"
	while read -r path; do
		cat "$path" >/dev/null 2>>"$TMP/errors"
		echo >>"$TMP/reads.$1"
	done <"$TMP/files.$1"
}

# As containers that start do: side by side, and then they are gone.
readers()
{
	local i pids=()
	for ((i = 0; i < READERS; i++)); do
		reader "$i" "$1" &
		pids+=($!)
	done
	[ "$READERS" -eq 0 ] || wait "${pids[@]}"
}

# One name a line: Zipf over the images, in an order by the seed.
trace()
{
	python3 - "$SEED" "$SKEW" "$PULLS" "${NAMES[@]}" <<-'PY'
		import random, sys
		rng = random.Random(int(sys.argv[1]))
		names = sys.argv[4:]
		rng.shuffle(names)
		weights = [1 / (k + 1) ** float(sys.argv[2])
		           for k in range(len(names))]
		print("\n".join(rng.choices(names, weights, k=int(sys.argv[3]))))
	PY
}

# ---- a run ----

make_images
trace >"$TMP/trace"
start_node
mark
touch "$TMP/errors"
failed=0 n=0
while read -r name <&3; do
	n=$((n + 1))
	if "$QL" pull -q --full "$REGISTRY/$name" >/dev/null \
		2>"$TMP/pull.err"; then
		readers "$REGISTRY/$name"
	else
		failed=$((failed + 1))
		note "pull $n, $name: $(tail -1 "$TMP/pull.err")"
	fi
	[ $((n % 50)) -ne 0 ] || note "$n pulls, $(mb "$(sent)") sent"
done 3<"$TMP/trace"
got=$(sent)
"$QL" status --json >"$TMP/status.json" || bail "status"
lab_end "$WATCH"
read -r most _ looks <"$TMP/used"

# The policy has what is left by metadata, by the margin for what grows by
# itself (space.h), and by the room that the agent keeps free.
capacity=$(jq '.cache | .budget as $b | $b - .tiers.metadata -
	([[$b / 64, 1048576] | max, 8388608] | min) -
	([$b / 50, 4194304] | max) | floor' "$TMP/status.json")
"$QL" cachesim "$ACCESS" --policy ours,lru,belady --budget "$capacity" --json \
	>"$TMP/sim.json" || bail "cachesim"
said=$(jq '.results[0].registry_bytes' "$TMP/sim.json")
hits=$(grep -c '"hit": true' "$ACCESS")
# What had to be fetched by the node's own policy: the rest is transfer.
missed=$(jq -s '[.[] | select(.hit == false) | .bytes] | add // 0' "$ACCESS")
jq -r '.results[] | "\(.policy): \(.byte_hit_ratio * 1000 | round / 10) % of" +
	" bytes, \(.registry_bytes / 1e6 | round) MB from the registry"' \
	"$TMP/sim.json"
echo "$PULLS pulls of ${#NAMES[@]} images, $hits hits of layers," \
	"$(jq '.cache.evictions' "$TMP/status.json") evictions," \
	"$(cat "$TMP"/reads.* 2>/dev/null | wc -l) files read"
echo "Missed by the node's own policy: $(mb "$missed")"
awk -v got="$got" -v said="$said" -v most="$most" -v budget="$BUDGET" \
	-v looks="$looks" -v errors="$(wc -l <"$TMP/errors")" \
	-v failed="$failed" 'function bar(met) { missed += !met
		return met ? "met" : "MISSED" }
	BEGIN {
	off = said ? 100 * (got / said - 1) : 100
	printf "From the registry: %.1f MB, cachesim says %.1f MB: %+.2f %%" \
		"  bar 3 %%: %s\n", got / 1e6, said / 1e6, off,
		bar(off <= 3 && off >= -3)
	printf "Most on disk: %.1f MB of %.1f MB, in %d looks" \
		"  bar: never above: %s\n", most / 1e6, budget / 1e6, looks,
		bar(most <= budget)
	printf "Failed reads: %d, failed pulls: %d  bar 0: %s\n", errors,
		failed, bar(errors + failed == 0)
	exit missed > 0 }'
