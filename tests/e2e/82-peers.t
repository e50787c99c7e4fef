#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Nodes of one site that need the same image at once: each byte comes from the
# registry about once.  One that dies, and peers that stall, send garbage, too
# much, or what nobody asked for, fail no pull and no read.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json
unset QUICKLAYER_SOCKET QUICKLAYER_ROOT
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/conf"
echo '{"retries": 1}' >"$TMP/conf/registries.json"

REGISTRY_ACCESS=1 lazy_image 20
mkdir -p "$TMP/plain"
for i in 1 2 3; do
	head -c 5000000 /dev/urandom >"$TMP/plain/file$i"
done
tar -C "$TMP/plain" -cf "$TMP/plain.tar" . &&
	make_image "$TMP/oci2" t "$TMP/plain.tar:gzip" >/dev/null &&
	push_image "oci:$TMP/oci2:t" lab:plain || bail "plain image"
PLAIN=$REGISTRY/lab:plain

# ---- nodes ----

declare -A PORTS PIDS
# agent NAME [PEER-PORT]...
agent()
{
	local name=$1 port list=
	shift
	for port; do
		list+=${list:+, }127.0.0.1:$port
	done
	[ -n "${PORTS[$name]:-}" ] || PORTS[$name]=$(free_port)
	cat >"$TMP/$name.yaml" <<-YAML
		root: $TMP/$name
		registries: $TMP/conf
		background_rate: 0
		read_timeout: 20s
		peers:
		  listen: 127.0.0.1:${PORTS[$name]}
		  name: $name
		  list: [$list]
		  ${RELAY:+relay: $RELAY}
	YAML
	lab_start "agent-$name" "$B/quicklayerd" --config "$TMP/$name.yaml" \
		--log-level debug
	PIDS[$name]=$LAB_PID
	lab_ready "agent-$name" || bail "$name"
}
agent_end()
{
	lab_end "${PIDS[$1]}"
	lab_umount_below "$TMP/$1"
}
ql()
{
	QUICKLAYER_ROOT=$TMP/$1 "$QL" "${@:2}"
}
dir()
{
	echo "$TMP/$1/agent/mnt/images/$2"
}
# live NAME PORT...: it has heard of these.
live()
{
	local port
	for port in "${@:2}"; do
		grep -q "msg=\"a peer\" peer=127.0.0.1:$port self=0" \
			"$TMP/agent-$1.log" || return 1
	done
}
all_live()
{
	live a "${PORTS[b]}" "${PORTS[c]}" && live b "${PORTS[a]}" \
		"${PORTS[c]}" && live c "${PORTS[a]}" "${PORTS[b]}"
}
reads_all()
{
	timeout 120 diff -r -x '.no.prefetch.landmark' -x stargz.index.json \
		"$(dir "$1" "$2")/" "$3"
}
# together COMMAND [ARGUMENT]...: with each node's name behind the command; all
# of them succeed.
together()
{
	local pids=() p bad=0
	for n in a b c; do
		"$1" "$n" "${@:2}" &
		pids+=($!)
	done
	for p in "${pids[@]}"; do
		wait "$p" || bad=1
	done
	return "$bad"
}
# once TAG DESCRIPTION: since the mark, its layers came about once.
once()
{
	local n all
	n=$(sent) all=$(size "$1")
	awk -v n="$n" -v s="$all" 'BEGIN { exit !(n >= s * 0.98 && n < s * 1.15) }' &&
		pass "$2" || fail "$2: $n of $all bytes"
}
pull()
{
	ql "$1" pull -q "${@:2}" >"$TMP/pull-$1.log" 2>&1
}

for n in a b c; do
	PORTS[$n]=$(free_port)
done
agent a "${PORTS[@]}"
agent b "${PORTS[@]}"
agent c "${PORTS[@]}"
ok "three nodes know each other, and not themselves" wait_for 15 all_live

# ---- at once ----

mark
ok "three nodes pull an image at once, whole" together pull "$PLAIN"
once plain "... and each of its bytes came from the registry about once"
ok "... and all have it" together reads_all "$PLAIN" "$TMP/plain"
mark
ok "three nodes pull another, to be read" together pull --lazy "$IMAGE"
ok "... and read all of it at once" together reads_all "$IMAGE" "$TMP/files"
once t "... and each of its bytes came from the registry about once"

# ---- one dies ----

for n in a b c; do
	agent_end $n
	rm -rf "${TMP:?}/$n"
done
agent a "${PORTS[@]}"
agent b "${PORTS[@]}"
agent c "${PORTS[@]}"
ok "again" wait_for 15 all_live
kill -STOP "${PIDS[c]}"
start=$SECONDS
ok "one node hangs: another pulls" pull a "$PLAIN"
[ $((SECONDS - start)) -lt 15 ] && pass "... soon" ||
	fail "... soon: $((SECONDS - start)) s"
ok "... and has it" reads_all a "$PLAIN" "$TMP/plain"
kill -CONT "${PIDS[c]}"
pull b --lazy "$IMAGE"
reads_all b "$IMAGE" "$TMP/files" >/dev/null 2>&1 &
reader=$!
sleep 0.1
kill -9 "${PIDS[c]}"
wait $reader && pass "one node is killed while another reads" ||
	fail "one node is killed while another reads"
lab_umount_below "$TMP/c"
agent_end a
agent_end b

# ---- bad ones ----

for how in ${HOW:-garbage stall stallbody slow drip cut more other whole redirect \
	none error busy headers}; do
	rm -rf "${TMP:?}/a"
	port=$(free_port)
	lab_start "bad-$how" python3 "$LAB/badpeer.py" "$how" "$port" default \
		"$TMP/bad-$how.asked"
	bad=$LAB_PID
	# One that fetches nothing itself knows nothing of the registry.
	RELAY=
	[ "$how" != drip ] || RELAY=0
	agent a "$port"
	wait_for 10 live a "$port" || fail "$how: is known"
	ok "$how: a pull" timeout 60 env QUICKLAYER_ROOT="$TMP/a" "$QL" pull -q \
		"$PLAIN"
	[ -s "$TMP/bad-$how.asked" ] || fail "$how: was asked"
	ok "... is right" reads_all a "$PLAIN" "$TMP/plain"
	sleep 3 # it is not asked again at once
	ok "$how: a pull, to be read" timeout 60 env QUICKLAYER_ROOT="$TMP/a" \
		"$QL" pull -q --lazy "$IMAGE"
	ok "... is right" reads_all a "$IMAGE" "$TMP/files"
	agent_end a
	lab_end "$bad"
done

done_testing
