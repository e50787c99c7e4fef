#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Files from another node: with the registry away, all of an image is read from
# one that has opened it, many chunks in a request; one that lies is found out,
# and no byte of it is seen; one that has less than it says costs nothing but a
# look elsewhere.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json
unset QUICKLAYER_SOCKET QUICKLAYER_ROOT
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/conf"
echo '{"connect_seconds": 1, "stall_seconds": 1, "retries": 0}' \
	>"$TMP/conf/registries.json"
SMALL=200

# What is 64 bytes and less is in its tree where it was opened, and no file of
# its own that others could be given.
mkdir -p "$TMP/files"
for ((i = 1; i <= SMALL; i++)); do
	head -c $((RANDOM * 2 + 100)) /dev/urandom >"$TMP/files/small$i"
done
for i in {1..6}; do
	head -c 3000000 /dev/urandom >"$TMP/files/large$i"
done
tar -C "$TMP/files" -cf "$TMP/files.tar" . &&
	make_image "$TMP/oci" t "$TMP/files.tar" >/dev/null || bail "image"
start_registry
IMAGE=$REGISTRY/lab:t
"$QL" push -q "oci:$TMP/oci:t" "$IMAGE" >/dev/null || bail "push"
# A layer that is gzip, with files that lie in several spans of its index, and
# one with holes.
mkdir -p "$TMP/plain"
for i in 1 2 3; do
	head -c 6000000 /dev/urandom >"$TMP/plain/wide$i"
done
python3 - "$TMP/plain/holes" <<-'PY'
	import os, sys
	with open(sys.argv[1], "wb") as f:
	    f.seek(300000); f.write(os.urandom(5000)); f.seek(9000000)
	    f.write(b"y")
PY
tar -C "$TMP/plain" --sparse -cf "$TMP/plain.tar" . &&
	make_image "$TMP/oci2" t "$TMP/plain.tar:gzip" >/dev/null || bail plain

registry_down()
{
	lab_end "$REGISTRY_PID"
}
registry_up()
{
	lab_start registry env -u REGISTRY_AUTH_FILE docker-registry serve \
		"$TMP/registry.yml"
	REGISTRY_PID=$LAB_PID
	wait_for 10 curl -s "http://$REGISTRY/v2/" || bail "registry"
}

# ---- nodes ----

declare -A PORTS PIDS
for n in a b; do
	PORTS[$n]=$(free_port)
