#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Cold starts over a link of 100 Mbit/s (net.sh): from the start of the pull,
# with nothing in the client's store, to the line by which the program in the
# container is known to have started; quicklayer against stargz-snapshotter
# (images optimized for the very command) and against full pulls by containerd
# and podman.  Prints a table of medians; fails if an output was not what it
# must be, or a start that is to be lazy was not.
#
#   RTTS       round-trip times, ms ("0 20 60 150")
#   WORKLOADS  of workloads.sh ("python redis node nginx")
#   PEERS      of the table below ("quicklayer quicklayer-gzip
#              stargz containerd podman")
#   RUNS       of each (5)
#   FULL_RUNS  of full pulls, which take half a minute each (3)
#   FULL_RTTS  the round-trip times at which full pulls are made ("0 60")
#   OUT        a file for each run's numbers, tab-separated
#   MBIT       the link's rate (100)        BENCH_DIR  for stores (/var/tmp)
#
# The bytes are those that came over the link until the line was seen, with IP
# and TCP headers; requests are those in the registry's log by then,
# connections the TCP connections that the client opened.
TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/net.sh"
. "$(dirname "$0")/engines.sh"
. "$(dirname "$0")/workloads.sh"

RTTS=${RTTS:-0 20 60 150}
WORKLOADS=${WORKLOADS:-python redis node nginx}
PEERS=${PEERS:-quicklayer quicklayer-gzip stargz containerd podman}
RUNS=${RUNS:-5}
FULL_RUNS=${FULL_RUNS:-3}
FULL_RTTS=${FULL_RTTS:-0 60}
MBIT=${MBIT:-100}
OUT=${OUT:-$TMP/results.tsv}
# What a lazy start may receive of its image, in hundredths.
LAZY_MOST=50
# Of an image's tags (peers.sh), the one that a contender starts.
declare -A TAG=(
	[quicklayer]=ql
	[quicklayer-gzip]=1
	[stargz]=stargz
	[containerd]=1
	[podman]=1
)
FULL=" containerd podman "
AGENT_PID=
FAILED=0

[ "$(id -u)" = 0 ] || bail "needs root"
[ -x "$QL" ] && [ -x "$B/tests/lab/delay" ] || bail "$B is not built"

say()
{
	printf 'bench-lazy: %s\n' "$*" >&2
}

is_full()
{
	[[ $FULL == *" $1 "* ]]
}

# ---- the contenders: NAME_ready, NAME_run REF COMMAND..., NAME_end ----
#
# _ready wipes the store and starts daemons, before the clock runs.  _run is
# called in a subshell, and what it calls last replaces that.

# The agent is on the client's side of the link; what nobody asks for it
# fetches in the background, as it does by default.
ql_ready()
{
	ql_end
	lab_start agent "${NET_IN_CLIENT[@]}" env REGISTRY_AUTH_FILE="$TMP/none" \
		"${QL}d" --root "$TMP/store"
	AGENT_PID=$LAB_PID
	wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" ||
		bail "quicklayerd: $(cat "$TMP/agent.log")"
}

ql_start()
{
	QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/none \
		"${LAB_IN[@]}" "$QL" run --plain-http -q "$@"
}

ql_end()
{
	[ -z "$AGENT_PID" ] || lab_end "$AGENT_PID"
	AGENT_PID=
	rm -rf "$TMP/store"
}

quicklayer_ready() { ql_ready; }
quicklayer_run() { ql_start "$@"; }
quicklayer_end() { ql_end; }
quicklayer-gzip_ready() { ql_ready; }
quicklayer-gzip_run() { ql_start "$@"; }
quicklayer-gzip_end() { ql_end; }

stargz_ready()
{
	stargz_wipe "$STARGZ" "$REGISTRY"
}

stargz_run()
{
	local ref=$1
	shift
	net_client ctr-remote -a "$TMP/containerd/sock" images rpull \
		--plain-http "$ref" >"$TMP/pull.log" 2>&1 || return
	"${LAB_IN[@]}" ctr-remote -a "$TMP/containerd/sock" run --rm --net-host \
		--snapshotter stargz "$ref" "bench-$$" "$@"
}

containerd_ready()
{
	containerd_wipe
}

containerd_run()
{
	local ref=$1
	shift
	net_client ctr -a "$TMP/containerd/sock" images pull --plain-http \
		"$ref" >"$TMP/pull.log" 2>&1 || return
	lab_ctr run --rm --net-host "$ref" "bench-$$" "$@"
}

podman_ready()
{
	podman_wipe
}

podman_run()
{
	lab_podman run --rm -q --tls-verify=false --network host "$@"
}

podman_end()
{
	podman_wipe
}

# ---- one run ----

# Reads the program's output until the line comes; sets $T1.
watch()
{
	local line
	while IFS= read -r -t 300 line; do
		T1=$EPOCHREALTIME
		printf '%s\n' "$line" >>"$TMP/output"
		[[ $line =~ $SEEN ]] && return 0
	done
	return 1
}

