#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Sites of nodes at the edge, each node a network namespace: a switch and a
# router at each site, a link of a set rate between the switch and each node,
# an uplink of a set rate and round-trip time (delay.c) between the router and
# the core, where the registry is.  Sites reach each other through the core,
# over both uplinks.  Sourced after lib.sh; at the end all of it goes, however
# the story ends.  SITE and NODE count from 1.
#
#	sites_up SITES NODES [MBIT_LAN MBIT_UPLINK RTT_MS]    (400 100 20)
#	sites_registry STORAGE         $REGISTRY (host:port) in the core; its
#	                               log is $TMP/$SITES_LOG.log
#	site_node SITE NODE COMMAND... run it on a node (site_in sets IN to what
#	                               to run a command by, to exec it)
#	core COMMAND...                run it in the core
#	node_address SITE NODE
#	site_bytes SITE                what came down and went up over the uplink
#	                               since sites_reset: "DOWN UP"
#	sites_reset                    the counters of all sites, and the
#	                               registry's log
#	sites_requests                 the registry's log since then
#	sites_forget                   what kernels remember of addresses
#	site_cut SITE, site_mend SITE  nothing passes the uplink; again
#	node_slow SITE NODE MBIT       the node's link at that rate, both ways
#	sites_down
#
# Agents, each with a store of its own below $NODE_STORES:
#
#	node_agent SITE NODE [LINE...] starts it; LINEs are added to its YAML
#	node_ready SITE NODE           waits for it
#	node_ql SITE NODE ARGUMENT...  quicklayer there
#	node_kill SITE NODE            -9
#	node_wipe SITE NODE            ends it, and its store is gone
#	agent_rss SITE NODE            kB
#
# PEERS=1 (the default) lets the agents ask each other, PEERS=0 does not; they
# listen at port 7700, or at NODE_PORT, where somebody else is at the former.
# NODE_STORES is where stores are ($TMP/nodes), NODE_MORE what is added to the
# YAML of all agents.
# Namespaces have names of this run alone, and nothing outside of them is routed
# to their addresses.

NODE_STORES=${NODE_STORES:-$TMP/nodes}
PEERS=${PEERS:-1}
NODE_MORE=${NODE_MORE:-}
SITES_CORE=ql-core-$$ SITES_CORE_IP=10.79.0.1
SITES_N=0 SITES_PER=0 SITES_LAN=400 SITES_LOG=sites-registry
declare -A SITES_LINK=() SITES_CUT=() AGENTS=()

# ---- names ----

site_router()
{
	echo "ql-r$1-$$"
}

node_ns()
{
	echo "ql-n$1-$2-$$"
}

node_address()
{
	echo "10.78.$1.$((10 + $2))"
}

site_name()
{
	echo "site$1"
}

node_name()
{
	echo "site$1-node$2"
}

# ---- running there ----

# nsenter, not "ip netns exec": see net.sh.
in_ns()
{
	local ns=$1
	shift
	nsenter "--net=/run/netns/$ns" -- "$@"
}

core()
{
	in_ns "$SITES_CORE" "$@"
}

# shellcheck disable=SC2034
site_in()
{
	IN=(nsenter "--net=/run/netns/$(node_ns "$1" "$2")" --)
}

site_node()
{
	local ns
	ns=$(node_ns "$1" "$2")
	shift 2
	in_ns "$ns" "$@"
}

# ---- making them ----

# A namespace that forwards, without IPv6, which would only talk to itself.
sites_ns()
{
	ip netns add "$1" || bail "no network namespaces here"
	ip -n "$1" link set lo up &&
		in_ns "$1" sh -c 'cd /proc/sys/net &&
			echo 1 >ipv6/conf/all/disable_ipv6 &&
			echo 1 >ipv6/conf/default/disable_ipv6 &&
			echo 1 >ipv4/ip_forward' || bail "$1: settings"
}

# sites_shape HOW NS DEV MBIT: room for some segments as large as the kernel
# hands them on, and 25 ms of a queue.
sites_shape()
{
	local burst=262144
	[ "$(printf '%.0f' "$4")" -ge 100 ] || burst=65536
	in_ns "$2" tc qdisc "$1" dev "$3" root tbf rate "${4}mbit" \
		burst $burst latency 25ms || bail "$2 $3: tc"
}

