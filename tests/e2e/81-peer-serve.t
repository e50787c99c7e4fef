#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What an agent gives to other nodes, asked by curl: each route, ranges, what is
# here in part, batches, who may ask and who may not, certificates that change,
# rates, and how much memory that takes.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
QLD=$B/quicklayerd
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
NS=ql-p-$$ VETH=qlp$$
IN_NS=(nsenter "--net=/run/netns/$NS" --)
HERE=10.78.$((RANDOM % 250)).1 THERE=
THERE=${HERE%.1}.2

ns_down()
{
	ip link del "$VETH" 2>/dev/null
	ip netns del "$NS" 2>/dev/null
}
LAB_AT_EXIT+=(ns_down)

# ---- what there is ----

mkdir -p "$TMP/pub" "$TMP/priv"
head -c 40000000 /dev/urandom >"$TMP/pub/big"
head -c 3000 /dev/urandom >"$TMP/pub/small"
head -c 3000 /dev/urandom >"$TMP/priv/secret"
for i in pub priv; do
	tar -C "$TMP/$i" -cf "$TMP/$i.tar" . &&
		make_image "$TMP/oci-$i" t "$TMP/$i.tar" >/dev/null ||
		bail "image $i"
done
lazy_image 5
push_image "oci:$TMP/oci-pub:t" pub:t || bail push
PUB=$REGISTRY/pub:t
"$QL" pull -q --no-agent "$PUB" >/dev/null || bail pull
"$QL" pull -q --no-agent "oci:$TMP/oci-priv:t" >/dev/null || bail pull

digest()
{
	sha256sum "$1" | cut -d' ' -f1
}
BIG=sha256:$(digest "$TMP/pub/big")
SMALL=sha256:$(digest "$TMP/pub/small")
SECRET=sha256:$(digest "$TMP/priv/secret")
NONE=sha256:$(printf '%064d' 0)

# ---- an agent ----

# start_agent [LINES OF peers] [LINES OF ALL]
start_agent()
{
	PORT=$(free_port)
	printf 'root: %s\nlog_level: info\n%s\npeers:\n  listen: 0.0.0.0:%d\n%s\n' \
		"$QUICKLAYER_ROOT" "${2:-}" "$PORT" "${1:-}" >"$TMP/agent.yaml"
	rm -f "$TMP/agent.log"
	lab_start agent "$QLD" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent || bail "no agent"
	URL=http://127.0.0.1:$PORT
}
# get PATH [CURL OPTIONS]: the body in $TMP/body, headers in $TMP/headers, the
# status in $STATUS.
get()
{
	STATUS=$("${BY[@]-env}" curl -s --path-as-is -m 60 -o "$TMP/body" \
		-D "$TMP/headers" -w '%{http_code}' "$URL$1" "${@:2}")
}
header()
{
	tr -d '\r' <"$TMP/headers" | sed -n "s/^$1: //Ip" | tail -1
}
# part FILE OFFSET LEN DESCRIPTION: the body is that.
part()
{
	if cmp -s "$TMP/body" <(tail -c "+$(($2 + 1))" "$1" | head -c "$3"); then
		pass "$4"
	else
		fail "$4"
	fi
}
rss_kib()
{
	awk '/^VmRSS/ { print $2 }' "/proc/$AGENT/status"
}
peak_kib()
{
	awk '/^VmHWM/ { print $2 }' "/proc/$AGENT/status"
}

start_agent
shared()
{
	get "/v1/objects/$SMALL" && [ "$STATUS" = 200 ]
}
ok "an image of a registry is given" wait_for 10 shared

# ---- who it is, and what it has ----

get /v1/summary
is "$STATUS $(jq -r .kind "$TMP/body") $(header content-type)" \
	"200 NodeSummary application/json" "a summary"
TAG=$(header etag)
get /v1/summary -H "If-None-Match: $TAG"
is "$STATUS $(header etag)" "304 $TAG" "... is not sent twice"
get /v1/filter
is "$STATUS $(header etag)" "200 $TAG" "a filter"
get /v1/filter -H "If-None-Match: \"1\", $TAG"
is "$STATUS" 304 "... is not sent twice"
get /v1/qdm
is "$STATUS" 200 "what is deployed, which is nothing"
get /v1/qdm -d '{}'
is "$STATUS" 403 "... which is not for every user here to say"

# ---- objects ----

get "/v1/objects/$BIG"
is "$STATUS $(header etag) $(header accept-ranges)" "200 \"$BIG\" bytes" \
	"an object"