# Lets the program end, or ends it; its status must be 0 unless it was ended.
finish()
{
	local pid=$1 i
	if [ "$STAYS" = 1 ]; then
		kill "$pid" 2>/dev/null
	fi
	for ((i = 0; i < 300; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	kill -9 "$pid" 2>/dev/null && return 1
	lab_forget "$pid"
	wait "$pid" || [ "$STAYS" = 1 ]
}

# start WHO REF: from nothing to the line.  Sets T0, T1, COUNTERS, REQUESTS.
start()
{
	local who=$1 ref=$2 pid fd rest
	: >"$TMP/output"
	: >"$TMP/pull.log"
	net_forget
	net_reset >/dev/null
	T0=$EPOCHREALTIME
	(
		LAB_IN=(exec "${NET_IN_CLIENT[@]}")
		"${who}_run" "$ref" "${CMD[@]}"
	) <"/dev/null" >"$TMP/fifo" 2>&1 &
	pid=$!
	LAB_PIDS+=("$pid")
	exec {fd}<"$TMP/fifo"
	if ! watch <&"$fd"; then
		bail "$who $ref: $(tail -qn 5 "$TMP/pull.log" "$TMP/output")"
	fi
	COUNTERS=$(net_counters)
	sleep 0.05
	REQUESTS=$(net_requests | wc -l)
	cat <&"$fd" >>"$TMP/output" &
	rest=$!
	exec {fd}<&-
	finish "$pid" || bail "$who $ref: a bad end: $(tail -5 "$TMP/output")"
	wait "$rest"
}

# The bytes of an image's layers.
image_bytes()
{
	net_server curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/$1/manifests/$2" |
		jq '[.layers[].size] | add'
}

# A line of results: rtt, workload, who, run, seconds, bytes, requests,
# connections, dropped, late_us, late_us_max, lazy (1, 0, or - for a full pull).
record()
{
	local rtt=$1 name=$2 who=$3 run=$4 size=$5 bytes lazy=-
	bytes=$(jq .down.bytes <<<"$COUNTERS")
	is_full "$who" || lazy=$((bytes * 100 < size * LAZY_MOST))
	{
		printf '%s\t%s\t%s\t%s\t' "$rtt" "$name" "$who" "$run"
		awk -v a="$T0" -v b="$T1" 'BEGIN { printf "%.3f\t", b - a }'
		jq -j --arg requests "$REQUESTS" '[.down.bytes, $requests,
			.up.connections, .down.dropped, .down.late_us,
			.down.late_us_max] | @tsv' <<<"$COUNTERS"
		printf '\t%s\n' "$lazy"
	} | tee -a "$OUT" >&2
	[ "$lazy" != 0 ] || {
		say "$who received $bytes bytes of $size: not lazy"
		FAILED=1
	}
}

# measure RTT WORKLOAD WHO RUN
measure()
{
	local rtt=$1 name=$2 who=$3 run=$4 tag=${TAG[$3]:-} size
	[ -n "$tag" ] || bail "no such contender: $who"
	if is_full "$who"; then
		[ "$run" -le "$FULL_RUNS" ] || return 0
		[[ " $FULL_RTTS " == *" $rtt "* ]] || return 0
	fi
	size=$(image_bytes "$name" "$tag")
	"${who}_ready"
	cold "$QL" "${QL}d" ${STARGZ:+"$STARGZ"}
	start "$who" "$REGISTRY/$name:$tag"
	record "$rtt" "$name" "$who" "$run" "$size"
	"${who}_end"
}

# ---- the table ----

# column RTT WORKLOAD WHO N: that column of its runs.
column()
{
	awk -F '\t' -v r="$1" -v w="$2" -v c="$3" -v n="$4" \
		'$1 == r && $2 == w && $3 == c { print $n }' "$OUT"
}

median()
{
	column "$@" | spread | cut -d' ' -f1
}

row()
{
	local rtt=$1 name=$2 who=$3 ours=$4 mine lazy=""
	mine=$(median "$rtt" "$name" "$who" 5)
	[ -n "$(column "$rtt" "$name" "$who" 5)" ] || return 0
	! column "$rtt" "$name" "$who" 12 | grep -q 0 || lazy="  NOT LAZY"
	printf '%4s  %-8s %-16s %-26s %7s %5s %5s  %s%s\n' "$rtt" "$name" "$who" \
		"$(column "$rtt" "$name" "$who" 5 | spread)" \
		"$(median "$rtt" "$name" "$who" 6 |
			awk '{ printf "%.1f", $1 / 1e6 }')" \
		"$(median "$rtt" "$name" "$who" 7)" \
		"$(median "$rtt" "$name" "$who" 8)" \
		"$([ -z "$ours" ] || ratio "$mine" "$ours")" "$lazy"
}

report()
{
	local rtt name who ours
	echo "Cold starts over $MBIT Mbit/s, seconds: median (min - max) ${COLD:-}"
	printf '%4s  %-8s %-16s %-26s %7s %5s %5s  %s\n' RTT image who seconds \
		MB reqs conns "x ours"
	for name in $WORKLOADS; do
		for rtt in $RTTS; do
			ours=$(column "$rtt" "$name" quicklayer 5)
			[ -z "$ours" ] ||
				ours=$(median "$rtt" "$name" quicklayer 5)
			for who in $PEERS; do
				row "$rtt" "$name" "$who" "$ours"
			done
		done
	done
}

STARGZ=
[[ " $PEERS " != *" stargz "* ]] || STARGZ=$("$LAB/peers.sh" program) ||
	bail "$STARGZ"
# shellcheck disable=SC2086
storage=$("$LAB/peers.sh" images $WORKLOADS) || bail "$storage"
if [[ " $PEERS " == *" quicklayer"* ]]; then
	# shellcheck disable=SC2086
	"$LAB/ourimages.sh" "$storage" $WORKLOADS || bail "our images"
fi
cp -a "$storage" "$TMP/registry" || bail "the registry's storage"
mkfifo "$TMP/fifo"
: >"$OUT"
for rtt in $RTTS; do
	net_up "$MBIT" "$rtt"
	net_registry "$TMP/registry"
	LAB_IN=("${NET_IN_CLIENT[@]}")
	for name in $WORKLOADS; do
		workload "$name"
		for ((run = 1; run <= RUNS; run++)); do
			for who in $PEERS; do
				measure "$rtt" "$name" "$who" "$run"
			done
		done
	done
	lab_end "$REGISTRY_PID"
done
report
exit $FAILED