node_make()
{
	local s=$1 n=$2 ns router
	ns=$(node_ns "$s" "$n") router=$(site_router "$s")
	sites_ns "$ns"
	ip -n "$router" link add "n$n" type veth peer name eth0 netns "$ns" &&
		ip -n "$router" link set "n$n" master lan up &&
		ip -n "$ns" addr add "$(node_address "$s" "$n")/24" dev eth0 &&
		ip -n "$ns" link set eth0 up &&
		ip -n "$ns" route add default via "10.78.$s.1" ||
		bail "$ns: link"
	sites_shape add "$router" "n$n" "$SITES_LAN"
	sites_shape add "$ns" eth0 "$SITES_LAN"
}

# site_make SITE NODES MBIT_UPLINK RTT_MS
site_make()
{
	local s=$1 router n
	router=$(site_router "$s")
	sites_ns "$router"
	rm -f "$TMP/uplink$s.log" # the last one's "ready"
	lab_start "uplink$s" "$B/tests/lab/delay" --rate "$3" --rtt "$4" \
		--slack 500 "$router/wan" "$SITES_CORE/site$s"
	SITES_LINK[$s]=$LAB_PID
	wait_for 5 grep -q ready "$TMP/uplink$s.log" ||
		bail "uplink $s: $(cat "$TMP/uplink$s.log")"
	ip -n "$router" link add lan type bridge &&
		ip -n "$router" addr add "10.78.$s.1/24" dev lan &&
		ip -n "$router" link set lan up &&
		ip -n "$router" link set wan mtu 1500 txqueuelen 2000 up &&
		ip -n "$router" route add default dev wan &&
		ip -n "$SITES_CORE" link set "site$s" mtu 1500 \
			txqueuelen 2000 up &&
		ip -n "$SITES_CORE" route add "10.78.$s.0/24" dev "site$s" ||
		bail "site $s: addresses"
	for ((n = 1; n <= $2; n++)); do
		node_make "$s" "$n"
	done
}

sites_up()
{
	local s
	sites_down
	SITES_LAN=${3:-400}
	sites_ns "$SITES_CORE"
	# Not of a link, so that it stays when one goes.
	ip -n "$SITES_CORE" addr add "$SITES_CORE_IP/32" dev lo ||
		bail "the core's address"
	SITES_N=$1 SITES_PER=$2
	for ((s = 1; s <= SITES_N; s++)); do
		site_make "$s" "$2" "${4:-100}" "${5:-20}"
	done
	sites_reset
}

sites_down()
{
	local s n ns
	for ((s = 1; s <= SITES_N; s++)); do
		for ((n = 1; n <= SITES_PER; n++)); do
			node_end "$s" "$n"
		done
		[ -z "${SITES_LINK[$s]:-}" ] || lab_end "${SITES_LINK[$s]}"
	done
	SITES_N=0 SITES_LINK=() SITES_CUT=()
	for ns in /run/netns/ql-core-$$ /run/netns/ql-[rn][0-9]*-"$$"; do
		[ ! -e "$ns" ] || ip netns del "${ns##*/}"
	done
}
LAB_AT_EXIT+=(sites_down)

# shellcheck disable=SC2034
sites_registry()
{
	local REGISTRY_IN=(nsenter "--net=/run/netns/$SITES_CORE" --)
	local REGISTRY_HOST=$SITES_CORE_IP REGISTRY_ACCESS=1
	REGISTRY_DIR_KEEP=$1 start_registry "$SITES_LOG"
	SITES_LOG_FROM=$(sites_log | wc -l)
}

# ---- counters ----

# site_signal SITE USR1|USR2: prints its counters, delay.c's JSON.
site_signal()
{
	local log=$TMP/uplink$1.log before i
	before=$(wc -l <"$log")
	kill -"$2" "${SITES_LINK[$1]}" || bail "uplink $1 is gone"
	for ((i = 0; i < 1000; i++)); do
		[ "$(wc -l <"$log")" = "$before" ] || break
		sleep 0.002
	done
	tail -1 "$log"
}

site_bytes()
{
	site_signal "$1" USR1 | jq -r '"\(.down.bytes) \(.up.bytes)"'
}

