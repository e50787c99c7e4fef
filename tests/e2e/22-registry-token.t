#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real docker-registry that takes tokens (tests/lab/tokenserver.py signs
# them): anonymous, by password, by refresh token; refused.
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
mkdir -p "$TMP/rootfs" "$TMP/conf"
echo '{"retries": 0}' >"$TMP/conf/registries.json"
for n in 1 2 3 4 5; do
	echo "$n" >"$TMP/rootfs/file"
	tar -C "$TMP/rootfs" -cf "$TMP/$n.tar" .
done
make_image "$TMP/oci" v1 "$TMP"/{1,2,3,4,5}.tar:gzip >/dev/null

openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab -days 2 \
	-keyout "$TMP/token.key" -out "$TMP/token.crt" 2>/dev/null || bail openssl
lab_start tokens python3 "$LAB/tokenserver.py" "$TMP/token.key" \
	"$TMP/token.crt" "$TMP/port" "$TMP/log"
wait_for 10 test -s "$TMP/port" || bail "tokenserver: $(cat "$TMP/tokens.log")"
REALM=http://127.0.0.1:$(cat "$TMP/port")/token
start_registry registry "auth:
  token:
    realm: $REALM
    service: lab-service
    issuer: lab
    rootcertbundle: $TMP/token.crt"
for repo in public/img private/img; do
	push_image "oci:$TMP/oci:v1" "$repo:v1" --dest-creds me:secret ||
		bail "push $repo"
done

pull()
{
	rm -rf "$TMP/store"
	: >"$TMP/log"
	"$QL" pull --config-dir "$TMP/conf" "$REGISTRY/$1:v1"
}
auth()
{
	printf '{"auths": {"%s": {%s}}}' "$REGISTRY" "$1" >"$TMP/auth.json"
}

ok "a public image, anonymously" pull public/img
is "$(cat "$TMP/log")" "GET -" "... with one token for all of it"
fails "a private image, anonymously" 1 pull private/img
like "$OUT" "HTTP 401 from $REGISTRY" "... is refused"

auth "\"auth\": \"$(printf me:secret | base64)\""
ok "a private image, by password" pull private/img
is "$(cat "$TMP/log")" "GET me" "... with one token for all of it"
is "$("$QL" cat "$REGISTRY/private/img:v1" /file)" 5 "... and it is here"
auth "\"auth\": \"$(printf me:wrong | base64)\""
fails "a wrong password" 1 pull private/img
like "$OUT" "token server .*HTTP 401" "... is refused by the token server"

auth '"identitytoken": "refresh"'
ok "a private image, by refresh token" pull private/img
is "$(cat "$TMP/log")" "POST refreshed" "... with one token for all of it"
auth '"identitytoken": "wrong"'
fails "a wrong refresh token" 1 pull private/img
like "$OUT" "token server .*HTTP 401" "... is refused"

auth "\"auth\": \"$(printf me:secret | base64)\""
lab_end "${LAB_PIDS[0]}"
fails "a token server that is down" 1 pull private/img
like "$OUT" "token server .*connect" "... is told"

done_testing
