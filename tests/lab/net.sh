#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Two network namespaces joined by a link of a set rate and round-trip time
# (delay.c), a registry in the one, clients in the other.  Sourced after lib.sh;
# at the end all of it goes, however the story ends.
#
#	net_up MBIT MS [BYTES]    (a queue of BYTES; delay.c chooses one if not)
#	net_registry STORAGE      $REGISTRY (host:port) in the server's namespace
#	net_client COMMAND...     run it in the client's namespace
#	net_down
#
# Names are of this run alone, and so are the addresses: nothing outside of the
# two namespaces is routed to them.

NET_CLIENT=ql-c-$$ NET_SERVER=ql-s-$$
NET_CLIENT_IP=10.77.0.1 NET_SERVER_IP=10.77.0.2
NET_PID=
# nsenter, not "ip netns exec": that makes a private mount namespace and mounts
# /sys again, which hides FUSE mounts and cgroups.
NET_IN_CLIENT=(nsenter "--net=/run/netns/$NET_CLIENT" --)
NET_IN_SERVER=(nsenter "--net=/run/netns/$NET_SERVER" --)

net_client()
{
	"${NET_IN_CLIENT[@]}" "$@"
}

net_server()
{
	"${NET_IN_SERVER[@]}" "$@"
}

# An end of the link: its namespace and addresses.  IPv6 would only talk to
# itself.
net_end_make()
{
	local ns=$1 mine=$2 theirs=$3
	ip -n "$ns" link set lo up &&
		nsenter "--net=/run/netns/$ns" sh -c \
			'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6' &&
		ip -n "$ns" addr add "$mine" peer "$theirs" dev ql0 &&
		ip -n "$ns" link set ql0 mtu 1500 txqueuelen 2000 up
}

net_up()
{
	local ns
	net_down
	for ns in "$NET_CLIENT" "$NET_SERVER"; do
		ip netns add "$ns" || bail "no network namespaces here"
	done
	rm -f "$TMP/link.log" # the last link's "ready"
	lab_start link "$B/tests/lab/delay" --rate "$1" --rtt "$2" \
		${3:+--queue "$3"} "$NET_CLIENT/ql0" "$NET_SERVER/ql0"
	NET_PID=$LAB_PID
	wait_for 5 grep -q ready "$TMP/link.log" ||
		bail "the link: $(cat "$TMP/link.log")"
	net_end_make "$NET_CLIENT" $NET_CLIENT_IP $NET_SERVER_IP &&
		net_end_make "$NET_SERVER" $NET_SERVER_IP $NET_CLIENT_IP ||
		bail "the link's addresses"
}

net_down()
{
	local ns
	[ -z "$NET_PID" ] || lab_end "$NET_PID"
	NET_PID=
	for ns in "$NET_CLIENT" "$NET_SERVER"; do
		[ ! -e "/run/netns/$ns" ] || ip netns del "$ns"
	done
}
LAB_AT_EXIT+=(net_down)

# net_registry STORAGE: its requests are in the log that net_requests reads.
# shellcheck disable=SC2034
net_registry()
{
	local REGISTRY_IN=("${NET_IN_SERVER[@]}")
	local REGISTRY_HOST=$NET_SERVER_IP REGISTRY_ACCESS=1
	REGISTRY_DIR_KEEP=$1 start_registry net-registry
}

# ---- counters ----

# What went over the link since it was made or since net_reset: delay.c's JSON.
net_counters()
{
	net_signal USR1
}

# The same, and counts anew.
net_reset()
{
	net_signal USR2
	NET_LOG_FROM=$(net_log | wc -l)
}

net_signal()
{
	local before i
	before=$(wc -l <"$TMP/link.log")
	kill -"$1" "$NET_PID" || bail "the link is gone"
	for ((i = 0; i < 1000; i++)); do
		[ "$(wc -l <"$TMP/link.log")" = "$before" ] || break
		sleep 0.002
	done
	tail -1 "$TMP/link.log"
}

# The registry's access log, of what the client asked alone.
net_log()
{
	grep -a "^$NET_CLIENT_IP - .* /v2/" "$TMP/net-registry.log" 2>/dev/null
}

# The requests since net_reset.
net_requests()
{
	net_log | tail -n "+$((${NET_LOG_FROM:-0} + 1))"
}

# As if they had never met: the kernel remembers round-trip times and windows
# of addresses across connections.
net_forget()
{
	net_client ip tcp_metrics flush all
	net_server ip tcp_metrics flush all
}