sites_reset()
{
	local s
	for ((s = 1; s <= SITES_N; s++)); do
		site_signal "$s" USR2 >/dev/null
	done
	SITES_LOG_FROM=$(sites_log | wc -l)
}

# Of what nodes asked alone.
sites_log()
{
	grep -a '^10\.78\..* /v2/' "$TMP/$SITES_LOG.log" 2>/dev/null
}

sites_requests()
{
	sites_log | tail -n "+$((${SITES_LOG_FROM:-0} + 1))"
}

sites_forget()
{
	local s n
	core ip tcp_metrics flush all
	for ((s = 1; s <= SITES_N; s++)); do
		for ((n = 1; n <= SITES_PER; n++)); do
			site_node "$s" "$n" ip tcp_metrics flush all
		done
	done
}

# ---- faults ----

site_cut()
{
	[ -z "${SITES_CUT[$1]:-}" ] || return 0
	kill -HUP "${SITES_LINK[$1]}" && SITES_CUT[$1]=1
}

site_mend()
{
	[ -n "${SITES_CUT[$1]:-}" ] || return 0
	kill -HUP "${SITES_LINK[$1]}" && SITES_CUT[$1]=
}

node_slow()
{
	sites_shape change "$(site_router "$1")" "n$2" "$3"
	sites_shape change "$(node_ns "$1" "$2")" eth0 "$3"
}

# ---- agents ----

node_root()
{
	echo "$NODE_STORES/$1.$2"
}

# All nodes' addresses, as a YAML list.
node_list()
{
	local s n list=""
	for ((s = 1; s <= SITES_N; s++)); do
		for ((n = 1; n <= SITES_PER; n++)); do
			list+=", \"$(node_address "$s" "$n"):7700\""
		done
	done
	echo "[${list:2}]"
}

# node_config SITE NODE [LINE...]
node_config()
{
	local s=$1 n=$2
	shift 2
	echo "root: $(node_root "$s" "$n")/store"
	[ "$PEERS" = 0 ] || cat <<-YAML
		peers:
		  name: $(node_name "$s" "$n")
		  site: $(site_name "$s")
		  listen: "$(node_address "$s" "$n"):${NODE_PORT:-7700}"
		  list: $(node_list)
		  allow: ["10.78.0.0/16"]
	YAML
	printf '%s\n' "$NODE_MORE" "$@"
}

node_agent()
{
	local s=$1 n=$2 root IN
	root=$(node_root "$s" "$n")
	mkdir -p "$root"
	node_config "$@" >"$root/agent.yaml"
	site_in "$s" "$n"
	lab_start "agent.$s.$n" "${IN[@]}" \
		env REGISTRY_AUTH_FILE="$TMP/none" "${QL}d" \
		--config "$root/agent.yaml"
	AGENTS[$s.$n]=$LAB_PID
}

node_ready()
{
	lab_ready "agent.$1.$2" "${AGENTS[$1.$2]}" || bail "quicklayerd $1.$2"
}

node_ql()
{
	local s=$1 n=$2 IN
	shift 2
	site_in "$s" "$n"
	QUICKLAYER_ROOT=$(node_root "$s" "$n")/store \
		REGISTRY_AUTH_FILE=$TMP/none "${IN[@]}" "$QL" "$@"
}

node_kill()
{
	local pid=${AGENTS[$1.$2]:-}
	[ -n "$pid" ] || return 1
	lab_forget "$pid"
	kill -9 "$pid" && wait "$pid" 2>/dev/null
	AGENTS[$1.$2]=
}

node_end()
{
	local pid=${AGENTS[$1.$2]:-}
	[ -z "$pid" ] || lab_end "$pid"
	AGENTS[$1.$2]=
	mv -f "$TMP/agent.$1.$2.log" "$TMP/agent.$1.$2.before.log" 2>/dev/null ||
		:
}

node_wipe()
{
	local root
	node_end "$1" "$2"
	root=$(node_root "$1" "$2")
	[ ! -d "$root" ] || {
		lab_umount_below "$root"
		rm -rf --one-file-system "$root"
	}
}

agent_rss()
{
	awk '/^VmHWM/ { print $2 }' "/proc/${AGENTS[$1.$2]}/status"
}
