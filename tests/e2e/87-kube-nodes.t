#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Nodes of a Kubernetes cluster: which of a real API's Node objects a plan is
# made for, that it is carried out, from outside by a token and a CA and from
# within a pod, and what is said when the API does not, or should not, answer.
. "$(dirname "$0")/../lab/lib.sh"
# shellcheck source=tests/lab/loopnodes.sh
. "$LAB/loopnodes.sh"
# shellcheck source=tests/lab/kube.sh
. "$LAB/kube.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/none
unset QUICKLAYER_SOCKET QUICKLAYER_ROOT KUBERNETES_SERVICE_HOST \
	KUBERNETES_SERVICE_PORT

kube_start
start_registry
mkdir "$TMP/one"
for i in {1..4}; do
	head -c 500000 /dev/urandom >"$TMP/one/f$i"
done
tar -C "$TMP/one" -cf "$TMP/one.tar" . &&
	make_image "$TMP/oci" t "$TMP/one.tar" >/dev/null &&
	"$QL" push --root "$TMP/push" -q "oci:$TMP/oci:t" "$REGISTRY/img:t" \
		>/dev/null || bail push
IMAGE=$REGISTRY/img:t

CLUSTER=default
declare -A SITE=([a1]=a [a2]=a [z1]=b)
for n in a1 a2 z1; do
	loop_node "$n" "${SITE[$n]}"
	kube_node "$n" "quicklayer.io/site=${SITE[$n]}" \
		"@quicklayer.io/peer=127.0.0.1:${PORT[$n]}"
done
kube_node plain "%InternalIP=127.0.0.1"
kube_node gone quicklayer.io/site=a "%InternalIP=127.0.0.1" -Ready

KUBE=(--kubernetes-url "$KUBE_URL" --kubernetes-token "$KUBE_TOKEN"
	--kubernetes-ca "$KUBE_CA")
TOKEN=$(cat "$KUBE_TOKEN")

# plan_of ARGUMENT...: the names that a plan has; what is said in $TMP/err.
plan_of()
{
	"$QL" plan --json "$@" "$IMAGE" 2>"$TMP/err" >"$TMP/plan.json" &&
		jq -r '[.[0].nodes[].name] | sort | join(" ")' "$TMP/plan.json"
}

# ---- from outside ----

is "$(plan_of "${KUBE[@]}")" "a1 a2 z1" \
	"the nodes with a site's label that are Ready are planned for"
is "$(cat "$TMP/err")" "" "... of which nothing is said"
is "$(jq -r '.[0].cluster' "$TMP/plan.json")" default "... in cluster default"
is "$(jq '[.[0].nodes[] | select(.name != "z1").fetches[] |
	select(.from.registry)] | length' "$TMP/plan.json")" 1 \
	"... where one of a site gets it from the registry"
plan_of "${KUBE[@]}" --cluster edge >/dev/null
is "$(jq -r '.[0].cluster' "$TMP/plan.json")" edge "... or in another cluster"
like "$("$QL" plan "${KUBE[@]}" "$IMAGE")" "site a: .*site b: " \
	"... printed by sites"

kube_node wrong quicklayer.io/site=a net.quicklayer.io/uplink=fast -Ready
is "$(plan_of "${KUBE[@]}"; cat "$TMP/err")" "a1 a2 z1" \
	"nothing is said of a node that is left out"
kube_ask DELETE /api/v1/nodes/wrong >/dev/null
kube_node wrong quicklayer.io/site=a net.quicklayer.io/uplink=fast
is "$(plan_of "${KUBE[@]}")" "a1 a2 z1" "a node without an address is left out"
like "$(cat "$TMP/err")" "node wrong: no InternalIP and no annotation" \
	"... and said to be"
kube_ask DELETE /api/v1/nodes/wrong >/dev/null
kube_node wrong quicklayer.io/site=a net.quicklayer.io/uplink=fast \
	%InternalIP=127.0.0.1
plan_of "${KUBE[@]}" >/dev/null
like "$(cat "$TMP/err")" \
	'node wrong: label net.quicklayer.io/uplink: "fast" is no rate' \
	"a label that cannot be read is warned of"
kube_ask DELETE /api/v1/nodes/wrong >/dev/null

# More than are in one answer of the API, between a2 and z1.
python3 - "$KUBE_URL" "$KUBE_CA" "$KUBE_TOKEN" <<-'PY' || bail "many nodes"
	import http.client, json, ssl, sys
	c = http.client.HTTPSConnection(sys.argv[1].split("//")[1],
	    context=ssl.create_default_context(cafile=sys.argv[2]))
	head = {"Authorization": "Bearer " + open(sys.argv[3]).read(),
	        "Content-Type": "application/json"}
	for i in range(300):
	    c.request("POST", "/api/v1/nodes", json.dumps({
	        "apiVersion": "v1", "kind": "Node", "metadata": {
	            "name": "m%03d" % i,
	            "labels": {"quicklayer.io/site": "a"}}}), head)
	    r = c.getresponse()
	    r.read()
	    assert r.status == 201, r.status
