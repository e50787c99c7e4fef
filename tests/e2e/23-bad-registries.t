#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Registries that are down, hang, break off, lie or send us elsewhere
# (tests/lab/badregistry.py).  What can be got over is; for the rest there is
# one clear line, status 1, and nothing half-made in the store.
. "$(dirname "$0")/../lab/lib.sh"

mkdir -p "$TMP/rootfs/bin" "$TMP/conf"
head -c 1500000 /dev/urandom >"$TMP/rootfs/bin/random"
seq 1 200000 >"$TMP/rootfs/bin/numbers"
tar -C "$TMP/rootfs" -cf "$TMP/layer.tar" .
make_image "$TMP/oci" v1 "$TMP/layer.tar:gzip" >/dev/null || bail "make_image"
for n in 1 2; do
	echo "$n" >"$TMP/rootfs/n"
	tar -C "$TMP/rootfs" -cf "$TMP/$n.tar" n
done
make_image "$TMP/oci" v2 "$TMP/layer.tar:gzip" "$TMP"/{1,2}.tar:gzip \
	>/dev/null || bail "make_image"
echo '{"connect_seconds": 2, "stall_seconds": 1, "retries": 3}' \
	>"$TMP/conf/registries.json"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store

lab_start bad python3 "$LAB/badregistry.py" "$TMP/oci" "$TMP/ports" "$TMP/log"
wait_for 10 test -s "$TMP/ports" || bail "badregistry: $(cat "$TMP/bad.log")"
read -r PORT OTHER <"$TMP/ports"
BAD=127.0.0.1:$PORT
printf '{"auths": {"%s": {"auth": "%s"}}}' "$BAD" \
	"$(printf 'me:secret' | base64)" >"$TMP/auth.json"

pull()
{
	timeout 60 "$QL" pull --config-dir "$TMP/conf" "$@"
}

# good WRONG DESCRIPTION: the pull gets over it.
good()
{
	rm -rf "$TMP/store"
	: >"$TMP/log"
	ok "$2" pull "$BAD/$1:v1" || return
	ok "... and every byte is right" \
		cmp <("$QL" cat "$BAD/$1:v1" /bin/random) \
		"$TMP/rootfs/bin/random"
}

# What a failed pull may leave in the store: no image, no layer, no pieces.
left_over()
{
	find "$TMP/store/images" "$TMP/store/layers" "$TMP/store/partial" \
		-type f ! -empty 2>/dev/null
	"$QL" fsck >/dev/null 2>&1 || echo "fsck finds faults"
}

# bad WRONG REGEX DESCRIPTION: one line that says so, and nothing is left.
bad()
{
	rm -rf "$TMP/store"
	: >"$TMP/log"
	fails "$3" 1 pull "${REF:-$BAD/$1:v1}" || return
	like "$OUT" "^quicklayer: [^"$'\n'"]*$2[^"$'\n'"]*\$" "... and says so"
	is "$(left_over)" "" "... and leaves nothing half-made"
}

# requests REGEX: how many the registry has had.
requests()
{
	grep -cE "$1" "$TMP/log"
}

good ok "a registry with nothing wrong"

# ---- what can be got over ----

good cut "a connection that breaks three times"
is "$(requests 'blobs.* bytes=[0-9]+-[0-9]+ ')" 3 "... is taken up where it broke"
good cut-whole "a registry that answers Range with everything"
good busy "429 with Retry-After"
start=$(date +%s%N)
good busy-date "429 with Retry-After as a date"
[ $((($(date +%s%N) - start) / 1000000)) -ge 900 ]
is $? 0 "... which is waited for"
good flaky "500, 502, 503 and 504 that pass"
good redirect "a layer on another host"
is "$(requests "^$OTHER .* -\$")" 2 "... which does not see who asks"
is "$(requests "^$OTHER ")" 2 "... and is asked once for each blob"
good expired "a token that three layers at once find expired"
is "$(requests '^[0-9]+ GET /token')" 2 "... is renewed once, for all layers"

# ---- what cannot ----

REF=127.0.0.1:1/x:v1 bad down "127.0.0.1 port 1.*connect" "a registry that is down"
bad hang "manifest: .*timed out" "a registry that never answers"
bad stall "layer sha256:[0-9a-f]+: .*too slow" "a layer that stops coming"
bad cut-always "layer sha256:.*transfer closed" "a connection that always breaks"
bad cut-other "another range" "another range than was asked for"
bad fewer "layer sha256:.*the registry has [0-9]+ bytes" "fewer bytes, and said so"
bad fewer-unsaid "layer sha256:.*the registry sends [0-9]+ bytes" "fewer bytes, not said"
bad more "layer sha256:.*the registry has [0-9]+ bytes" "more bytes, and said so"
bad more-unsaid "layer sha256:.*(more|size)" "more bytes, not said"
bad wrong-layer "layer sha256:.*digest" "a layer of another digest"
bad wrong-config "configuration: .*digest" "a configuration of another digest"
bad wrong-manifest "manifest: .*digest" "a manifest of another digest"
bad wrong-diff-id "layer sha256:.*digest is" "a layer of another diff ID"
bad bad-gzip "layer sha256:.*gzip" "a damaged gzip stream"
bad cut-gzip "layer sha256:.*gzip stream that ends early" "a cut gzip stream"
bad bad-zstd "layer sha256:.*zstd" "a damaged zstd stream"
bad cut-zstd "layer sha256:.*zstd stream that ends early" "a cut zstd stream"
start=$(date +%s)
bad huge "manifest: .*10737418240 bytes" "a manifest of 10 GB, and said so"
bad huge-unsaid "manifest: .*goes on after" "a manifest of 10 GB, not said"
[ $(($(date +%s) - start)) -le 5 ]
is $? 0 "... which are not waited for"
bad loop "manifest: .*digest|points to itself" "an index that points to itself"
bad nested "nested more than 3 deep" "indexes of indexes of indexes"
bad html "manifest: .*JSON" "a login page for a manifest"
bad schema1 "schema 1" "a manifest of schema 1"
bad busy-always "HTTP 429 from $BAD" "429 without an end"
is "$(requests manifests)" 4 "... is asked for as often as the settings say"
bad busy-long "asked again in 86400 s.*HTTP 429" "429 until tomorrow"
is "$(requests manifests)" 1 "... is not asked for again"
bad redirect-loop "more than 10 redirects" "a redirect to itself"
bad redirect-file "redirected to file:" "a redirect to a file"
bad forbidden "HTTP 403 from $BAD" "403 whatever the token"
bad bad-challenge "challenge" "a challenge that is none"
bad kerberos "other than Basic and Bearer" "a challenge that we cannot meet"
bad nothing "no such image: HTTP 404" "no such image"

# ---- and after a failure ----

rm -rf "$TMP/store"
fails "a pull that failed" 1 pull "$BAD/wrong-layer:v1"
ok "is no hindrance to the next" pull "$BAD/ok:v1"
ok "... and nothing in the store is wrong" "$QL" fsck

done_testing
