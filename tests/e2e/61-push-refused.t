#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Pushes that fail, and those that do not although something does: who may
# not, what is no place to push to, connections that are cut, registries that
# keep no account of referrers.
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo '{}' >"$TMP/auth.json"
mkdir -p "$TMP/conf"
echo '{"retries": 3}' >"$TMP/conf/registries.json"
mkdir "$TMP/a" "$TMP/b"
head -c 9000000 /dev/urandom >"$TMP/a/random"
seq 1 50000 >"$TMP/b/numbers"
for l in a b; do
	tar -C "$TMP/$l" -cf "$TMP/$l.tar" .
done
make_image --arch amd64 "$TMP/oci" src "$TMP/a.tar:gzip" "$TMP/b.tar:gzip" \
	>/dev/null || bail make_image
make_image --arch arm64 "$TMP/oci" arm "$TMP/b.tar:gzip" >/dev/null
SRC=oci:$TMP/oci:src
start_registry
OPEN=$REGISTRY OPEN_DIR=$REGISTRY_DIR

push()
{
	"$QL" push --config-dir "$TMP/conf" "$@"
}

# ---- what is asked for is wrong ----

fails "a format that there is not" 2 push --format tar "$SRC" "$OPEN/lab/x:1"
like "$OUT" "there are zstd:chunked, estargz, gzip" "... says which there are"
fails "a level that the format has not" 2 push --format gzip --level 10 \
	"$SRC" "$OPEN/lab/x:1"
like "$OUT" "from 1 to 9" "... says which there are"
fails "chunks too small" 2 push --chunk-size 1 "$SRC" "$OPEN/lab/x:1"
fails "an order of files where there is none" 2 push --first "$TMP/a.tar" \
	"$SRC" "$OPEN/lab/x:1"
like "$OUT" "--first is for --format estargz" "... says for what it is"
fails "an order of files that is not there" 1 push --format estargz \
	--first "$TMP/none" "$SRC" "$OPEN/lab/x:1"
fails "no destination" 2 push "$SRC"
fails "onto a digest" 1 push "$SRC" \
	"$OPEN/lab/x@sha256:$(printf '0%.0s' {1..64})"
like "$OUT" "name a tag" "... says what to name instead"
fails "into a docker archive" 1 push "$SRC" "docker-archive:$TMP/x.tar"
fails "an image that is not there" 1 push "oci:$TMP/oci:none" "$OPEN/lab/x:1"
like "$OUT" "oci:$TMP/oci:none: .*no such image" "... is named"
fails "an image for another platform" 1 push --platform linux/s390x "$SRC" \
	"$OPEN/lab/x:1"
like "$OUT" "no image for linux/s390x" "... says so"
fails "a registry that is not there" 1 env QL=1 "$QL" push --config-dir \
	"$TMP/conf" --quiet "$SRC" "127.0.0.1:1/lab/x:1"
fails "no folder for temporary files" 1 env TMPDIR="$TMP/none" "$QL" push \
	"$SRC" "oci:$TMP/out:x"
like "$OUT" "a temporary file in $TMP/none: No such file" "... is named"

# ---- a source that is damaged ----

damage()
{
	cp -r "$TMP/oci" "$TMP/bad"
	local blob
	blob=$(jq -r '.manifests[] | select(.annotations[] == "src").digest' \
		"$TMP/bad/index.json" | cut -d: -f2)
	blob=$(jq -r '.layers[0].digest' "$TMP/bad/blobs/sha256/$blob" |
		cut -d: -f2)
	chmod u+w "$TMP/bad/blobs/sha256/$blob"
	printf X | dd of="$TMP/bad/blobs/sha256/$blob" bs=1 seek=5000000 \
		conv=notrunc status=none
	BAD=$blob
}
damage
for f in zstd:chunked estargz gzip; do
	fails "a damaged layer as $f" 1 push --format "$f" "oci:$TMP/bad:src" \
		"$OPEN/lab/bad:1"
	like "$OUT" "layer sha256:$BAD" "... is named"
done
is "$(curl -s -o "$TMP/body" -w '%{http_code}' \
	"http://$OPEN/v2/lab/bad/manifests/1")" 404 "... and is no image there"

fails "an image that a registry has not" 1 push "$OPEN/lab/none:1" \
	"$OPEN/lab/x:1"
like "$OUT" "MANIFEST_UNKNOWN: manifest unknown: HTTP 404" \
	"... in its own words"

# ---- a registry that takes nothing ----

port=$(free_port)
cat >"$TMP/readonly.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: "$OPEN_DIR"}
  maintenance: {readonly: {enabled: true}}
http: {addr: "127.0.0.1:$port", secret: lab}
YAML
lab_start readonly env -u REGISTRY_AUTH_FILE docker-registry serve \
	"$TMP/readonly.yml"
wait_for 10 curl -s "http://127.0.0.1:$port/v2/" || bail "readonly registry"
fails "to a registry that is read-only" 1 push "$SRC" "127.0.0.1:$port/lab/ro:1"
like "$OUT" "upload: HTTP 405" "... says what it answered"

# ---- who may push ----

openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab -days 2 \
	-keyout "$TMP/token.key" -out "$TMP/token.crt" 2>/dev/null || bail openssl
