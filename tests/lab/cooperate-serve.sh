#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench-cooperate.sh's part "serve"; sourced there.  One node that has all of the
# image serves seven at once, without the links between: the agent on one CPU,
# the clients (serving.c, which discard what comes) on the others, against a
# server on that CPU that does nothing but sendfile(2).  The image's largest
# file, then batches of its SMALL small ones.  Rates, the server's CPU time for
# each GB, and the agent's largest memory.
#
#   SERVE_S  seconds of each (5)        SMALL  (1000)
# shellcheck disable=SC2034,SC2153,SC2154

SERVE_S=${SERVE_S:-5}
SMALL=${SMALL:-1000}
SERVE_RATE=0.9   # of sendfile's
SERVE_RSS=64     # MiB
SERVE_CLIENTS=7

# CPU seconds of a process.
cpu_of()
{
	awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, "")
		print ($12 + $13) / hz }' "/proc/$1/stat"
}

# serve_once NAME PID ADDRESS PORT PATH [BODY]: sets RATE (MB/s).
serve_once()
{
	local name=$1 pid=$2 c0 c1 bytes answers seconds
	shift 2
	c0=$(cpu_of "$pid")
	read -r bytes answers seconds < <("${IN[@]}" taskset -c "1-$(nproc)" \
		"$B/tests/lab/serving" fetch $SERVE_CLIENTS "$SERVE_S" "$@")
	c1=$(cpu_of "$pid")
	[ -n "${seconds:-}" ] || {
		say "serve: $name: no answer"
		MISSED=1 RATE=0
		return
	}
	RATE=$(awk -v b="$bytes" -v s="$seconds" \
		'BEGIN { printf "%.0f", b / s / 1e6 }')
	printf '  %-28s %6s MB/s  %5.0f answers/s  %5.2f s of CPU a GB\n' \
		"$name" "$RATE" \
		"$(awk -v a="$answers" -v s="$seconds" 'BEGIN { print a / s }')" \
		"$(awk -v a="$c0" -v b="$c1" -v n="$bytes" \
			'BEGIN { print (b - a) * 1e9 / n }')"
}

part_serve()
{
	local name=${WORKLOADS%% *} large ours pid at path
	[[ " $CONTENDERS " == *" quicklayer "* ]] || return 0
	[ "$(nproc)" -ge 2 ] || return 0
	workload "$name"
	MEMBERS=1.1
	quicklayer_ready
	fleet pull quicklayer "$REGISTRY/$name:ql"
	came "serve: the image"
	member 1.1
	at=$(node_address 1 1) pid=${AGENTS[1.1]}
	find "$ROOT/store/objects" -type f -size +0 -printf '%s %P\n' |
		sort -n >"$TMP/objects"
	path=$(tail -1 "$TMP/objects")
	large=$ROOT/store/objects/${path#* }
	path=${path#* }
	# A few kilobytes each; the frame's length is the file's.
	awk -v n="$SMALL" '$1 > 2000 && n-- > 0 { gsub("/", "", $2)
		print "objects", "sha256:" $2, 0, $1 }' "$TMP/objects" \
		>"$TMP/batch"
	cat "$large" >/dev/null
	echo
	echo "serve, $name: one node to $SERVE_CLIENTS, on one CPU"
	taskset -apc 0 "$pid" >/dev/null
	member 1.1
	serve_once "quicklayerd, one file" "$pid" "$at" 7700 \
		"/v1/objects/sha256:${path//\//}"
	ours=$RATE
	serve_once "quicklayerd, batches" "$pid" "$at" 7700 /v1/batch \
		"$TMP/batch"
	lab_start sendfile "${IN[@]}" taskset -c 0 "$B/tests/lab/serving" \
		serve "$at" 7799 "$large"
	sleep 0.3
	serve_once "sendfile, one file" "$LAB_PID" "$at" 7799 /
	lab_end "$LAB_PID"
	bar "one file: rate / sendfile's" "$(ratio "$ours" "$RATE")" least \
		"$SERVE_RATE"
	bar "the agent's largest memory, MiB" \
		"$(($(agent_rss 1 1) / 1024))" most "$SERVE_RSS"
	quicklayer_end
}
