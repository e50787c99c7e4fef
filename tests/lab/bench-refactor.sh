#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What refactoring wins over the corpus of 17 images (tools/corpus), pushed to a
# real docker-registry whose folder is measured with du, before and after in the
# same format; how fast and in how much memory; what a site pulls; and whether
# all of them still start, by podman, containerd and skopeo.
#
#   PARTS="space speed pulls starts"   which (all)
#   RUNS      of the speed (3)         BENCH_DIR   where stores are (/var/tmp)
#   IMAGES    of the corpus (all)      PICTURE     where the SVG goes ($B)
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/engines.sh"

PARTS=${PARTS:-space speed pulls starts}
RUNS=${RUNS:-3}
PICTURE=${PICTURE:-$B/refactor.svg}
CORPUS=$LAB/../../tools/corpus/corpus
[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] || bail "$QL is not built"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"

part()
{
	[[ " $PARTS " == *" $1 "* ]]
}

mb()
{
	awk -v n="$1" 'BEGIN { printf "%.1f MB", n / 1e6 }'
}

percent()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.1f %%", 100 * a / b }'
}

# What a registry's blobs take.
stored()
{
	sync
	du -s --block-size=1 "$1" | cut -f1
}

refactor()
{
	"$QL" refactor --json "$@" "${SOURCES[@]}"
}

# ---- images ----

# shellcheck disable=SC2086
"$CORPUS" --oci "$TMP/oci" ${IMAGES:-} >&2 || bail "the corpus"
mapfile -t NAMES < <(jq -r '.manifests[].annotations["org.opencontainers.image.ref.name"]' \
	"$TMP/oci/index.json" | sort)
start_registry before
BEFORE=$REGISTRY BEFORE_DIR=$REGISTRY_DIR
SOURCES=()
for name in "${NAMES[@]}"; do
	echo "  before: $name" >&2
	"$QL" push -q "oci:$TMP/oci:$name" "$BEFORE/library/$name:1" >/dev/null ||
		bail "push $name"
	SOURCES+=("$BEFORE/library/$name:1")
done
for source in "${SOURCES[@]}"; do
	"$QL" pull -q --full "$source" >/dev/null || bail "pull $source"
done
before=$(stored "$BEFORE_DIR")

# ---- space ----

report_space()
{
	local after bound
	refactor --max-layers 20 --picture "$PICTURE" --to "$AFTER/corpus" \
		>"$TMP/after.json" || bail "refactor"
	after=$(stored "$AFTER_DIR")
	start_registry bound
	refactor --max-layers 512 --to "$REGISTRY/corpus" >"$TMP/bound.json" ||
		bail "refactor without a limit"
	bound=$(stored "$REGISTRY_DIR")
	jq -r --arg n "${#NAMES[@]}" '
		def mb: . / 1e5 | round / 10 | tostring + " MB";
		def pc: . * 1000 | round / 10 | tostring + " %";
		(.content_before - .content_bound) as $b |
		(.content_after - .content_bound) as $a |
		"Content of the layers of \($n) images: \(.content_before | mb)" +
		" before, \(.content_after | mb) after; each file once: " +
		"\(.content_bound | mb)",
		"Redundant: \($b | mb) before, \($a | mb) after: " +
		"\(1 - $a / $b | pc) removed   (bar: 95 %)",
		"Ratio of that, all together: " +
		(if $a > 0 then "\($b / $a * 100 | round / 100)x" else "all" end),
		"Layers of an image: \([.images[].layers | length] | max) at most",
		"",
		"IMAGE\tREDUNDANT\tAFTER\tRATIO\tLAYERS\tCOLD-BEFORE\tCOLD-AFTER",
		(.images[] | [(.name | split("/")[-1]), (.redundant_before | mb),
			(.redundant_after | mb), (if .redundant_after > 0 then
			(.redundant_before / .redundant_after * 100 | round / 100 |
			tostring) + "x" else "all" end),
			"\(.source_layers)>\(.layers | length)",
			(.cold_pull_before | mb), (.cold_pull_after | mb)] |
			map(gsub(" "; "")) | join("\t"))' "$TMP/after.json" |
		awk -F'\t' 'NF > 1 { for (i = 1; i <= NF; i++) $i = sprintf("%-15s", $i) } { print }'
	echo "Registry (du): $(mb "$before") before, $(mb "$after") after:" \
		"$(percent $((before - after)) "$before") saved   (bar: 15.5 %);" \
		"without a limit $(mb "$bound"): $(ratio "$after" "$bound")x of that   (bar: 1.05x)"
}

# ---- speed ----

