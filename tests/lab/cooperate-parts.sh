#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-cooperate.sh's parts that are deployments without faults; sourced there.
#
#   start    one image to all nodes at once, until the last container has
#            printed what it prints; held against one node alone; then the
#            same from what is here ("quicklayer-here"): the machine's own part
#   full     all of its content on all nodes; then, with the uplinks cut, a
#            container must start on each
#   update   all nodes have it, and get the image that shares 90 % of its files
#   warm     the first site has it, the second gets it
# shellcheck disable=SC2034,SC2153,SC2154

# runs_of WHO
runs_of()
{
	if [[ $SLOW_ONES == *" $1 "* ]]; then
		echo "$FULL_RUNS"
	else
		echo "$RUNS"
	fi
}

# ---- start ----

# The uplinks are cut, and the nodes do not ask each other: what starts now
# starts from what is here, and takes what the machine takes to start it.
# Recorded as WHO-here.
start_here()
{
	local part=$1 name=$2 who=$3 run=$4 s m
	[[ $SLOW_ONES != *" $who "* ]] || return 0
	for m in $MEMBERS; do
		node_end "${m%.*}" "${m#*.}"
	done
	for ((s = 1; s <= SITES; s++)); do
		site_cut "$s"
	done
	PEERS=0 ql_nodes
	begin
	fleet run "$who" "$REGISTRY/$name:${TAG[$who]}" || true
	for ((s = 1; s <= SITES; s++)); do
		site_mend "$s"
	done
	record "$part" "$name" "$who-here" "$run"
	came "$part $name $who: starting from what is here"
}

# sample_begin FILE: samples the links until sample_end.
sample_begin()
{
	local s names=()
	for ((s = 1; s <= SITES; s++)); do
		names+=("$(site_router "$s")")
	done
	lab_start sample python3 "$LAB/linkplot.py" sample "$TMP/$1" \
		"${names[@]}"
	SAMPLE=$LAB_PID
	sleep 0.3
}

# sample_end FILE TITLE SVG
sample_end()
{
	sleep 0.2
	lab_end "$SAMPLE"
	python3 "$LAB/linkplot.py" plot "$TMP/$1" "$2" >"$3" && say "see $3"
}

# start_once WORKLOAD WHO RUN NAME: on MEMBERS, into OUT as NAME.
start_once()
{
	local name=$1 who=$2 run=$3 as=$4 ref pictured=
	ref=$REGISTRY/$name:${TAG[$who]}
	"${who}_ready"
	cold "$QL" "${QL}d"
	begin
	if [ "$run" = 1 ] && [ "$as" = quicklayer ]; then
		pictured=1
		sample_begin samples
	fi
	fleet run "$who" "$ref"
	[ -z "$pictured" ] || sample_end samples \
		"$name on $SITES x $COUNT nodes at once" "$PICTURE"
	record start "$name" "$as" "$run"
	if came "start $name $as" && [ "$as" = quicklayer ]; then
		start_here start "$name" "$who" "$run"
	fi
	"${who}_end"
}

start_bars()
{
	local name=$1 one=quicklayer-one
	has start "$name" quicklayer $one || return 0
	bar "fullest uplink's bytes / one node's alone" \
		"$(ratio "$(uplink start "$name" quicklayer)" \
			"$(uplink start "$name" $one)")" most "$START_BYTES"
	bar "time / one node's alone" \
		"$(ratio "$(median start "$name" quicklayer 5)" \
			"$(median start "$name" $one 5)")" most "$START_TIME"
	echo "  of that the machine's own part: see quicklayer-here"
	has start "$name" containerd || return 0
	bar "containerd's time / ours" \
		"$(ratio "$(median start "$name" containerd 5)" \
			"$(median start "$name" quicklayer 5)")" \
		least "$START_OTHERS"
}

part_start()
{
	local name who run runs
	for name in $WORKLOADS; do
		workload "$name"
		for who in $CONTENDERS; do
			runs=$(runs_of "$who")
			for ((run = 1; run <= runs; run++)); do
				everyone
				start_once "$name" "$who" "$run" "$who"
				[ "$who" != alone ] || continue
				MEMBERS=1.1
				start_once "$name" "$who" "$run" "$who-one"
			done
		done
		table start "$name"
		start_bars "$name"
	done
}

# ---- full ----

