#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-cooperate.sh's part "faults"; sourced there.  All of the image comes to
# all nodes, and in the middle of it
#
#   kill     an agent is killed
#   cut      an uplink is cut for CUT_S seconds (10)
#   garbage  one node sends garbage whenever it is asked (garble.py)
#   slow     one node's link has 1 % of its rate
#
# Every other node must have all of it, start a container from it, and take at
# most FAULT_TIME times as long as without a fault (the cut's seconds are
# added).  The same for containers that start at once ("run").
#
#   FAULTS    these alone (all four)    FAULTS_OF  ("run pull")
# shellcheck disable=SC2034,SC2153,SC2154

CUT_S=${CUT_S:-10}
FAULTS=${FAULTS:-kill cut garbage slow}
FAULTS_OF=${FAULTS_OF:-run pull}
VICTIM=1.2

fault_ready()
{
	local fault=$1 at
	member $VICTIM
	at=$(node_address "$S" "$N")
	if [ "$fault" = garbage ]; then
		# The others ask the port that garbles; it knows itself by its
		# process, not by the port.
		PEERS=1 NODE_PORT=7701 node_agent "$S" "$N"
		node_ready "$S" "$N"
		lab_start garble "${IN[@]}" python3 "$LAB/garble.py" \
			"$at:7700" "$at:7701"
		GARBLE=$LAB_PID
		MEMBERS=${MEMBERS/ $VICTIM/} quicklayer_ready
	else
		quicklayer_ready
	fi
	member $VICTIM
	[ "$fault" != slow ] || node_slow "$S" "$N" \
		"$(awk -v l="$LAN" 'BEGIN { print l / 100 }')"
}

# fault_later FAULT SECONDS: what happens in the middle, by then.
fault_later()
{
	sleep "$2"
	case $1 in
	kill)
		kill -9 "${AGENTS[$VICTIM]}"
		;;
	cut)
		kill -HUP "${SITES_LINK[1]}"
		sleep "$CUT_S"
		kill -HUP "${SITES_LINK[1]}"
		;;
	esac
}

fault_end()
{
	member $VICTIM
	[ "$1" != garbage ] || lab_end "$GARBLE"
	[ "$1" != slow ] || node_slow "$S" "$N" "$LAN"
	quicklayer_end
}

# The victim of some is not held to anything.
fault_judge()
{
	case $1 in
	kill | slow)
		sed -i "/^$VICTIM	/d" "$TMP/fleet"
		MEMBERS=${MEMBERS/ $VICTIM/}
		counted
		;;
	esac
}

# fault_once WORKLOAD HOW FAULT AFTER
fault_once()
{
	local name=$1 how=$2 fault=$3 ref=$REGISTRY/$1:ql pid
	everyone
	fault_ready "$fault"
	cold "$QL" "${QL}d"
	begin
	fault_later "$fault" "$4" &
	pid=$!
	fleet "$how" quicklayer "$ref"
	wait "$pid"
	fault_judge "$fault"
	record faults "$name" "$how-$fault" 1
	came "faults $name $how-$fault"
	if [ "$how" = pull ]; then
		fleet run quicklayer "$ref"
		fault_judge "$fault"
		came "faults $name: containers after $fault"
	fi
	fault_end "$fault"
}

# fault_bar WORKLOAD HOW FAULT
fault_bar()
{
	local got was extra=0
	was=$(median faults "$1" "$2-none" 5)
	[ "$3" != cut ] || extra=$CUT_S
	got=$(median faults "$1" "$2-$3" 5)
	bar "$2: time with $3 / without$([ "$3" != cut ] ||
		echo ", beyond the cut's $CUT_S s")" \
		"$(awk -v g="$got" -v w="$was" -v e="$extra" \
			'BEGIN { printf "%.2f", (g - e) / w }')" \
		most "$FAULT_TIME"
}

part_faults()
{
	local name how fault middle
	[[ " $CONTENDERS " == *" quicklayer "* ]] || return 0
	for name in $WORKLOADS; do
		workload "$name"
		for how in $FAULTS_OF; do
			fault_once "$name" "$how" none 0
			middle=$(awk -v t="$LAST" 'BEGIN { print t / 3 }')
			for fault in $FAULTS; do
				fault_once "$name" "$how" "$fault" "$middle"
			done
		done
		table faults "$name"
		for how in $FAULTS_OF; do
			for fault in $FAULTS; do
				fault_bar "$name" "$how" "$fault"
			done
		done
	done
}