# timed NAME COMMAND...: seconds and KiB into $TMP/NAME.{s,kib}
timed()
{
	local name=$1
	shift
	rm -rf "$TMP/out"
	/usr/bin/time -o "$TMP/time" -f '%e %M' "$@" >/dev/null ||
		bail "$name failed"
	cut -d' ' -f1 "$TMP/time" >>"$TMP/$name.s"
	cut -d' ' -f2 "$TMP/time" >>"$TMP/$name.kib"
	echo "  $name: $(cat "$TMP/time")" >&2
}

report_speed()
{
	local i input unique one two
	for ((i = 0; i < RUNS; i++)); do
		timed one taskset -c 0 "$QL" refactor --json --parallel 1 \
			--to "oci:$TMP/out" "${SOURCES[@]}"
		timed two "$QL" refactor --json --to "oci:$TMP/out" \
			"${SOURCES[@]}"
	done
	rm -rf "$TMP/out"
	refactor --dry-run --to "oci:$TMP/out" >"$TMP/dry.json"
	input=$(jq .content_input "$TMP/dry.json")
	unique=$(jq .content_after "$TMP/dry.json")
	one=$(spread <"$TMP/one.s")
	two=$(spread <"$TMP/two.s")
	echo "Refactor, all local, proof included, s: one core $one, all cores $two"
	awk -v in_="$input" -v un="$unique" -v a="${one%% *}" -v b="${two%% *}" 'BEGIN {
		printf "  %.0f MB/s of input on one core (bar: 80), %.0f MB/s of what is written; ", in_ / 1e6 / a, un / 1e6 / a
		printf "%.2fx on two   (bar: 1.7x)\n", a / b }'
	echo "  peak memory, KiB: $(cat "$TMP"/{one,two}.kib | spread)   (bar: 262144)"
}

# ---- pulls ----

report_pulls()
{
	local name unique
	REGISTRY_ACCESS=1 REGISTRY_DIR_KEEP=$AFTER_DIR start_registry registry
	mark
	for name in "${NAMES[@]}"; do
		QUICKLAYER_ROOT=$TMP/site "$QL" pull -q --full \
			"$REGISTRY/corpus:$name-1" >/dev/null || bail "pull $name"
	done
	unique=$(jq '[.layers[].size] | add' "$TMP/bound.json")
	echo "Pulled by one site, one after the other:" \
		"$(mb "$(sent)"); unique: $(mb "$unique"):" \
		"$(ratio "$(sent)" "$unique")x   (bar: 1.05x)"
	rm -rf "$TMP/site"
}

# ---- starts ----

# said_NAME IMAGE COMMAND...: what it prints when that runs in it.
said_podman()
{
	lab_podman pull -q --tls-verify=false "$1" >/dev/null 2>&1
	lab_podman run --rm --network none --entrypoint "" "$@" 2>&1 </dev/null
	lab_podman rmi -af >/dev/null 2>&1
}

said_containerd()
{
	lab_ctr image pull --plain-http "$1" >/dev/null 2>&1
	lab_ctr run --rm "$1" "starts-$RANDOM" "${@:2}" 2>&1 </dev/null
	lab_ctr image rm --sync "$1" >/dev/null 2>&1
}

# same NAME WHO WAS IS PATTERN
same()
{
	[ "$3" = "$4" ] && grep -qE "$5" <<<"$4" && return 0
	echo "  $1 by $2: \"$4\", not \"$3\", /$5/" >&2
	return 1
}

report_starts()
{
	local name command pattern was now fine=0 copied=0 ran=0
	containerd_wipe
	while IFS=$'\t' read -r name command pattern <&3; do
		[[ " ${NAMES[*]} " == *" $name "* ]] || continue
		eval "set -- $command"
		was=$(said_podman "$BEFORE/library/$name:1" "$@")
		now=$(said_podman "$AFTER/corpus:$name-1" "$@")
		same "$name" podman "$was" "$now" "$pattern" &&
			fine=$((fine + 1))
		now=$(said_containerd "$AFTER/corpus:$name-1" "$@")
		same "$name" containerd "$was" "$now" "$pattern" &&
			ran=$((ran + 1))
		skopeo --insecure-policy copy -q --src-tls-verify=false \
			"docker://$AFTER/corpus:$name-1" "oci:$TMP/copy:$name" \
			</dev/null && copied=$((copied + 1))
		rm -rf "$TMP/copy"
		echo "  $name: $was" >&2
	done 3< <("$CORPUS" --starts)
	containerd_end
	echo "Start and print what the originals print: podman $fine," \
		"containerd $ran; copied by skopeo $copied; of ${#NAMES[@]}"
}

start_registry after
AFTER=$REGISTRY AFTER_DIR=$REGISTRY_DIR
if part space || part pulls || part starts; then
	report_space
fi
if part speed; then report_speed; fi
if part pulls; then report_pulls; fi
if part starts; then report_starts; fi
