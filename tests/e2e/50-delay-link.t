#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The lab's link: it delays by what it says, lets through what it says, counts
# what it lets through, and leaves nothing behind.
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/net.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/net/tun ] || skip_all "needs /dev/net/tun"
ip netns add "$NET_CLIENT" 2>/dev/null || skip_all "needs network namespaces"
busybox=$(command -v busybox) || skip_all "needs busybox"

# between GOT LEAST MOST DESCRIPTION
between()
{
	ok "$4: $1" awk -v n="$1" -v a="$2" -v b="$3" \
		'BEGIN { exit !(n >= a && n <= b) }'
}

counter()
{
	net_counters | jq ".$1"
}

requests_are()
{
	[ "$(net_requests | wc -l)" = "$1" ]
}

# Round-trip time by ping, ms: the median, which a busy machine does not move.
rtt()
{
	net_client "$busybox" ping -c 15 -i 0.1 -W 2 "$NET_SERVER_IP" |
		sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | sort -n | sed -n 8p
}

# An HTTP server of the folder $TMP/www.
serve()
{
	lab_start httpd "${NET_IN_SERVER[@]}" "$busybox" httpd -f \
		-p "$NET_SERVER_IP:80" -h "$TMP/www"
	wait_for 5 net_server curl -sf -o /dev/null \
		"http://$NET_SERVER_IP/small" || bail "httpd"
}

get()
{
	net_client curl -sf "http://$NET_SERVER_IP/$1" "${@:2}"
}

received_more_than()
{
	[ "$(counter down.bytes)" -gt "$1" ]
}

# Mbit/s of IP packets, headers and all, once TCP has found its pace: in the
# two seconds that begin when a seventh of the transfer is done.
steady_rate()
{
	local pid a b t0 t1
	get large -o /dev/null &
	pid=$!
	wait_for 20 received_more_than $(($1 + 6000000))
	a=$(counter down.bytes) t0=$EPOCHREALTIME
	sleep 2
	b=$(counter down.bytes) t1=$EPOCHREALTIME
	wait "$pid" || return 1
	awk -v n=$((b - a)) -v t0="$t0" -v t1="$t1" \
		'BEGIN { printf "%.1f", n * 8 / (t1 - t0) / 1e6 }'
}

mkdir -p "$TMP/www"
head -c 42000000 /dev/urandom >"$TMP/www/large"
head -c 1000000 /dev/urandom >"$TMP/www/middle"
echo small >"$TMP/www/small"

for ms in 0 20 60 150; do
	net_up 100 "$ms"
	# Not less, and at most 2 ms or 5 % more.
	between "$(rtt)" "$ms" $((ms + (ms > 40 ? ms / 20 : 2))) \
		"round trip of $ms ms"
	case $ms in
	20 | 150)
		continue
		;;
	esac
	serve
	like "$(get small)" '^small$' "$ms ms: what is sent arrives"
	net_reset >/dev/null
	ok "$ms ms: a MB arrives whole" \
		cmp <(get middle) "$TMP/www/middle"
	between "$(counter down.bytes)" 1020000 1080000 \
		"$ms ms: bytes are counted with their headers"
	is "$(counter up.connections)" 1 "$ms ms: and connections"
	# What else the machine does makes it slower, and a look that comes late
	# makes it seem faster.
	for try in 1 2 3 4 5; do
		rate=$(steady_rate "$(counter down.bytes)")
		[ "${rate%.*}" -lt 90 ] || [ "${rate%.*}" -ge 100 ] || break
	done
	between "$rate" 90 100 "$ms ms: Mbit/s of 100"
	lab_end "$LAB_PID"
done

# A registry at the far end, whose requests are told from our own.
net_registry "$TMP/registry"
net_reset >/dev/null
for i in 1 2 3; do
	net_client curl -s -o /dev/null "http://$REGISTRY/v2/_catalog"
done
ok "a registry's requests are counted" wait_for 5 requests_are 3
is "$(counter up.connections)" 3 "and its connections"
net_reset >/dev/null
ok "anew after a reset" requests_are 0

# A second of 10 Mbit/s at once, with room for a tenth of it.
net_up 10 20 125000
net_server python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(900): s.sendto(bytes(1400), (sys.argv[1], 9000))
' "$NET_CLIENT_IP"
sleep 0.3
between "$(counter down.dropped)" 700 850 "packets beyond the queue are dropped"
between "$(counter down.queue_max)" 100000 127000 "the queue is bounded"

net_down
ok "no namespace is left" test ! -e "/run/netns/$NET_CLIENT"
done_testing