done
# agent NAME OTHER: one that knows the other, and fetches no blobs for it.
agent()
{
	cat >"$TMP/$1.yaml" <<-YAML
		root: $TMP/$1
		registries: $TMP/conf
		background_rate: 0
		read_timeout: 5s
		peers:
		  listen: 127.0.0.1:${PORTS[$1]}
		  name: $1
		  list: [127.0.0.1:${PORTS[$2]}]
		  relay: 0
	YAML
	lab_start "agent-$1" env MALLOC_PERTURB_=90 "$B/quicklayerd" \
		--config "$TMP/$1.yaml" --log-level debug
	PIDS[$1]=$LAB_PID
	SINCE[$1]=0
	lab_ready "agent-$1" || bail "$1"
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
# figure NAME KEY: of what it fills.
figure()
{
	ql "$1" status --json | jq ".fill.$2"
}
# knows NAME OTHER: it has the other's filter, of no earlier time than learns
# (or its start).
declare -A SINCE
learns()
{
	SINCE[$1]=$(wc -l <"$TMP/agent-$1.log")
}
has_filter()
{
	tail -n "+$((SINCE[$1] + 1))" "$TMP/agent-$1.log" |
		grep -q "msg=\"a filter\" peer=127.0.0.1:${PORTS[$2]}"
}
knows()
{
	wait_for 15 has_filter "$1" "$2"
}
# reads_all NAME IMAGE FILES
reads_all()
{
	timeout 120 diff -r -x '.no.prefetch.landmark' -x stargz.index.json \
		"$(dir "$1" "$2")/" "$3"
}

# ---- from a node that has it ----

agent a b
agent b a
ok "each knows of the other" knows b a
ok "one node has an image, and has opened it" ql a pull -q --full "$IMAGE"
learns b
ok "... and the other knows of it" knows b a
ok "... and has pulled it, to be read" ql b pull -q --lazy "$IMAGE"
registry_down
before=$(figure b fetched)
ok "without the registry, a file is read from the other node" \
	cmp "$(dir b "$IMAGE")/small7" "$TMP/files/small7"
requests=$(figure b peer_requests)
ok "... and all is asked for" timeout 60 env QUICKLAYER_ROOT="$TMP/b" "$QL" \
	prefetch -q "$IMAGE"
is_here()
{
	[ "$(ql b status --json "$IMAGE" | jq '.files == .files_here')" = true ]
}
ok "... and comes" wait_for 20 is_here
requests=$(($(figure b peer_requests) - requests))
[ "$requests" -gt 0 ] && [ "$requests" -le $((SMALL / 4)) ] &&
	pass "... many in a request: $((SMALL + 6)) files in $requests" ||
	fail "... $requests requests for $((SMALL + 6)) files"
ok "... and all of the image" reads_all b "$IMAGE" "$TMP/files"
is "$(figure b fetched)" "$before" "... and nothing from anywhere else"
is "$(figure b bad_chunks)" 0 "... nor anything that was wrong"
bytes=$(figure b peer_bytes)
size=$(cat "$TMP"/files/* | wc -c)
awk -v n="$bytes" -v s="$size" 'BEGIN { exit !(n > s * 0.9 && n < s * 1.05) }' &&
	pass "... each byte once" || fail "... $bytes bytes, of $size"
sleep 1.5
ok "... and is kept" sh -c "
	kill -STOP ${PIDS[a]}
	timeout 60 diff -r '$(dir b "$IMAGE")/' '$TMP/files'; r=\$?
	kill -CONT ${PIDS[a]}; exit \$r"

# ---- whatever the layer is ----

registry_up
push_image "oci:$TMP/oci2:t" plain:gzip || bail "push gzip"
"$QL" push -q --format estargz "oci:$TMP/oci2:t" "$REGISTRY/plain:estargz" \
	>/dev/null || bail "push estargz"
for form in gzip estargz; do
	ql a pull -q --full "$REGISTRY/plain:$form" >/dev/null || bail "pull $form"
done
ql a index --push "$REGISTRY/plain:gzip" >/dev/null || bail index
learns b
ok "files of other layers are known" knows b a
for form in gzip estargz; do
	ok "$form: a pull" ql b pull -q --lazy "$REGISTRY/plain:$form"
	registry_down
	before=$(figure b fetched)
	ok "... is read from the other node" reads_all b \
		"$REGISTRY/plain:$form" "$TMP/plain"
	is "$(figure b fetched)" "$before" "... alone"
	registry_up
	# The other form of it has the same files.
	ok "... and is removed" timeout 20 env QUICKLAYER_ROOT="$TMP/b" "$QL" \
		rmi "$REGISTRY/plain:$form"
done

# ---- one that lies ----

agent_end b
rm -rf --one-file-system "$TMP/b"
for f in large1 large2 small1 small2; do
	d=$(sha256sum "$TMP/files/$f" | cut -c -64)
	o=$TMP/a/objects/${d:0:2}/${d:2}
	[ "$(stat -c %s "$o" 2>/dev/null || echo 0)" -gt 64 ] || continue
	chmod 644 "$o"
	printf '\x00\xff\x00\xff' |
		dd of="$o" bs=1 seek=$(($(stat -c %s "$o") / 2)) conv=notrunc \
			2>/dev/null
done
agent b a
ok "a node whose files are damaged is known" knows b a
ok "... an image that it has is pulled" ql b pull -q --lazy "$IMAGE"
ok "... and is read as it is" reads_all b "$IMAGE" "$TMP/files"
[ "$(figure b bad_chunks)" -gt 0 ] &&
	pass "... what was wrong was seen" || fail "nothing wrong came"
ok "... and no more was asked of it then" grep -q \
	'msg="a peer sends what is wrong"' "$TMP/agent-b.log"
sleep 1.5
ok "nothing in the store is wrong" ql b fsck

# ---- one that has less than it says ----

agent_end b
rm -rf --one-file-system "$TMP/b"
agent b a
ok "a node's files are known" knows b a
# Its filter says that they are here, until it is asked for again.
find "$TMP/a/objects" -type f -size +2k -delete
ok "... which are gone meanwhile" ql b pull -q --lazy "$IMAGE"
ok "... and all is read from the registry" reads_all b "$IMAGE" "$TMP/files"
is "$(figure b bad_chunks)" 0 "... and nothing was wrong"
[ "$(figure b peer_requests)" -gt 0 ] &&
	pass "... although it was asked" || fail "it was not asked"

agent_end b
agent_end a
done_testing
