#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Deployments to sites of nodes (sites.sh: 400 Mbit/s a node, an uplink of 100
# Mbit/s and 20 ms a site): quicklayer whose nodes ask each other, quicklayer
# whose nodes do not, and containerd and podman pulling on every node.  Prints
# what each part came to and every bar; fails if an output was not what it must
# be, or a bar was missed.
#
#   SITES NODES    (2, 4)    RUNS  of each (3)    FULL_RUNS  of what takes
#                  minutes: containerd and podman (1)
#   PARTS          "start full update warm faults sequence serve"
#   CONTENDERS     "quicklayer alone containerd podman"
#   WORKLOADS      of workloads.sh (python)
#   MBIT LAN RTT   the uplinks' rate, the nodes', ms (100, 400, 20)
#   OUT            each run's numbers, tab-separated ($B/cooperate.tsv)
#   PICTURE        of one deployment ($B/cooperate.svg)
#   LOGS           a folder for the last run's agents' and registry's logs
#   BENCH_DIR      for stores (/var/tmp)    PULLS SPACE SEED: see
#                  cooperate-sequence.sh
#
# OUT's columns: part, workload, contender, run, seconds until the last node was
# there, until the first was, nodes that were, then of each site MB down and MB
# up its uplink, separated by commas, MB that the registry sent, share of the
# CPUs idle meanwhile, which node was the last.  Uplinks count IP and TCP headers.
#
# One machine is all nodes: where little of it was idle, times are its own more
# than the links', and the last column says so.
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"
. "$LAB/sites.sh"
. "$LAB/engines.sh"
. "$LAB/workloads.sh"
. "$LAB/siteengines.sh"

SITES=${SITES:-2}
COUNT=${NODES:-4}
RUNS=${RUNS:-3}
FULL_RUNS=${FULL_RUNS:-1}
PARTS=${PARTS:-start full update warm faults sequence serve}
CONTENDERS=${CONTENDERS:-quicklayer alone containerd podman}
WORKLOADS=${WORKLOADS:-python}
MBIT=${MBIT:-100}
LAN=${LAN:-400}
RTT=${RTT:-20}
OUT=${OUT:-$B/cooperate.tsv}
PICTURE=${PICTURE:-$B/cooperate.svg}
CACHE=${QL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quicklayer}/cooperate
SLOW_ONES=" containerd podman "
# Bars.
START_BYTES=1.05    # an uplink's, of what one node alone receives
START_TIME=1.5      # of one node's alone
START_OTHERS=8      # containerd's time of ours
FULL_BYTES=1.1      # an uplink's, of the image
FULL_TIME=1.18      # of what the links allow
FULL_OTHERS=3       # containerd's time of ours
UPDATE_BYTES=1.1    # an uplink's, of what is new
WARM_TIME=1.1       # of the same where no site has anything
FAULT_TIME=1.3      # of the same without the fault
declare -A TAG=([quicklayer]=ql [alone]=ql [containerd]=1 [podman]=1)
declare -A NEXT=([quicklayer]=2ql [alone]=2ql [containerd]=2 [podman]=2)
MISSED=0

[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] && [ -x "$B/tests/lab/delay" ] || bail "$B is not built"

say()
{
	printf 'bench-cooperate: %s\n' "$*" >&2
}

# ---- images: WORKLOAD:1, :ql, and 90 % of its files again as :2, :2ql ----

make_images()
{
	local name oci key
	mkdir -p "$CACHE/registry"
	exec 9>"$CACHE/lock"
	flock 9
	REGISTRY_DIR_KEEP=$CACHE/registry start_registry make
	for name in $WORKLOADS; do
		workload "$name"
		oci=$("$LAB/mkimage.sh" "$IMAGE" | tail -1)
		key=$(cat "$CACHE/../$IMAGE/digest")
		if [ "$(cat "$CACHE/$name" 2>/dev/null)" != "$key" ]; then
			push_image "$oci" "$name:1" || bail "push $name"
			echo "$key" >"$CACHE/$name"
		fi
	done
	key=$("$LAB/mkimage.sh" second | tail -1)
	if [ ! -e "$CACHE/second" ]; then
		push_image "$key" python:2 &&
			QUICKLAYER_ROOT=$TMP/second "$QL" push -q \
				"$REGISTRY/python:2" "$REGISTRY/python:2ql" &&
			cp "$CACHE/../second/unique-bytes" "$CACHE/second" ||
			bail "the second image"
		rm -rf "$TMP/second"
	fi
	lab_end "$REGISTRY_PID"
	# shellcheck disable=SC2086
	"$LAB/ourimages.sh" "$CACHE/registry" $WORKLOADS || bail "our images"
	exec 9>&-
	cp -a "$CACHE/registry" "$TMP/registry" || bail "the registry's storage"
}