part "$TMP/pub/big" 0 40000000 "... is what it is"
get "/v1/objects/${BIG/:/%3a}" -r 5-9
is "$STATUS" 206 "a colon may be percent-encoded"
get "/v1/objects/$BIG" -I
is "$STATUS $(header content-length)" "200 40000000" "HEAD tells the size"
while read -r range offset len end; do
	get "/v1/objects/$BIG" -H "Range: $range"
	is "$STATUS $(header content-range)" \
		"206 bytes $offset-$end/40000000" "Range: $range"
	part "$TMP/pub/big" "$offset" "$len" "... is those bytes"
done <<-RANGES
	bytes=0-0 0 1 0
	bytes=1000-1999 1000 1000 1999
	bytes=39999990- 39999990 10 39999999
	bytes=39999990-99999999999999999999999 39999990 10 39999999
	bytes=-7 39999993 7 39999999
	bytes=-99999999999 0 40000000 39999999
RANGES
for range in bytes=40000000- bytes=-0 bytes=99999999999999999999-; do
	get "/v1/objects/$BIG" -H "Range: $range"
	is "$STATUS $(header content-range)" "416 bytes */40000000" \
		"Range: $range is behind the end"
done
for range in bytes=0-1,5-6 bytes=5-4 lines=0-1 bytes=x; do
	get "/v1/objects/$SMALL" -H "Range: $range"
	is "$STATUS $(stat -c %s "$TMP/body")" "200 3000" "Range: $range is none"
done
get "/v1/objects/$SMALL" -r 0-9 -H "If-Range: \"$SMALL\""
is "$STATUS" 206 "If-Range of this content"
get "/v1/objects/$SMALL" -r 0-9 -H "If-Range: \"$BIG\""
is "$STATUS" 200 "... of another"
get "/v1/objects/$SMALL" -H "If-None-Match: \"$SMALL\""
is "$STATUS" 304 "who has it need not have it again"
get "/v1/objects/$NONE"
is "$STATUS" 404 "what is not here"
get "/v1/objects/$SECRET"
is "$STATUS" 404 "what was not pulled from a registry without credentials"

# ---- what is no path ----

while read -r want path; do
	get "$path"
	is "$STATUS" "$want" "$path: $want"
done <<-PATHS
	404 /
	404 /v1
	404 /v2/objects/$SMALL
	404 /v1/things/$SMALL
	404 /v1/summary/
	404 /v1/../v1/summary
	404 /../../etc/passwd
	400 /v1/objects/
	400 /v1/objects/sha256:12
	400 /v1/objects/../../../../etc/passwd
	400 /v1/objects/%2e%2e%2f%2e%2e%2fetc%2fpasswd
	400 /v1/objects/sha256:../../../../../../../../../../../../../../../etc/passwd
	400 /v1/objects/sha512:$(printf '%0128d' 0)
	400 /v1/objects/$SMALL/
	400 /v1/objects/${SMALL/:/%3b}
	400 /v1/tables/x
PATHS
get "/v1/objects/$SMALL" -X DELETE
is "$STATUS $(header allow)" "405 GET, HEAD" "a method that is none"
get /v1/batch
is "$STATUS $(header allow)" "405 POST" "... of a batch"
get "/v1/blobs/$NONE" -H "Quicklayer-Repository: x"
is "$STATUS" 400 "a repository without a size"
get "/v1/blobs/$NONE" -H "Quicklayer-Repository: a b" -H "Quicklayer-Size: 1"
is "$STATUS" 400 "what is no repository"

# ---- documents and tables ----

M=$("$QL" images --json | jq -r --arg n "$PUB" \
	'.[] | select(.name == $n) | .digest')
CONFIG=$("$QL" images --json | jq -r --arg n "$PUB" \
	'.[] | select(.name == $n) | .config')
for d in "$M" "$CONFIG"; do
	get "/v1/blobs/$d"
	is "$STATUS sha256:$(digest "$TMP/body")" "200 $d" "a document as a blob"
done
BLOB=$(cd "$TMP/store/layers" && for t in *.toc; do
	get "/v1/tables/sha256:${t%.toc}"
	[ "$STATUS" != 200 ] || echo "${t%.toc}"
done)
get "/v1/tables/sha256:$BLOB"
is "$STATUS $(header etag)" "200 " "the table of a layer's blob"
ok "... is what is here" cmp "$TMP/body" "$TMP/store/layers/$BLOB.toc"
get "/v1/tables/$NONE"
is "$STATUS" 404 "a table that is not here"

# ---- batches ----

