#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A real docker-registry over TLS, with a CA of its own, client certificates
# and Basic authentication; credentials from files and helpers.
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store HOME=$TMP/home DOCKER_CONFIG=$TMP/docker
export XDG_RUNTIME_DIR=$TMP/run XDG_CONFIG_HOME=$TMP/xdg
unset REGISTRY_AUTH_FILE
mkdir -p "$TMP/home" "$TMP/docker" "$TMP/run/containers" "$TMP/xdg" \
	"$TMP/conf" "$TMP/bin" "$TMP/rootfs"
echo hello >"$TMP/rootfs/hello"
tar -C "$TMP/rootfs" -cf "$TMP/layer.tar" .
make_image "$TMP/oci" v1 "$TMP/layer.tar:gzip" >/dev/null

# ---- a CA, a server, a client ----

# certificate NAME SUBJECT EXTENSION: signed by the CA.
certificate()
{
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" \
		-keyout "$TMP/$1.key" -out "$TMP/$1.csr" 2>/dev/null &&
		openssl x509 -req -in "$TMP/$1.csr" -CA "$TMP/ca.crt" \
			-CAkey "$TMP/ca.key" -CAcreateserial -days 2 \
			-extfile <(echo "$3") -out "$TMP/$1.cert" 2>/dev/null
}

openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab-ca -days 2 \
	-keyout "$TMP/ca.key" -out "$TMP/ca.crt" 2>/dev/null || bail openssl
certificate server lab subjectAltName=IP:127.0.0.1,DNS:localhost ||
	bail "server certificate"
certificate client me extendedKeyUsage=clientAuth || bail "client certificate"
# bcrypt, which docker-registry wants, by libxcrypt.
perl -e 'print "me:", crypt("secret", q($2b$05$labsaltlabsaltlabsalte)), "\n"' \
	>"$TMP/htpasswd"

# start_tls NAME YAML: docker-registry over TLS; sets $TLS.
start_tls()
{
	local port
	port=$(free_port)
	cat >"$TMP/$1.yml" <<-YAML
		version: 0.1
		log: {level: error, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: "$TMP/storage"}}
		http:
		  addr: "127.0.0.1:$port"
		  secret: lab
		  tls:
		    certificate: "$TMP/server.cert"
		    key: "$TMP/server.key"
		$2
	YAML
	lab_start "$1" docker-registry serve "$TMP/$1.yml"
	TLS=127.0.0.1:$port
	wait_for 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" ||
		bail "$(cat "$TMP/$1.log")"
}

start_tls basic "auth: {htpasswd: {realm: lab, path: \"$TMP/htpasswd\"}}"
BASIC=$TLS
start_tls mutual "    clientcas: [\"$TMP/ca.crt\"]"
MUTUAL=$TLS
skopeo --insecure-policy copy -q --dest-tls-verify=false --dest-creds me:secret \
	"oci:$TMP/oci:v1" "docker://$BASIC/lab/img:v1" || bail push

pull()
{
	rm -rf "$TMP/store"
	"$QL" pull --config-dir "$TMP/conf" "$@"
}
# Whether the image of the store was had without credentials.
anonymous()
{
	"$QL" images --json | jq .[0].anonymous
}
# auths FILE HOST USER:PASSWORD
auths()
{
	printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$2" \
		"$(printf %s "$3" | base64 -w0)" >"$1"
}

# ---- who the server is ----

AUTH=$TMP/run/containers/auth.json
auths "$AUTH" "$BASIC" me:secret
echo '{"retries": 0}' >"$TMP/conf/registries.json"
fails "TLS that is not asked for" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "HTTP 400 from $BASIC" "... fails, loopback being plain HTTP"
mkdir -p "$TMP/conf/certs.d/$BASIC"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 2 \
	-keyout /dev/null -out "$TMP/conf/certs.d/$BASIC/ca.crt" 2>/dev/null
fails "a server of another CA" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "certificate" "... is not talked to"
cp "$TMP/ca.crt" "$TMP/conf/certs.d/$BASIC/ca.crt"
ok "a CA of certs.d" pull "$BASIC/lab/img:v1"
is "$("$QL" cat "$BASIC/lab/img:v1" /hello)" hello "... and the image is here"
rm -r "$TMP/conf/certs.d"
printf '{"retries": 0, "registries": {"%s": {"ca": "%s"}}}' "$BASIC" \
	"$TMP/ca.crt" >"$TMP/conf/registries.json"
ok "a CA of registries.json" pull "$BASIC/lab/img:v1"
is "$(anonymous)" false "... was shown credentials, which is remembered"
printf '{"retries": 0, "registries": {"%s": {"insecure": true}}}' "$BASIC" \
	>"$TMP/conf/registries.json"