PY
is "$(plan_of "${KUBE[@]}")" "a1 a2 z1" "a list of several pages is read whole"

# ---- carried out ----

ok "the plan is carried out" "$QL" plan --apply "${KUBE[@]}" "$IMAGE"
for n in a1 a2 z1; do
	ok "... $n has the image" diff -r "$TMP/one" \
		"$TMP/$n/agent/mnt/images/$IMAGE"
done

# ---- by the scheduler ----

URL=http://127.0.0.1:$(free_port)
lab_start scheduler "$B/quicklayer-scheduler" "${KUBE[@]}" --plain-http \
	--listen "${URL#http://}"
lab_ready scheduler || bail scheduler
# planned EXPRESSION VALUE: what jq makes of the deployment.
planned()
{
	[ "$(curl -s "$URL/v1/deployments/1" | jq -r "$1")" = "$2" ]
}
curl -s "$URL/v1/deployments" -d "{\"image\": \"$IMAGE\", \"apply\": false}" \
	>"$TMP/asked"
ok "the scheduler plans for them" wait_for 20 planned .state "done"
ok "... the same nodes" planned '[.nodes[].name] | sort | join(" ")' "a1 a2 z1"
fails "it does not begin with an API that is not there" 1 \
	"$B/quicklayer-scheduler" --kubernetes-url http://127.0.0.1:1
fails "... nor without nodes" 2 "$B/quicklayer-scheduler"

# ---- from within a pod ----

# in_pod DIR COMMAND...: with a service account of that folder.
in_pod()
{
	local dir=$1
	shift
	# shellcheck disable=SC2016
	KUBERNETES_SERVICE_HOST=127.0.0.1 \
		KUBERNETES_SERVICE_PORT=${KUBE_URL##*:} unshare -m sh -c '
		at=/run/secrets/kubernetes.io/serviceaccount
		mount -t tmpfs none /run && mkdir -p $at &&
			mount --bind "$1" $at && shift && exec "$@"' \
		- "$dir" "$@"
}
mkdir "$TMP/account"
cp "$KUBE_CA" "$TMP/account/ca.crt"
printf '%s\n' "$TOKEN" >"$TMP/account/token"
is "$(in_pod "$TMP/account" "$QL" plan --json --kubernetes "$IMAGE" |
	jq '.[0].nodes | length')" 3 "a pod uses its service account"
ok "... and so it is carried out, with nothing left to do" in_pod \
	"$TMP/account" "$QL" plan -q --apply --kubernetes "$IMAGE"
fails "elsewhere, --kubernetes alone is not enough" 1 \
	"$QL" plan --kubernetes "$IMAGE"
like "$OUT" "no Kubernetes API is known: this is no pod" "... which is said"
: >"$TMP/account/token"
fails "an empty token is none" 1 in_pod "$TMP/account" \
	"$QL" plan --kubernetes "$IMAGE"
like "$OUT" "there is no token" "... which is said"

# ---- refused ----

fails "--nodes and --kubernetes exclude each other" 2 \
	"$QL" plan --nodes x --kubernetes "$IMAGE"
fails "... and one is needed" 2 "$QL" plan "$IMAGE"
fails "a token is not sent to others by HTTP" 1 "$QL" plan \
	--kubernetes-url http://192.0.2.1:1 --kubernetes-token "$KUBE_TOKEN" \
	"$IMAGE"
like "$OUT" "in the clear" "... which is said"

echo "wrong$TOKEN" >"$TMP/wrong"
fails "a wrong token is an error" 1 "$QL" plan --kubernetes-url "$KUBE_URL" \
	--kubernetes-token "$TMP/wrong" --kubernetes-ca "$KUBE_CA" "$IMAGE"
like "$OUT" "Kubernetes API $KUBE_URL: HTTP 401: Unauthorized" "... that says so"
unlike "$OUT" "$TOKEN" "... and does not show it"
fails "one without rights is, too" 1 "$QL" plan --kubernetes-url "$KUBE_URL" \
	--kubernetes-token "$KUBE_TOKEN.nobody" --kubernetes-ca "$KUBE_CA" \
	"$IMAGE"
like "$OUT" 'HTTP 403: nodes is forbidden: User "nobody" cannot list' \
	"... with what the API says of it"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	-subj /CN=other-ca -days 2 -keyout "$TMP/other.key" -out "$TMP/other.pem" \
	2>/dev/null
fails "an API of another CA is not believed" 1 "$QL" plan \
	--kubernetes-url "$KUBE_URL" --kubernetes-token "$KUBE_TOKEN" \
	--kubernetes-ca "$TMP/other.pem" "$IMAGE"
