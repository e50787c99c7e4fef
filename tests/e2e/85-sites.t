#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The lab's sites: links of the rates and round trips that they say, uplinks
# that are counted, cut and mended, nodes that reach each other and the core,
# agents with stores of their own, and nothing left behind.
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/sites.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/net/tun ] || skip_all "needs /dev/net/tun"
ip netns add "$SITES_CORE" 2>/dev/null || skip_all "needs network namespaces"
ip netns del "$SITES_CORE"
busybox=$(command -v busybox) || skip_all "needs busybox"

between()
{
	ok "$4: $1" awk -v n="$1" -v a="$2" -v b="$3" \
		'BEGIN { exit !(n >= a && n <= b) }'
}

# rtt SITE NODE ADDRESS: ms; the median, which a busy machine does not move.
rtt()
{
	site_node "$1" "$2" "$busybox" ping -c 9 -i 0.1 -W 2 "$3" |
		sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | sort -n | sed -n 5p
}

# serve COMMAND...: an HTTP server of $TMP/www by that, on port 80.
serve()
{
	lab_start "httpd$RANDOM" "$@" "$busybox" httpd -f -p 80 -h "$TMP/www"
	wait_for 5 "$@" curl -sf -o /dev/null http://127.0.0.1/small ||
		bail "httpd"
}

# rate SITE NODE URL LEAST: Mbit/s, of three tries the first that is at least
# that: what else the machine does makes it slower, and never faster.
rate()
{
	local i got
	for i in 1 2 3; do
		got=$(site_node "$1" "$2" curl -sf -o /dev/null \
			-w '%{speed_download}' "$3" |
			awk '{ printf "%.1f", $1 * 8 / 1e6 }')
		[ "${got%.*}" -lt "$4" ] || break
	done
	echo "$got"
}

reaches()
{
	site_node "$1" "$2" curl -sf -m "${4:-5}" -o /dev/null "http://$3/small"
}

mkdir -p "$TMP/www"
head -c 30000000 /dev/urandom >"$TMP/www/large"
head -c 1000000 /dev/urandom >"$TMP/www/middle"
echo small >"$TMP/www/small"

sites_up 2 2
for where in 1.1 2.1; do
	site_in "${where%.*}" "${where#*.}"
	serve "${IN[@]}"
done
serve nsenter "--net=/run/netns/$SITES_CORE" --
here=$(node_address 1 1) there=$(node_address 2 1)

between "$(rtt 1 2 "$here")" 0 1 "round trip within a site, ms"
between "$(rtt 1 2 "$SITES_CORE_IP")" 20 22 "to the core"
between "$(rtt 1 2 "$there")" 40 43 "to another site"
# curl counts what is in the packets: 1448 bytes of each 1514 by the link.
between "$(rate 1 2 "http://$here/large" 360)" 360 400 \
	"Mbit/s of 400 within a site"
between "$(rate 1 2 "http://$SITES_CORE_IP/large" 82)" 82 97 \
	"Mbit/s of 100 from the core"

sleep 0.2 # connections' ends
sites_reset
site_node 1 2 curl -sf -o /dev/null "http://$here/middle"
read -r down up < <(site_bytes 1)
between $((down + up)) 0 5000 "what stays within a site is not on its uplink"
site_node 1 2 curl -sf -o /dev/null "http://$there/middle"
read -r down up < <(site_bytes 1)
between "$down" 1020000 1080000 "from another site it comes down this uplink"
read -r down up < <(site_bytes 2)
between "$up" 1020000 1080000 "and went up the other's"
sleep 0.2
sites_reset
read -r down up < <(site_bytes 2)
between $((down + up)) 0 5000 "counters begin anew"

site_cut 1
fails "nothing passes an uplink that is cut" 28 site_node 1 1 \
	curl -s -m 1 "http://$SITES_CORE_IP/small"
ok "within the site all goes on" reaches 1 2 "$here"
ok "and at other sites" reaches 2 2 "$SITES_CORE_IP"
site_cut 1
site_mend 1
ok "it is mended" reaches 1 1 "$SITES_CORE_IP"

node_slow 1 2 4
between "$(rate 1 2 "http://$here/middle" 2)" 2 4.2 \
	"Mbit/s of a node slowed to 4"
node_slow 1 2 400
between "$(rate 1 2 "http://$here/large" 360)" 360 400 "and no longer"

# A registry in the core, and an agent that pulls from it.
sites_registry "$TMP/registry"
echo content >"$TMP/file"
tar -C "$TMP" -cf "$TMP/layer.tar" file &&
	make_image "$TMP/oci" t "$TMP/layer.tar" >/dev/null &&
	core skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
		"oci:$TMP/oci:t" "docker://$REGISTRY/lab:t" || bail "image"
sites_reset
PEERS=0
for n in 1 2; do
	node_agent 1 "$n"
	node_ready 1 "$n"
done
ok "a node pulls from the core" \
	node_ql 1 1 pull --plain-http -q "$REGISTRY/lab:t"
like "$(sites_requests)" "^$here .*/manifests/" \
	"its requests are in the registry's log"
ok "its store has the image" grep -q lab:t <(node_ql 1 1 images)
is "$(node_ql 1 2 images | grep -c lab:t)" 0 "another's has not"
pid=${AGENTS[1.1]}
node_kill 1 1
ok "an agent is killed" test ! -e "/proc/$pid"
node_wipe 1 1
ok "and its store is gone" test ! -e "$(node_root 1 1)"

sites_down
is "$(ip netns list | grep -c -e "-$$\\b")" 0 "no namespace is left"
is "$(pgrep -f "delay.*-$$/wan" | wc -l)" 0 "nor an uplink's program"

# Also where a story ends in the middle.
cat >"$TMP/broken.sh" <<-SCRIPT
	. "$LAB/lib.sh"
	. "$LAB/sites.sh"
	sites_up 1 2
	echo \$\$ >"$TMP/broken.pid"
	bail "on purpose"
SCRIPT
fails "a story that ends in the middle" 1 env B="$B" bash "$TMP/broken.sh"
is "$(ip netns list | grep -c -e "-$(cat "$TMP/broken.pid")\\b")" 0 \
	"leaves no namespace either"
done_testing
