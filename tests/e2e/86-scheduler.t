#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Deployments that are asked for by HTTP: that the scheduler carries them out
# over three nodes of two sites, what it refuses, that it goes on without a node
# that died, reads the nodes anew, cancels, and ends soon.
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source=tests/lab/loopnodes.sh
. "$LAB/loopnodes.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
SCHEDULER=${SCHEDULER:-$B/quicklayer-scheduler}
export REGISTRY_AUTH_FILE=$TMP/none
unset QUICKLAYER_SOCKET QUICKLAYER_ROOT
NS=ql-s-$$ VETH=qls$$
HERE=10.79.$((RANDOM % 250)).1 THERE=
THERE=${HERE%.1}.2

ns_down()
{
	ip link del "$VETH" 2>/dev/null
	ip netns del "$NS" 2>/dev/null
}
LAB_AT_EXIT+=(ns_down)

start_registry
for t in one two; do
	mkdir "$TMP/$t"
	for i in {1..8}; do
		head -c 1500000 /dev/urandom >"$TMP/$t/f$i"
	done
	tar -C "$TMP/$t" -cf "$TMP/$t.tar" . &&
		make_image "$TMP/oci-$t" t "$TMP/$t.tar" >/dev/null &&
		"$QL" push --root "$TMP/push" -q "oci:$TMP/oci-$t:t" \
			"$REGISTRY/$t:t" >/dev/null || bail push
done

NODES="a1 a2 b1"
declare -A SITE=([a1]=a [a2]=a [b1]=b)

# nodes_write NAME...: the nodes that the scheduler is to know.
nodes_write()
{
	local n list=
	for n; do
		list+="${list:+, }{\"name\": \"$n\", \"site\": \"${SITE[$n]}\","
		list+=" \"address\": \"127.0.0.1:${PORT[$n]}\"}"
	done
	cat >"$TMP/nodes.new" <<-JSON
		{"apiVersion": "quicklayer.io/v1", "kind": "Nodes",
		 "cluster": "edge", "sites": [
		  {"name": "a", "uplink": "100Mbit/s", "uplinkRtt": "20ms",
		   "lan": "400Mbit/s", "lanRtt": "1ms"},
		  {"name": "b", "uplink": "100Mbit/s", "uplinkRtt": "20ms",
		   "lan": "400Mbit/s", "lanRtt": "1ms"}],
		 "nodes": [$list]}
	JSON
	mv "$TMP/nodes.new" "$TMP/nodes.json"
}

for n in $NODES; do
	loop_node "$n" "${SITE[$n]}"
done
nodes_write a1 a2

# ---- how it is started ----

fails "without nodes it does not start" 2 "$SCHEDULER"
fails "... nor beyond this machine for nobody" 2 \
	"$SCHEDULER" --nodes "$TMP/nodes.json" --listen 0.0.0.0:0
like "$OUT" "--allow" "... and says so"
fails "... nor with half of what TLS needs" 2 \
	"$SCHEDULER" --nodes "$TMP/nodes.json" --tls-ca /x
fails "... nor for what is no network" 2 \
	"$SCHEDULER" --nodes "$TMP/nodes.json" --allow 10.0.0.1/8
fails "... nor with nodes that are not there" 1 \
	"$SCHEDULER" --nodes "$TMP/no.json"
echo '{' >"$TMP/bad.json"
fails "... nor with bad ones" 1 "$SCHEDULER" --nodes "$TMP/bad.json"
like "$OUT" "bad.json: " "... which it names"

# start_scheduler NAME OPTION...: sets $URL, $SCHEDULER_PID.
start_scheduler()
{
	lab_start "$1" "$SCHEDULER" --nodes "$TMP/nodes.json" "${@:2}"
	SCHEDULER_PID=$LAB_PID
	lab_ready "$1" || bail "$1"
	URL=http://127.0.0.1:$(sed -n 's/.*msg=ready listen=.*:\([0-9]*\)$/\1/p' \
		"$TMP/$1.log")
}
start_scheduler scheduler --listen 127.0.0.1:0
is "$(curl -sf "$URL/healthz" | jq -r .status)" ok "it serves"

# ---- asked for ----