lab_start tokens python3 "$LAB/tokenserver.py" "$TMP/token.key" \
	"$TMP/token.crt" "$TMP/port" "$TMP/log"
wait_for 10 test -s "$TMP/port" || bail "tokenserver"
start_registry tokenreg "auth:
  token:
    realm: http://127.0.0.1:$(cat "$TMP/port")/token
    service: lab-service
    issuer: lab
    rootcertbundle: $TMP/token.crt"
fails "anonymously, where all may pull" 1 push "$SRC" "$REGISTRY/public/img:1"
like "$OUT" "HTTP 401" "... is refused"
printf '{"auths": {"%s": {"auth": "%s"}}}' "$REGISTRY" \
	"$(printf me:secret | base64)" >"$TMP/auth.json"
ok "by password" push -q "$SRC" "$REGISTRY/private/img:1"
ok "... it is there" "$QL" pull -q "$REGISTRY/private/img:1"
ok "from one repository to another" push -q "$REGISTRY/private/img:1" \
	"$REGISTRY/private/other:1"
printf '{"auths": {"%s": {"auth": "%s"}}}' "$REGISTRY" \
	"$(printf me:wrong | base64)" >"$TMP/auth.json"
fails "by a wrong password" 1 push "$SRC" "$REGISTRY/private/img:2"
echo '{}' >"$TMP/auth.json"

# ---- uploads that break ----

# proxy NAME BYTES TIMES: to the open registry; sets $PROXY, its log in
# $TMP/NAME.requests.
proxy()
{
	rm -f "$TMP/$1.port"
	lab_start "$1" python3 "$LAB/cutproxy.py" "$OPEN" "$TMP/$1.port" \
		"$TMP/$1.requests" "$2" "$3"
	wait_for 10 test -s "$TMP/$1.port" || bail "cutproxy"
	PROXY=127.0.0.1:$(cat "$TMP/$1.port")
}
proxy cut1 3000000 2
ok "uploads that are cut twice" push -q --format gzip "$SRC" "$PROXY/lab/cut:1"
is "$(grep -c '^cut$' "$TMP/cut1.requests")" 2 "... were cut twice"
"$QL" pull -q "$SRC" >/dev/null
"$QL" pull -q "$OPEN/lab/cut:1" >/dev/null
ok "... and the image is whole" "$QL" diff -q "$SRC" "$OPEN/lab/cut:1"
proxy cut2 3000000 99
fails "uploads that are cut every time" 1 push -q --format zstd:chunked \
	--parallel 1 "$SRC" "$PROXY/lab/half:1"
like "$OUT" "layer sha256:.*upload" "... say in which layer"
is "$(curl -s -o "$TMP/body" -w '%{http_code}' \
	"http://$OPEN/v2/lab/half/manifests/1")" 404 "... leave no manifest"

# Some layers there, some not: what a push that was killed leaves.
push -q "oci:$TMP/oci:arm" "$OPEN/lab/again:b" >/dev/null
is "$(push --json "$SRC" "$OPEN/lab/again:1" |
	jq -c '[.layers[].was_there]')" "[false,true]" \
	"a push sends the layers that are missing"
lab_start slow env QL=1 "$QL" push -q --level 19 "$SRC" "$OPEN/lab/killed:1"
sleep 0.3
kill -9 "$LAB_PID" 2>/dev/null
wait "$LAB_PID" 2>/dev/null
ok "after one that was killed" push -q --level 19 "$SRC" "$OPEN/lab/killed:1"

# ---- mounted from another repository ----

push -q --format gzip "$SRC" "$OPEN/lab/from:1" >/dev/null
is "$(push --json --format gzip "$OPEN/lab/from:1" "$OPEN/lab/to:1" |
	jq -c '[[.layers[].was_there], .bytes_sent]')" "[[true,true],0]" \
	"what another repository has is mounted"

# ---- what refers to an image ----

# Debian's registry has no referrers API: the account is kept in a tag.
digest=$(push -q --format gzip "$SRC" "$OPEN/lab/ref:1")
refer()
{
	"$B/tests/lab/refer" "$1" "$OPEN/lab/ref:1" "$digest" "${@:2}"
}
is "$(refer list | jq -c .manifests)" "[]" "nothing refers to a new image"
ok "an artifact that refers to it" refer put 1000 application/x-one one
ok "... another" refer put 1000 application/x-two two
ok "... the first again" refer put 1000 application/x-one one
is "$(refer list | jq -r '[.manifests[].artifactType] | sort | @csv')" \
	'"application/x-one","application/x-two"' "... both are listed, once"
is "$(refer list application/x-two | jq -r '[.manifests[].artifactType] | @csv')" \
	'"application/x-two"' "... or those of one type"
one=$(refer list application/x-one | jq -r '.manifests[0].digest')
is "$(curl -s -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
	"http://$OPEN/v2/lab/ref/manifests/$one" |
	jq -r '[.subject.digest, .artifactType, .config.mediaType] | @csv')" \
	"\"$digest\",\"application/x-one\",\"application/vnd.oci.empty.v1+json\"" \
	"... as artifacts with a subject"

done_testing
