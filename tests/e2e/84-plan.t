#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Deployments by manifest: what is planned over three nodes of two sites, that
# they carry it out and each site has each byte from the registry once, that a
# deployment goes on without a node that died, and which manifests a node does
# not take.
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source=tests/lab/loopnodes.sh
. "$LAB/loopnodes.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/none
unset QUICKLAYER_SOCKET QUICKLAYER_ROOT

REGISTRY_ACCESS=1 start_registry
mkdir "$TMP/one" "$TMP/two"
for i in {1..8}; do
	head -c 1500000 /dev/urandom >"$TMP/one/f$i"
	head -c 1000000 /dev/urandom >"$TMP/two/g$i"
done
tar -C "$TMP/one" -cf "$TMP/one.tar" . && tar -C "$TMP/two" -cf "$TMP/two.tar" . &&
	make_image "$TMP/oci" t "$TMP/one.tar" "$TMP/two.tar" >/dev/null &&
	"$QL" push --root "$TMP/push" -q "oci:$TMP/oci:t" "$REGISTRY/img:t" \
		>/dev/null || bail push
IMAGE=$REGISTRY/img:t

NODES="a1 a2 b1"
declare -A SITE=([a1]=a [a2]=a [b1]=b)
for n in $NODES; do
	loop_node "$n" "${SITE[$n]}"
done

cat >"$TMP/nodes.json" <<-JSON
	{"apiVersion": "quicklayer.io/v1", "kind": "Nodes", "cluster": "edge",
	 "sites": [
	  {"name": "a", "uplink": "100Mbit/s", "uplinkRtt": "20ms",
	   "lan": "400Mbit/s", "lanRtt": "1ms"},
	  {"name": "b", "uplink": "100Mbit/s", "uplinkRtt": "20ms",
	   "lan": "400Mbit/s", "lanRtt": "1ms"}],
	 "nodes": [
	  {"name": "a1", "site": "a", "address": "127.0.0.1:${PORT[a1]}"},
	  {"name": "a2", "site": "a", "address": "127.0.0.1:${PORT[a2]}"},
	  {"name": "b1", "site": "b", "address": "127.0.0.1:${PORT[b1]}"}]}
JSON

# ---- planned ----

ok "a plan" sh -c "'$QL' plan --json --nodes '$TMP/nodes.json' '$IMAGE' \
	>'$TMP/plan.json'"
qdm()
{
	python3 -c "
import json, sys
d = json.load(open('$TMP/plan.json'))[0]
nodes = {n['name']: n for n in d['nodes']}
$1"
}
is "$(qdm 'print(len(d["nodes"]))')" 3 "... names every node"
is "$(qdm '
a = [f for n in ("a1", "a2") for f in nodes[n]["fetches"]]
print(len(a), sum("registry" in f["from"] for f in a))')" "4 2" \
	"... one of a site gets each layer from the registry, the other from it"
is "$(qdm 'print(sum("registry" in f["from"] for f in nodes["b1"]["fetches"]))')" \
	2 "... the other site's node has its own from there"
like "$("$QL" plan --nodes "$TMP/nodes.json" "$IMAGE")" "site a: " \
	"... it is printed by sites"
is "$(find "$TMP/a1/images" -name '*.cfs' 2>/dev/null | wc -l)" 0 \
	"... which brings nothing anywhere"

# ---- carried out ----

SIZES=$(qdm 'print(sum(f["bytes"] for f in nodes["b1"]["fetches"]))')

mark
ok "a plan is carried out" "$QL" plan --apply --nodes "$TMP/nodes.json" "$IMAGE"
BYTES=$(sent)
[ "$BYTES" -ge $((SIZES * 19 / 10)) ] && [ "$BYTES" -lt $((SIZES * 21 / 10)) ] &&
	pass "... and each site has each byte from the registry once" || {
	fail "... and each site has each byte from the registry once"
	note "$BYTES bytes of $SIZES for each"
}
for n in $NODES; do
	mkdir -p "$TMP/both"
	cp "$TMP/one/"* "$TMP/two/"* "$TMP/both"
	ok "$n has the image" diff -r "$TMP/both" \
		"$TMP/$n/agent/mnt/images/$IMAGE"
done
ok "once more: there is nothing to do" "$QL" plan --apply \
	--nodes "$TMP/nodes.json" "$IMAGE"