# image_bytes NAME:TAG: of its layers, in the registry.
image_bytes()
{
	core curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/${1%:*}/manifests/${1#*:}" |
		jq '[.layers[].size] | add'
}

# ---- running ----

# everyone [SITE]: sets MEMBERS to all nodes, or those of a site.
everyone()
{
	local s n
	MEMBERS=
	for ((s = 1; s <= SITES; s++)); do
		[ -z "${1:-}" ] || [ "$1" = "$s" ] || continue
		for ((n = 1; n <= COUNT; n++)); do
			MEMBERS+=" $s.$n"
		done
	done
}

# begin: what is counted and remembered begins anew.
begin()
{
	sites_forget
	sleep 0.3
	sites_reset
}

# fleet run|pull WHO REF: on all MEMBERS at once; $TMP/fleet has a line for each
# (fleet.py), and UPLINKS, SENT, IDLE are set.
fleet()
{
	local how=$1 who=$2 ref=$3 m args=() status=0
	[ "$how" = pull ] || args=(--seen "$SEEN")
	[ "$how" = pull ] || [ "$STAYS" = 0 ] || args+=(--stays)
	for m in $MEMBERS; do
		if [ "$how" = run ]; then
			printf '%s\t%s\n' "$m" \
				"$("${who}_run" "$m" "$ref" "${CMD[@]}")"
		else
			printf '%s\t%s\n' "$m" "$("${who}_pull" "$m" "$ref")"
		fi
	done >"$TMP/commands"
	python3 "$LAB/fleet.py" "${args[@]}" --logs "$TMP/fleet.d" \
		--stat "$TMP/stat" <"$TMP/commands" >"$TMP/fleet" || status=1
	counted
	return "$status"
}

# Sets UPLINKS ("DOWN,UP,DOWN,UP" MB), SENT (MB of the registry), IDLE, LAST,
# FIRST (seconds), CAME (how many nodes), LATEST (which).
counted()
{
	local s down up
	UPLINKS=
	for ((s = 1; s <= SITES; s++)); do
		read -r down up < <(site_bytes "$s")
		UPLINKS+=$(awk -v d="$down" -v u="$up" \
			'BEGIN { printf ",%.2f,%.2f", d / 1e6, u / 1e6 }')
	done
	UPLINKS=${UPLINKS:1}
	sleep 0.1
	SENT=$(sites_requests | awk '$9 ~ /^20/ { n += $10 }
		END { printf "%.2f", n / 1e6 }')
	IDLE=$(jq .idle "$TMP/stat")
	read -r FIRST LAST CAME LATEST < <(awk -F '\t' '
		$3 == "ok" {
			n++
			if (!a || $2 < a)
				a = $2
			if ($2 > b) {
				b = $2
				who = $1
			}
		}
		END { print a + 0, b + 0, n + 0, who }' "$TMP/fleet")
}

# record PART WORKLOAD WHO RUN
record()
{
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" \
		"$4" "$LAST" "$FIRST" "$CAME" "$UPLINKS" "$SENT" "$IDLE" "$LATEST" |
		tee -a "$OUT" >&2
}

# came WHAT: all of MEMBERS did, or it is told of those that did not.
came()
{
	[ "$CAME" = "$(wc -w <<<"$MEMBERS")" ] || {
		say "$1: $(grep -v "ok$" "$TMP/fleet" | tr '\n\t' '; ')"
		say "$(tail -qn 3 "$TMP"/fleet.d/*.out | tail -8)"
		MISSED=1
		return 1
	}
}

# ---- results ----

# column PART WORKLOAD WHO N: that column of its runs.
column()
{
	awk -F '\t' -v p="$1" -v w="$2" -v c="$3" -v n="$4" \
		'$1 == p && $2 == w && $3 == c { print $n }' "$OUT"
}

median()
{
	column "$@" | spread | cut -d' ' -f1
}

# uplink PART WORKLOAD WHO: of each run the fullest uplink's MB down; a median.
uplink()
{
	column "$1" "$2" "$3" 8 | awk -F, '{
		m = 0
		for (i = 1; i <= NF; i += 2)
			if ($i > m)
				m = $i
		print m }' | spread | cut -d' ' -f1
}

# bar WHAT GOT most|least LIMIT
bar()
{
	awk -v what="$1" -v got="${2:-}" -v how="$3" -v limit="$4" 'BEGIN {
		holds = got != "" && (how == "most" ? got + 0 <= limit + 0 \
						    : got + 0 >= limit + 0)
		printf "  %-58s %8.2f  bar: at %s %g  %s\n", what, got, how,
			limit, holds ? "holds" : "MISSED"
		exit !holds }' || MISSED=1
}

# has PART WORKLOAD WHO...: there are runs of them.
has()
{
	local part=$1 name=$2 who
	shift 2
	for who; do
		[ -n "$(column "$part" "$name" "$who" 5)" ] || return 1
	done
}

table()
{
	local part=$1 name=$2 who
	echo
	echo "$part, $name: $SITES sites of $COUNT nodes, $MBIT Mbit/s," \
		"$RTT ms; seconds until the last node: median (min - max)"
	printf '  %-18s %-26s %7s  %-26s %8s %6s\n' contender seconds first \
		"MB each uplink: down,up" registry idle
	awk -F '\t' -v p="$part" -v w="$name" \
		'$1 == p && $2 == w && !seen[$3]++ { print $3 }' "$OUT" |
		while read -r who; do
			printf '  %-18s %-26s %7s  %-26s %8s %5.0f%%\n' "$who" \
				"$(column "$part" "$name" "$who" 5 | spread)" \
				"$(median "$part" "$name" "$who" 6)" \
				"$(column "$part" "$name" "$who" 8 | head -1)" \
				"$(median "$part" "$name" "$who" 9)" \
				"$(median "$part" "$name" "$who" 10 |
					awk '{ print $1 * 100 }')"
		done
}

. "$LAB/cooperate-parts.sh"
. "$LAB/cooperate-faults.sh"
. "$LAB/cooperate-sequence.sh"
. "$LAB/cooperate-serve.sh"

make_images
: >"$OUT"
sites_up "$SITES" "$COUNT" "$LAN" "$MBIT" "$RTT"
sites_registry "$TMP/registry"
for part in $PARTS; do
	"part_$part"
done
exit $MISSED