# http METHOD PATH [BODY]: the status; the answer is in $TMP/answer, its head
# in $TMP/head.
http()
{
	local body=()
	[ $# -lt 3 ] || body=(--data-binary "$3")
	curl -s -o "$TMP/answer" -D "$TMP/head" -w '%{http_code}' -X "$1" \
		"${body[@]}" "$URL$2"
}
# deploy NAME:TAG [MEMBERS]: sets $ID.
deploy()
{
	is "$(http POST /v1/deployments \
		"{\"image\": \"$REGISTRY/$1\"${2:+, $2}}")" 202 "$1 is taken"
	ID=$(jq .id "$TMP/answer")
}
one()
{
	curl -s "$URL/v1/deployments/$ID" | jq -r "$1"
}
state_is()
{
	[ "$(one .state)" = "$1" ]
}
has()
{
	diff -r "$TMP/$2" "$TMP/$1/agent/mnt/images/$REGISTRY/$2:t"
}

deploy one:t '"apply": false'
ok "what is not to be carried out is planned" wait_for 20 state_is "done"
is "$(one '.manifest.nodes | length') $(one .plans)" "2 1" \
	"... and its manifest shown"
is "$(one '(.plan.time_ns > 0) and (.plan.bound_ns > 0)')" true \
	"... with how long it is to take"
is "$(find "$TMP/a1/images" -name '*.cfs' 2>/dev/null | wc -l)" 0 \
	"... which brings nothing anywhere"

deploy one:t
ok "a deployment is carried out" wait_for 30 state_is "done"
is "$(one '[.nodes[] | .name + " " + .state] | join(", ")')" \
	"a1 done, a2 done" "... by each node"
is "$(one '[.nodes[] | .bytes > 0 and .done > 0] | all')" true \
	"... and what it fetched is said"
ok "a1 has the image" has a1 one
ok "a2 has the image" has a2 one
fails "... but not who is no node" 2 has b1 one

nodes_write a1 a2 b1
deploy one:t
ok "nodes are read anew" wait_for 30 state_is "done"
is "$(one '.nodes | length')" 3 "... all of them"
ok "... and b1 has the image, too" has b1 one
is "$(http GET /v1/deployments)" 200 "there is a list"
is "$(jq -c '[.deployments[] | .state]' "$TMP/answer")" \
	'["done","done","done"]' "... of all three"

echo '{' >"$TMP/nodes.json"
deploy one:t
ok "with bad nodes a deployment fails" wait_for 5 state_is failed
like "$(one .error)" "nodes.json: " "... and says why"
nodes_write a1 a2 b1
deploy none:t
ok "so does one of what the registry has not" wait_for 20 state_is failed
like "$(one .error)" "none:t" "... which is named"

# ---- refused ----

is "$(http POST /v1/deployments 'x')" 400 "what is no JSON is refused"
is "$(http POST /v1/deployments '{"image": "a", "nodes": 1}')" 400 \
	"so is an unknown member"
like "$(jq -r .error.message "$TMP/answer")" '"nodes"' "... by its name"
is "$(http POST /v1/deployments '{}')" 400 "... and no image"
is "$(http POST /v1/deployments '{"image": "oci:/tmp/x"}')" 400 \
	"... and one that is only here"
is "$(http POST '/v1/deployments?x=1' '{"image": "a"}')" 400 "... and a query"
head -c 70000 /dev/zero | tr '\0' ' ' >"$TMP/large"
is "$(http POST /v1/deployments "@$TMP/large")" 413 "... and too much"
is "$(curl -s -o "$TMP/answer" -w '%{http_code}' -H 'Expect:' \
	-H 'Transfer-Encoding: chunked' --data-binary "@$TMP/large" \
	"$URL/v1/deployments")" 413 "... also if it is not said before"
is "$(curl -s -o "$TMP/answer" -w '%{http_code}' -H 'Origin: http://x' \
	-d '{"image": "a"}' "$URL/v1/deployments")" 403 \
	"... and what a page in a browser asks"
is "$(http GET /v1/deployments/999)" 404 "there is no such deployment"
is "$(http GET /v1/nothing)" 404 "... and no such path"
is "$(http PUT /v1/deployments)" 405 "... and no such method"
like "$(cat "$TMP/head")" "Allow: GET, HEAD, POST" "... but others"
is "$(http DELETE "/v1/deployments/$ID")" 409 \
	"what has ended cannot be canceled"

# ---- a node that dies ----

for n in $NODES; do
	loop_gone "$n"
	loop_node "$n" "${SITE[$n]}" 4MB/s
done
deploying()
{
	state_is deploying && [ "$(one '[.nodes[].done] | add')" -gt 0 ]
}
deploy two:t
ok "a deployment goes on" wait_for 20 deploying
is "$(http POST /v1/deployments "{\"image\": \"$REGISTRY/two:t\"}")" 409 \
	"the same is not deployed twice at a time"
like "$(jq -r .error.message "$TMP/answer")" "as $ID\$" "... and which it is"
kill -9 "${AGENT[a1]}"
wait "${AGENT[a1]}" 2>/dev/null
ok "a node dies: it goes on without" wait_for 60 state_is "done"
is "$(one '.nodes[] | select(.name == "a1").state')" silent "... which is said"
is "$(one '.plans > 1')" true "... after another plan"
ok "a2 has the image" has a2 two
ok "b1 has the image" has b1 two

# ---- canceled ----

for n in $NODES; do
	loop_gone "$n"
	loop_node "$n" "${SITE[$n]}" 500kB/s
done
deploy two:t
ok "one that takes long" wait_for 20 deploying
is "$(http DELETE "/v1/deployments/$ID")" 202 "... can be canceled"
ok "... and is, soon" wait_for 2 state_is canceled
deploy one:t
ok "one more that takes long" wait_for 20 deploying
kill -STOP "${AGENT[a1]}" "${AGENT[a2]}" "${AGENT[b1]}"
sleep 0.5
is "$(http DELETE "/v1/deployments/$ID")" 202 \
	"... can be canceled where no node answers"
ok "... and is, soon" wait_for 2 state_is canceled

# ends SECONDS DESCRIPTION: told to, the scheduler ends by itself, with 0.
ends()
{
	local start=$EPOCHREALTIME status
	kill "$SCHEDULER_PID"
	wait "$SCHEDULER_PID"
	status=$?
	lab_forget "$SCHEDULER_PID"
	is "$status $(((${EPOCHREALTIME/./} - ${start/./}) < $1 * 1000000))" \
		"0 1" "$2"
}
deploy one:t
ok "while one waits for nodes" wait_for 5 state_is planning
ends 2 "... it ends soon when it is told to"
for n in $NODES; do
	kill -CONT "${AGENT[$n]}"
	loop_gone "$n"
done

# ---- a registry that does not answer ----

STALLED=$(free_port)
lab_start stalled python3 -c '
import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=200)
print("listens", flush=True)
time.sleep(600)' "$STALLED"
ok "a registry stalls" wait_for 5 grep -q listens "$TMP/stalled.log"
start_scheduler again --listen 127.0.0.1:0
TAKEN=0
for i in {1..68}; do
	[ "$(http POST /v1/deployments \
		"{\"image\": \"127.0.0.1:$STALLED/app:$i\"}")" = 202 ] &&
		TAKEN=$((TAKEN + 1))
done
is "$TAKEN" 68 "many are taken"
is "$(http POST /v1/deployments '{"image": "127.0.0.1:1/app:more"}')" 429 \
	"... but not more"
like "$(cat "$TMP/head")" "Retry-After: [1-9]" "... for now"
is "$(http GET /v1/deployments)" 200 "it answers all the same"
is "$(jq -c '[.deployments[].state] | [index("queued"), length]' \
	"$TMP/answer")" "[4,68]" "... that four go on, and others wait"
is "$(http DELETE /v1/deployments/1)" 202 "one that goes on can be canceled"
is "$(http DELETE /v1/deployments/68)" 202 "... and one that waits"
is "$(jq -r .id "$TMP/answer") $(ID=68 one .state)" "68 canceled" \
	"... at once"
ends 8 "it ends soon when it is told to"

# ---- who may ask ----

if ip netns add "$NS" && ip link add "$VETH" type veth peer name q netns "$NS" &&
	ip addr add "$HERE/30" dev "$VETH" && ip link set "$VETH" up &&
	nsenter "--net=/run/netns/$NS" -- sh -c \
		"ip addr add $THERE/30 dev q; ip link set q up"; then
	from_there()
	{
		nsenter "--net=/run/netns/$NS" -- curl -s -o "$TMP/answer" \
			--max-time 10 -w '%{http_code}' \
			"http://$HERE:${URL##*:}/$1"
	}
	start_scheduler near --listen 0.0.0.0:0 --allow 10.80.0.0/16
	is "$(from_there healthz)" 403 "who is not allowed is refused"
	is "$(jq -r .error.code "$TMP/answer")" EACCES "... and told so"
	is "$(curl -s -o /dev/null -w '%{http_code}' "$URL/healthz")" 200 \
		"... but not who is on this machine"
	lab_end "$SCHEDULER_PID"
	start_scheduler far --listen 0.0.0.0:0 --allow 10.80.0.0/16 \
		--allow "$THERE"
	is "$(from_there healthz)" 200 "who is allowed is answered"
	lab_end "$SCHEDULER_PID"
else
	skip "no network namespaces here" 4
fi
done_testing