ok "a registry that is said to be insecure" pull "$BASIC/lab/img:v1"
start_registry
push_image "oci:$TMP/oci:v1" lab/img:v1 || bail push
printf '{"retries": 0, "registries": {"%s": {"insecure": true}}}' "$REGISTRY" \
	>"$TMP/conf/registries.json"
ok "... or speaks plain HTTP only" pull "$REGISTRY/lab/img:v1"
is "$(anonymous)" true "... asks for no credentials, which is remembered"
ok "a folder's image" "$QL" pull "oci:$TMP/oci:v1"
is "$(anonymous)" true "... stays what anybody may have"
rm -rf "$TMP/store"
ok "a folder's image alone" "$QL" pull "oci:$TMP/oci:v1"
is "$(anonymous)" false "... is nobody's who does not authenticate"
ok "... until a registry gives it" "$QL" pull --config-dir "$TMP/conf" \
	"$REGISTRY/lab/img:v1"
is "$(anonymous)" true "... without being shown credentials"

# ---- who we are ----

printf '{"retries": 0}' >"$TMP/conf/registries.json"
for host in "$BASIC" "$MUTUAL"; do
	mkdir -p "$TMP/conf/certs.d/$host"
	cp "$TMP/ca.crt" "$TMP/conf/certs.d/$host"
done
fails "a registry that wants a client certificate" 1 pull "$MUTUAL/lab/img:v1"
cp "$TMP/client.cert" "$TMP/conf/certs.d/$MUTUAL/client.cert"
fails "a certificate without its key" 1 pull "$MUTUAL/lab/img:v1"
like "$OUT" "needs both" "... is told"
cp "$TMP/client.key" "$TMP/conf/certs.d/$MUTUAL/client.key"
ok "a client certificate of certs.d" pull "$MUTUAL/lab/img:v1"
is "$(anonymous)" false "... counts as credentials"

rm "$AUTH"
fails "no credentials" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "asks for credentials and no auth file has any" "... are missed"
auths "$AUTH" "$BASIC" me:wrong
fails "wrong credentials" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "HTTP 401 from $BASIC" "... are refused"
is "$(find "$TMP/store/images" -type f)" "" "... and nothing is left"
auths "$AUTH" "$BASIC/lab" me:secret
ok "credentials for a part of the registry" pull "$BASIC/lab/img:v1"
auths "$AUTH" "$BASIC/other" me:secret
fails "credentials for another part" 1 pull "$BASIC/lab/img:v1"
rm "$AUTH"
auths "$TMP/docker/config.json" "https://$BASIC/v1/" me:secret
ok "credentials of docker, by URL" pull "$BASIC/lab/img:v1"
mkdir -p "$TMP/xdg/containers"
auths "$TMP/xdg/containers/auth.json" "$BASIC" me:wrong
fails "containers' file goes before docker's" 1 pull "$BASIC/lab/img:v1"
auths "$TMP/only.json" "$BASIC" me:secret
export REGISTRY_AUTH_FILE=$TMP/only.json
ok "REGISTRY_AUTH_FILE goes before all" pull "$BASIC/lab/img:v1"
echo 'not JSON' >"$TMP/only.json"
fails "an auth file that is damaged" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "only.json: not valid JSON" "... is named"

# ---- helpers ----

cat >"$TMP/bin/docker-credential-lab" <<'SH'
#!/bin/sh
read -r server
case $1:$server in
get:"$LAB_SERVER") printf '{"ServerURL":"%s","Username":"me","Secret":"secret"}' "$server" ;;
*) echo "credentials not found in native keychain"; exit 1 ;;
esac
SH
printf '#!/bin/sh\necho broken; exit 3\n' >"$TMP/bin/docker-credential-broken"
chmod +x "$TMP/bin"/*
export PATH=$TMP/bin:$PATH LAB_SERVER=$BASIC
printf '{"credHelpers": {"%s": "lab"}}' "$BASIC" >"$TMP/only.json"
ok "a credential helper for the host" pull "$BASIC/lab/img:v1"
printf '{"credsStore": "lab"}' >"$TMP/only.json"
ok "a credential store" pull "$BASIC/lab/img:v1"
LAB_SERVER=other fails "a store that has none" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "no auth file has any" "... is as no credentials"
printf '{"credsStore": "broken"}' >"$TMP/only.json"
fails "a helper that fails" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "docker-credential-broken failed: broken" "... says why"
printf '{"credsStore": "absent"}' >"$TMP/only.json"
fails "a helper that is not there" 1 pull "$BASIC/lab/img:v1"
like "$OUT" "cannot run docker-credential-absent" "... is named"

done_testing