like "$OUT" "certificate" "... which is said"
fails "... nor one that the system does not know" 1 "$QL" plan \
	--kubernetes-url "$KUBE_URL" --kubernetes-token "$KUBE_TOKEN" "$IMAGE"
# with_root COMMAND...: where the system trusts the API's CA.
mkdir "$TMP/roots"
cp "$KUBE_CA" "$TMP/roots/$(openssl x509 -in "$KUBE_CA" -noout -hash).0"
cp "$KUBE_CA" "$TMP/roots/ca-certificates.crt"
with_root()
{
	# shellcheck disable=SC2016
	unshare -m sh -c 'mount --bind "$1" /etc/ssl/certs && shift &&
		exec "$@"' - "$TMP/roots" "$@"
}
ok "... but one that it does" with_root "$QL" plan -q \
	--kubernetes-url "$KUBE_URL" --kubernetes-token "$KUBE_TOKEN" "$IMAGE"
fails "... unless a CA was named" 1 with_root "$QL" plan \
	--kubernetes-url "$KUBE_URL" --kubernetes-token "$KUBE_TOKEN" \
	--kubernetes-ca "$TMP/other.pem" "$IMAGE"
# libcurl takes all of .localhost for this machine.
fails "... nor one by another name" 1 "$QL" plan \
	--kubernetes-url "https://api.localhost:${KUBE_URL##*:}" \
	--kubernetes-token "$KUBE_TOKEN" --kubernetes-ca "$KUBE_CA" "$IMAGE"
like "$OUT" "SSL: no alternative certificate subject name" "... which is said"

# ---- no API, or a strange one ----

kube_stop
fails "an API that is away is an error" 1 "$QL" plan "${KUBE[@]}" "$IMAGE"
like "$OUT" "Kubernetes API $KUBE_URL: .*[Cc]onnect" "... that says where"

STRANGE=$(free_port)
cat >"$TMP/strange.py" <<-'PY'
	import http.server, sys
	ITEM = '{"metadata": {"name": "n%d", "labels": ' \
	       '{"quicklayer.io/site": "a"}}, "status": {"conditions": ' \
	       '[{"type": "Ready", "status": "True"}], "addresses": ' \
	       '[{"type": "InternalIP", "address": "127.0.0.1"}]}}'
	def nodes(n):
	    return '{"kind": "NodeList", "items": [%s]}' % ", ".join(
	        ITEM % i for i in range(n))
	class Handler(http.server.BaseHTTPRequestHandler):
	    def do_GET(self):
	        how = self.path.split("/")[1]
	        auth = self.headers.get("Authorization", "")
	        body, status, more = "", 200, {}
	        if how == "redirect":
	            status, more = 302, {"Location": "/after"}
	        elif how == "after":
	            print("followed", flush=True)
	        elif how == "echo":
	            status, body = 500, '{"message": "no: %s"}' % auth
	        elif how == "lost":
	            status, body = 404, "no such page"
	        elif how == "many":
	            body = nodes(5000)
	        elif how == "cut":
	            body = nodes(10)[:-20]
	        elif how == "short":
	            body, more = nodes(10), {"Content-Length": "9999"}
	        elif how == "large":
	            body = " " * (17 << 20)
	        elif how == "endless":
	            body = '{"kind": "NodeList", "metadata": ' \
	                   '{"continue": "x"}, "items": []}'
	        self.send_response(status)
	        for k, v in {"Content-Length": str(len(body)), **more}.items():
	            self.send_header(k, v)
	        self.end_headers()
	        self.wfile.write(body.encode())
	    def log_message(self, *args):
	        pass
	http.server.ThreadingHTTPServer(
	    ("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PY
lab_start strange python3 "$TMP/strange.py" "$STRANGE"
wait_for 10 curl -s "http://127.0.0.1:$STRANGE/" || bail "strange"

# strange HOW REGEX WHAT
strange()
{
	fails "$3" 1 "$QL" plan --kubernetes-token "$KUBE_TOKEN" \
		--kubernetes-url "http://127.0.0.1:$STRANGE/$1/" "$IMAGE"
	like "$OUT" "Kubernetes API http://[^ ]*/$1: .*($2)" "... which is said"
	unlike "$OUT" "$TOKEN" "... without the token"
}
strange redirect "HTTP 302" "a redirect is not followed"
is "$(cat "$TMP/strange.log")" "" "... not even without the token"
strange echo "HTTP 500" "an API that fails is an error"
strange lost "HTTP 404" "... and one that has no nodes"
strange many "more than 4096 nodes" "... and more nodes than plans are made for"
strange cut "nodes: not valid JSON" "... and half a document"
strange short "closed|transfer" "... and an answer that ends early"
strange large "more than the limit" "... and one that is too large"
strange endless "goes on after 1000 pages" "... and one that does not end"
done_testing