full_once()
{
	local name=$1 who=$2 run=$3 ref=$REGISTRY/$1:${TAG[$2]}
	everyone
	"${who}_ready"
	cold "$QL" "${QL}d"
	begin
	[ "$run$who" != 1quicklayer ] || sample_begin samples.full
	fleet pull "$who" "$ref"
	[ "$run$who" != 1quicklayer ] || sample_end samples.full \
		"all of $name on $SITES x $COUNT nodes" "${PICTURE%.svg}-full.svg"
	record full "$name" "$who" "$run"
	if came "full $name $who" && [ "$run" = 1 ]; then
		start_here full "$name" "$who" "$run"
	fi
	"${who}_end"
}

full_bars()
{
	local name=$1 size bound
	has full "$name" quicklayer || return 0
	size=$(image_bytes "$name:ql")
	bound=$(awk -v n="$size" -v r="$MBIT" \
		'BEGIN { printf "%.2f", n * 8 / r / 1e6 }')
	echo "  the links' bound: $bound s"
	bar "fullest uplink's bytes / the image's" \
		"$(awk -v a="$(uplink full "$name" quicklayer)" -v b="$size" \
			'BEGIN { printf "%.2f", a * 1e6 / b }')" \
		most "$FULL_BYTES"
	bar "time / the links' bound" \
		"$(ratio "$(median full "$name" quicklayer 5)" "$bound")" \
		most "$FULL_TIME"
	has full "$name" containerd || return 0
	bar "containerd's time / ours" \
		"$(ratio "$(median full "$name" containerd 5)" \
			"$(median full "$name" quicklayer 5)")" \
		least "$FULL_OTHERS"
}

part_full()
{
	local name who run runs
	for name in $WORKLOADS; do
		workload "$name"
		for who in $CONTENDERS; do
			runs=$(runs_of "$who")
			for ((run = 1; run <= runs; run++)); do
				full_once "$name" "$who" "$run"
			done
		done
		table full "$name"
		full_bars "$name"
	done
}

# ---- update ----

# update_once WHO RUN NAME: on MEMBERS, which have the first image.
update_once()
{
	local who=$1 run=$2 as=$3
	"${who}_ready"
	fleet pull "$who" "$REGISTRY/python:${TAG[$who]}"
	came "update $as: before it"
	cold "$QL" "${QL}d"
	begin
	fleet pull "$who" "$REGISTRY/python:${NEXT[$who]}"
	record update python "$as" "$run"
	came "update $as"
	"${who}_end"
}

part_update()
{
	local who run runs new
	for who in $CONTENDERS; do
		[ "$who" != podman ] || continue # as containerd
		runs=$(runs_of "$who")
		for ((run = 1; run <= runs; run++)); do
			everyone
			update_once "$who" "$run" "$who"
			[ "$who" = quicklayer ] || continue
			MEMBERS=1.1
			update_once "$who" "$run" "$who-one"
		done
	done
	new=$(cat "$CACHE/second")
	table update python
	has update python quicklayer || return 0
	echo "  new: $((new / 1000000)) MB of files"
	bar "fullest uplink's bytes / new bytes" \
		"$(awk -v a="$(uplink update python quicklayer)" -v b="$new" \
			'BEGIN { printf "%.2f", a * 1e6 / b }')" \
		most "$UPDATE_BYTES"
}

# ---- warm ----

warm_once()
{
	local name=$1 how=$2 run=$3 ref=$REGISTRY/$1:ql
	everyone
	quicklayer_ready
	everyone 1
	fleet pull quicklayer "$ref"
	came "warm $name: the first site"
	everyone 2
	cold "$QL" "${QL}d"
	begin
	fleet "$how" quicklayer "$ref"
	record warm "$name" "quicklayer-$how" "$run"
	came "warm $name $how"
	quicklayer_end
}

# The same with the first site as empty as the second.
cold_once()
{
	everyone
	quicklayer_ready
	everyone 2
	cold "$QL" "${QL}d"
	begin
	fleet pull quicklayer "$REGISTRY/$1:ql"
	record warm "$1" quicklayer-cold "$2"
	came "warm $1: none is"
	quicklayer_end
}

part_warm()
{
	local name run how
	[[ " $CONTENDERS " == *" quicklayer "* ]] || return 0
	for name in $WORKLOADS; do
		workload "$name"
		for how in run pull; do
			for ((run = 1; run <= RUNS; run++)); do
				warm_once "$name" "$how" "$run"
			done
		done
		for ((run = 1; run <= RUNS; run++)); do
			cold_once "$name" "$run"
		done
		table warm "$name"
		bar "time of a full pull / where no site is warm" \
			"$(ratio "$(median warm "$name" quicklayer-pull 5)" \
				"$(median warm "$name" quicklayer-cold 5)")" \
			most "$WARM_TIME"
	done
}