fetches()
{
	[ "$("$QL" plan --json --nodes "$TMP/nodes.json" "$IMAGE" |
		python3 -c 'import json, sys
print(sum(len(n["fetches"]) for n in json.load(sys.stdin)[0]["nodes"]))')" \
		= "$1" ]
}
ok "... and, as soon as nodes say so, nothing is planned" wait_for 5 fetches 0

# ---- manifests that are not taken ----

# post NAME EDIT: the status of a manifest, edited as Python's d.
post()
{
	python3 -c "
import json
d = json.load(open('$TMP/plan.json'))[0]
$2
json.dump(d, open('$TMP/qdm.json', 'w'))" &&
		curl -s -o "$TMP/answer" -w '%{http_code}' -H 'Expect:' \
			--data-binary "@$TMP/qdm.json" \
			"http://127.0.0.1:${PORT[$1]}/v1/qdm"
}
is "$(post a1 'd["cluster"] = "other"')" 403 "another cluster's is refused"
like "$(cat "$TMP/answer")" "of cluster other, and this is edge" "... and why"
is "$(post a1 'd["generation"] = 1')" 409 "an older one is refused"
is "$(post a1 'd["generation"] += 9
d["nodes"] = [n for n in d["nodes"] if n["name"] != "a1"]
for n in d["nodes"]: n["fetches"] = []')" 404 \
	"one without the node is refused"
is "$(post a1 'for n in d["nodes"]:
    for f in n["fetches"]: f["from"] = {"node": "x", "address": "h:1"}')" 400 \
	"one that names an unknown node is refused"
like "$(cat "$TMP/answer")" "no node is called x" "... and why"
is "$(post a1 'a = {n["name"]: n for n in d["nodes"]}
f = dict(a["a1"]["fetches"][0])
d["generation"] += 50
for n, o in (("a1", "a2"), ("a2", "a1")):
    g = dict(f); g.pop("fallback", None); g.pop("uplinkShare", None)
    g["from"] = {"node": o, "address": a[o]["address"]}
    a[n]["fetches"] = [g]')" 400 "one with a circle is refused"
is "$(post a1 'd["generation"] += 60')" 200 "a newer one is taken"
is "$(post a1 'd["generation"] += 60')" 200 "... and the same again"
is "$(post a1 'd["generation"] += 60; d["created"] = "2020-01-01T00:00:00Z"')" \
	409 "... but none that contradicts it"
is "$(curl -s -o /dev/null -w '%{http_code}' --data x \
	"http://127.0.0.1:${PORT[a1]}/v1/qdm")" 400 "no JSON is no manifest"

# What is called by a digest is nothing else.
PINNED=$REGISTRY/img@sha256:$(printf '1%.0s' {1..64})
is "$(post a1 "d['generation'] += 1000
d['image']['reference'] = '$PINNED'")" 200 "one by a name of another digest"
done_at()
{
	curl -s "http://127.0.0.1:${PORT[a1]}/v1/qdm" | python3 -c '
import json, sys
d = json.load(sys.stdin)["deployments"][0]
sys.exit(d["reference"] != sys.argv[1] or d["state"] != "done")' "$1"
}
ok "... is carried out" wait_for 10 done_at "$PINNED"
is "$("$QL" images --root "$TMP/a1" --json | grep -c 1111111111)" 0 \
	"... and the image is not called so"

# Each may be large: few are taken at once.
python3 - "${PORT[a1]}" <<-'PY' &
	import socket, sys, time
	all = []
	for i in range(4):
	    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
	    s.sendall(b"POST /v1/qdm HTTP/1.1\r\nHost: x\r\n"
	              b"Content-Length: 1000\r\n\r\n{")
	    all.append(s)
	time.sleep(20)
PY
SLOW=$!
busy()
{
	[ "$(post a1 '')" = 503 ]
}
ok "many are not taken at once" wait_for 5 busy
kill "$SLOW"
wait "$SLOW" 2>/dev/null
taken()
{
	[ "$(post a1 'd["generation"] += 2000')" = 200 ]
}
ok "... but when the others are gone" wait_for 5 taken

# ---- a node that dies ----

for n in $NODES; do
	loop_gone "$n"
	loop_node "$n" "${SITE[$n]}"
done
"$QL" plan --apply --nodes "$TMP/nodes.json" "$IMAGE" >"$TMP/apply.out" \
	2>"$TMP/apply.err" &
apply=$!
sleep 0.15
kill -9 "${AGENT[a1]}"
wait "$apply"
is $? 0 "a node dies while an image is deployed: it goes on without"
lab_umount_below "$TMP/a1"
for n in a2 b1; do
	ok "... $n has it" diff -r "$TMP/both" \
		"$TMP/$n/agent/mnt/images/$IMAGE"
done
like "$(cat "$TMP/apply.err")" "a1: does not answer" "... the dead one is named"
like "$(cat "$TMP/apply.out")" "planned again [1-9]" "... it was planned again"

# a1 is dead, and stays so.
"$QL" plan --apply --nodes "$TMP/nodes.json" "$IMAGE" >"$TMP/apply.out" \
	2>"$TMP/apply.err"
is $? 0 "who was dead before is left out"
like "$(cat "$TMP/apply.err")" "1 of 3 nodes do not answer" "... and said to be"
like "$(cat "$TMP/apply.out")" "planned again 0" "... once and for all"

for n in a2 b1; do
	loop_gone "$n"
	loop_node "$n" "${SITE[$n]}"
done
timeout 60 "$QL" plan --apply --nodes "$TMP/nodes.json" "$IMAGE" \
	>"$TMP/apply.out" 2>"$TMP/apply.err" &
apply=$!
sleep 0.1
kill -9 "${AGENT[a2]}" "${AGENT[b1]}"
wait "$apply"
is $? 1 "a deployment ends when no node is left"
like "$(cat "$TMP/apply.err")" "no node answers" "... and says so"
for n in a2 b1; do
	lab_umount_below "$TMP/$n"
done
done_testing
