#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Agents on loopback that know of each other by manifests alone; sourced behind
# lib.sh.
#
#   loop_node NAME SITE [RATE]  starts one; again: with the same port.  RATE is
#                               its background_rate
#   loop_gone NAME              kills it, and removes all that it has
#
# CLUSTER (edge) is theirs; AGENT[NAME] is the pid, PORT[NAME] where it listens.
# shellcheck disable=SC2034

CLUSTER=${CLUSTER:-edge}
declare -A PORT AGENT

loop_node()
{
	PORT[$1]=${PORT[$1]:-$(free_port)}
	cat >"$TMP/$1.yaml" <<-YAML
		root: $TMP/$1
		read_timeout: 10s
		background_rate: ${3:-unlimited}
		peers:
		  listen: 127.0.0.1:${PORT[$1]}
		  name: $1
		  site: $2
		  cluster: $CLUSTER
		  allow: [127.0.0.1]
	YAML
	lab_start "$1" "$B/quicklayerd" --config "$TMP/$1.yaml"
	AGENT[$1]=$LAB_PID
	lab_ready "$1" || bail "$1"
}

loop_gone()
{
	kill -9 "${AGENT[$1]}" 2>/dev/null
	wait "${AGENT[$1]}" 2>/dev/null
	lab_forget "${AGENT[$1]}"
	lab_umount_below "$TMP/$1"
	rm -rf "${TMP:?}/$1"
}