cat >"$TMP/frames.py" <<-'PY'
	"""Reads frames: status, length and sha256 of each."""
	import hashlib, struct, sys
	data = open(sys.argv[1], "rb").read()
	while data:
	    magic, status, n = struct.unpack("<4sIQ", data[:16])
	    assert magic == b"QLF1" and len(data) >= 16 + n, "a bad frame"
	    print(status, n, hashlib.sha256(data[16:16 + n]).hexdigest()[:12])
	    data = data[16 + n:]
PY
sum()
{
	tail -c "+$(($2 + 1))" "$1" | head -c "$3" | sha256sum | head -c 12
}
cat >"$TMP/batch" <<-LINES
	objects $SMALL 0 3000
	objects $NONE 0 10
	objects $BIG 39999000 5000
	blobs $M 0 10
	objects $SECRET 0 10
	objects $SMALL 3000 1
	objects $SMALL 5 0
	objects $BIG 0 18446744073709551615
LINES
get /v1/batch --data-binary "@$TMP/batch"
is "$STATUS $(header content-type)" "200 application/vnd.quicklayer.frames" \
	"a batch"
get "/v1/blobs/$M" && cp "$TMP/body" "$TMP/manifest"
get /v1/batch --data-binary "@$TMP/batch"
is "$(python3 "$TMP/frames.py" "$TMP/body")" \
	"0 3000 $(sum "$TMP/pub/small" 0 3000)
2 0 $(sum /dev/null 0 0)
0 1000 $(sum "$TMP/pub/big" 39999000 1000)
0 10 $(sum "$TMP/manifest" 0 10)
2 0 $(sum /dev/null 0 0)
34 0 $(sum /dev/null 0 0)
0 0 $(sum /dev/null 0 0)
0 40000000 $(sum "$TMP/pub/big" 0 40000000)" "... has a frame for each part"
get /v1/batch --data-binary ''
is "$STATUS $(stat -c %s "$TMP/body")" "200 0" "... or none for none"
yes "objects $SMALL 7 9" | head -4096 >"$TMP/many"
get /v1/batch --data-binary "@$TMP/many"
is "$STATUS $(stat -c %s "$TMP/body")" "200 $((4096 * 25))" "as many as may be"
yes "objects $SMALL 7 9" | head -4097 >"$TMP/many"
get /v1/batch --data-binary "@$TMP/many"
is "$STATUS" 413 "one more"
printf 'objects %s 0 1\nobjects %s 0 1\nobjects x\n' "$SMALL" "$SMALL" \
	>"$TMP/bad"
get /v1/batch --data-binary "@$TMP/bad"
is "$STATUS" 400 "a line that is none"
like "$(cat "$TMP/body")" "line 3: " "... is named"
yes "objects $SMALL 0 1" | head -10000000 >"$TMP/many"
get /v1/batch --data-binary "@$TMP/many"
is "$STATUS" 413 "ten million lines"
head -c 60000000 "$TMP/many" >"$TMP/some"
get /v1/batch -H "Transfer-Encoding: chunked" -H "Expect:" \
	--data-binary "@$TMP/some"
is "$STATUS" 413 "... of which no number is told"
get /v1/batch -H "Transfer-Encoding: chunked" -H "Expect:" \
	--data-binary "@$TMP/many"
is "$STATUS" 000 "... and that do not end"
get /v1/summary
is "$STATUS" 200 "others are answered as before"
rm "$TMP/many" "$TMP/some"

# ---- many at once ----

# download COUNT [CURL OPTIONS]: at once, and whether each is right.
download()
{
	local i pids=() bad=0
	for ((i = 0; i < $1; i++)); do
		curl -s -m 120 "$URL/v1/objects/$BIG" "${@:2}" |
			sha256sum >"$TMP/sum$i" &
		pids+=($!)
	done
	wait "${pids[@]}"
	for ((i = 0; i < $1; i++)); do
		grep -q "^${BIG#sha256:}" "$TMP/sum$i" || bad=1
	done
	return "$bad"
}
ok "seven download at once" download 7
PEAK=$(peak_kib)
note "the agent's memory: $(rss_kib) KiB, $PEAK KiB at most"
[ "$PEAK" -le 65536 ] && pass "... in 64 MiB" || fail "... in $PEAK KiB"
lab_end "$AGENT"

# ---- what is here in part ----

QUICKLAYER_ROOT=$TMP/lazy
start_agent "" "background_rate: 0"
"$QL" pull -q "$IMAGE" >/dev/null || bail "lazy pull"
MNT=$TMP/lazy/agent/mnt/images/$IMAGE
LARGE=sha256:$(digest "$TMP/files/large1")
wait_for 5 test -e "$MNT/large1"
head -c 10000 "$MNT/large1" | cmp - <(head -c 10000 "$TMP/files/large1") ||
	bail "read"
partly()
{
	get "/v1/objects/$LARGE" && [ "$STATUS" = 206 ]
}
ok "a file of which some is here" wait_for 10 partly
N=$(stat -c %s "$TMP/body")
is "$(header content-range)" "bytes 0-$((N - 1))/3000000" \
	"... is given as far as it is"
[ "$N" -ge 10000 ] && [ "$N" -lt 3000000 ] && pass "... which is not all" ||
	fail "... $N bytes"
part "$TMP/files/large1" 0 "$N" "... and is right"
get "/v1/objects/$LARGE" -r 5000-2999999
is "$STATUS $(header content-range)" "206 bytes 5000-$((N - 1))/3000000" \
	"a range that reaches farther"
get "/v1/objects/$LARGE" -r "$N-$((N + 9))"
is "$STATUS" 404 "a range of which the first byte is not here"
get "/v1/objects/$LARGE" -r -10
is "$STATUS" 404 "the last bytes are not"
get "/v1/objects/$LARGE" -r 3000000-
is "$STATUS $(header content-range)" "416 bytes */3000000" "the end is known"
lab_end "$AGENT"

# ---- blobs ----

QUICKLAYER_ROOT=$TMP/packed
start_agent "" "cache: {budget: 300MiB}"
"$QL" pull -q --full "$IMAGE" >/dev/null || bail "packed pull"
packed()
{
	for f in "$TMP"/packed/packed/*/*; do
		BLOB=$(basename "$(dirname "$f")")$(basename "$f")
		get "/v1/blobs/sha256:$BLOB" -r 100000-199999
		[ "$STATUS" != 206 ] || return 0
	done
	return 1
}
wait_for 10 packed && pass "a part of a layer's blob that is packed" ||
	fail "a part of a layer's blob that is packed"
curl -s "http://$REGISTRY/v2/lab/blobs/sha256:$BLOB" >"$TMP/blob"
is "$(header content-range)" "bytes 100000-199999/$(stat -c %s "$TMP/blob")" \
	"... is given"
part "$TMP/blob" 100000 100000 "... and right"
lab_end "$AGENT"

# ---- who may ask ----

QUICKLAYER_ROOT=$TMP/store
ip netns add "$NS" && ip link add "$VETH" type veth peer name q netns "$NS" &&
	ip addr add "$HERE/30" dev "$VETH" && ip link set "$VETH" up &&
	ip -n "$NS" addr add "$THERE/30" dev q && ip -n "$NS" link set q up ||
	bail "network namespace"
start_agent "  share: all"
BY=("${IN_NS[@]}") URL=http://$HERE:$PORT
for path in /v1/summary "/v1/objects/$SMALL" /v1/nothing; do
	get "$path"
	is "$STATUS $(header connection)" "403 close" "from elsewhere: $path"
done
get /v1/batch --data-binary "@$TMP/batch"
is "$STATUS" 403 "... and a batch"
BY=() URL=http://127.0.0.2:$PORT
get /v1/summary
is "$STATUS" 200 "from this machine"
wait_for 10 shared
get "/v1/objects/$SECRET"
is "$STATUS" 200 "all is given where that is said"
lab_end "$AGENT"
start_agent "  allow: [10.77.0.0/16, $THERE]"
BY=("${IN_NS[@]}") URL=http://$HERE:$PORT
get /v1/summary
is "$STATUS" 200 "from an address that is allowed"
BY=()
lab_end "$AGENT"
start_agent "  share: none"
get /v1/summary
is "$STATUS $(jq -c .images "$TMP/body")" "200 []" \
	"nothing is told to who does not authenticate, where that is said"
sleep 1
get "/v1/objects/$SMALL"
is "$STATUS" 404 "... or given"
lab_end "$AGENT"

# ---- certificates ----

# ca NAME, cert NAME CA [OPENSSL OPTIONS]
ca()
{
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" \
		-keyout "$TMP/$1.key" -out "$TMP/$1.pem" 2>/dev/null
}
cert()
{
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" \
		-keyout "$TMP/$1.key" -out "$TMP/$1.csr" 2>/dev/null &&
		openssl x509 -req -in "$TMP/$1.csr" -CA "$TMP/$2.pem" \
			-CAkey "$TMP/$2.key" -CAcreateserial -days 2 \
			-out "$TMP/$1.pem" \
			-extfile <(printf 'subjectAltName=IP:127.0.0.1\n%s' \
				"${3:-}") 2>/dev/null
}
ca ca && ca other && cert node ca && cert client ca && cert stranger other &&
	cert server ca "extendedKeyUsage=serverAuth" || bail openssl
TLS="  ca: $TMP/ca.pem
  cert: $TMP/node.pem
  key: $TMP/node.key"
client()
{
	get "$1" --cacert "$TMP/ca.pem" --cert "$TMP/client.pem" \
		--key "$TMP/client.key" "${@:2}"
}
start_agent "$TLS"
URL=https://127.0.0.1:$PORT
client /v1/summary
is "$STATUS" 200 "with a certificate"
trusted()
{
	client "/v1/objects/$SECRET" && [ "$STATUS" = 200 ]
}
ok "who authenticates is given what others are not" wait_for 10 trusted
part "$TMP/priv/secret" 0 3000 "... and it is right"
get /v1/summary --cacert "$TMP/ca.pem"
is "$STATUS" 000 "without a certificate"
get /v1/summary --cacert "$TMP/ca.pem" --cert "$TMP/stranger.pem" \
	--key "$TMP/stranger.key"
is "$STATUS" 000 "with one of another CA"
get /v1/summary --cacert "$TMP/ca.pem" --cert "$TMP/server.pem" \
	--key "$TMP/server.key"
is "$STATUS" 000 "with one that is not for clients"
URL=http://127.0.0.1:$PORT
get /v1/summary
is "$STATUS" 000 "without TLS"
URL=https://127.0.0.1:$PORT
ok "seven download at once" download 7 --cacert "$TMP/ca.pem" \
	--cert "$TMP/client.pem" --key "$TMP/client.key"
PEAK=$(peak_kib)
note "the agent's memory: $(rss_kib) KiB, $PEAK KiB at most"
[ "$PEAK" -le 65536 ] && pass "... in 64 MiB" || fail "... in $PEAK KiB"

# A connection that goes on meanwhile, of the old certificates.
curl -s -m 60 --limit-rate 5M --cacert "$TMP/ca.pem" \
	--cert "$TMP/client.pem" --key "$TMP/client.key" \
	"$URL/v1/objects/$BIG" | sha256sum >"$TMP/slow" &
SLOW=$!
sleep 0.5
cp "$TMP/ca.pem" "$TMP/ca-old.pem"
echo nonsense >"$TMP/node.pem"
ok "certificates that are none" wait_for 5 \
	grep -q "certificates for peers are as before" "$TMP/agent.log"
client /v1/summary
is "$STATUS" 200 "... are not used"
cert node2 other && cert client2 other && mv "$TMP/node2.key" "$TMP/node.key" &&
	mv "$TMP/node2.pem" "$TMP/node.pem" && cp "$TMP/other.pem" "$TMP/ca.pem"
changed()
{
	get /v1/summary --cacert "$TMP/other.pem" --cert "$TMP/client2.pem" \
		--key "$TMP/client2.key" && [ "$STATUS" = 200 ]
}
ok "others are, soon" wait_for 5 changed
get /v1/summary --cacert "$TMP/other.pem" --cert "$TMP/client.pem" \
	--key "$TMP/client.key"
is "$STATUS" 000 "... and those of before no more"
wait "$SLOW"
is "$(cut -d' ' -f1 "$TMP/slow")" "${BIG#sha256:}" \
	"what was being sent goes on to its end"
lab_end "$AGENT"
fails "a certificate that is not there" 1 "$QLD" --root "$TMP/store" \
	--config <(printf 'peers: {listen: "127.0.0.1:%d", ca: /none, cert: /none, key: /none}' "$PORT")
like "$OUT" "peers: /none" "... is named"

# ---- rates ----

# seconds COMMAND...: tenths of them
seconds()
{
	local from
	from=$(date +%s%N)
	"$@" || fail "$*"
	T=$((($(date +%s%N) - from) / 100000000))
}
between()
{
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ] && pass "$4: $1 tenths of a second" ||
		fail "$4: $1 tenths of a second"
}
start_agent "  upload_rate_per_peer: 20MB/s"
wait_for 10 shared
seconds download 1
between "$T" 18 30 "a rate for each: 40 MB at 20 MB/s"
lab_end "$AGENT"
start_agent "  upload_rate: 40MB/s"
wait_for 10 shared
seconds download 3
between "$T" 28 45 "a rate for all: 120 MB at 40 MB/s"
# Who waits for his turn does not keep the agent.
curl -s "$URL/v1/objects/$BIG" -o /dev/null &
seconds lab_end "$AGENT"
[ "$T" -lt 15 ] && pass "an agent ends while it sends" || fail "$T"

done_testing
