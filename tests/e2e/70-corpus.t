#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The corpus's small set: images with the layers and configuration that their
# recipes say, which start; the same digests the second time, without work, and
# when one is built anew.  Its cache stays, so that only a machine's first run
# fetches packages.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mmdebstrap, overlay mounts)"
command -v mmdebstrap >/dev/null || skip_all "needs mmdebstrap"
CORPUS=$LAB/../../tools/corpus/corpus
export REGISTRY_AUTH_FILE=$TMP/none
echo '{}' >"$TMP/none"

# ---- building ----

"$CORPUS" --small >"$TMP/first" 2>"$TMP/log" ||
	bail "corpus --small: $(tail -30 "$TMP/log")"
is "$(cut -f 1 "$TMP/first" | xargs)" \
	"memcached httpd redis postgres registry" "five images are built"

start=$EPOCHREALTIME
"$CORPUS" --small >"$TMP/second" 2>"$TMP/log2" || bail "$(cat "$TMP/log2")"
took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
ok "the second run gives the same digests" diff "$TMP/first" "$TMP/second"
is "$(cat "$TMP/log2")" "" "and builds nothing"
note "the second run took $took ms"

"$CORPUS" --again memcached >"$TMP/again" 2>"$TMP/log3" ||
	bail "$(tail -30 "$TMP/log3")"
like "$(cat "$TMP/log3")" "memcached: built" "one image is built anew"
is "$(cat "$TMP/again")" "$(grep ^memcached "$TMP/first")" \
	"with the same digest"

# ---- what they are ----

start_registry
"$CORPUS" --small --to "$REGISTRY" --oci "$TMP/oci" >"$TMP/third" \
	2>"$TMP/log4" || bail "$(tail -30 "$TMP/log4")"
ok "they are pushed, and written, as they are" diff "$TMP/first" "$TMP/third"

# shape NAME LAYERS HISTORY USER ENTRYPOINT CMD
shape()
{
	local raw="skopeo --insecure-policy inspect --tls-verify=false"
	local image=docker://$REGISTRY/$1:latest config digest
	digest=sha256:$($raw --raw "$image" | sha256sum | cut -c -64)
	is "$1	$digest" "$(grep "^$1	" "$TMP/first")" \
		"$1: the digest that was printed"
	is "$(skopeo inspect --raw "oci:$TMP/oci:$1" | sha256sum | cut -c -64)" \
		"${digest#sha256:}" "$1: also in the OCI layout"
	$raw --raw "$image" >"$TMP/manifest"
	is "$(jq -r '[.layers[].mediaType] | unique | .[]' "$TMP/manifest")" \
		application/vnd.oci.image.layer.v1.tar+gzip "$1: gzip layers"
	config=$($raw --config "$image")
	is "$(jq -c '[(.rootfs.diff_ids | length), (.history | length),
		.config.User, .config.Entrypoint, .config.Cmd]' <<<"$config")" \
		"[$2,$3,$4,$5,$6]" "$1: layers, history, configuration"
}
shape memcached 6 13 '"memcache"' '["docker-entrypoint.sh"]' '["memcached"]'
shape httpd 6 14 null null '["httpd-foreground"]'
shape redis 7 14 null '["docker-entrypoint.sh"]' '["redis-server"]'
shape postgres 14 25 null '["docker-entrypoint.sh"]' '["postgres"]'
shape registry 6 12 null '["/entrypoint.sh"]' \
	'["/etc/docker/registry/config.yml"]'

# A package's files have the package's times; what was made has the image's.
mkdir "$TMP/root"
layer=$(skopeo --insecure-policy inspect --tls-verify=false --raw \
	"docker://$REGISTRY/memcached:latest" | jq -r '.layers[3].digest')
tar -xzf "$TMP/oci/blobs/sha256/${layer#sha256:}" -C "$TMP/root"
is "$(date -u -r "$TMP/root/var/lib/dpkg/status" +%FT%TZ)" \
	2026-11-04T03:16:27Z "what was made while building has the image's time"
like "$(date -u -r "$TMP/root/usr/bin/memcached" +%FT%TZ)" ^202[45]- \
	"a package's file has the package's"

# ---- that they start ----

while IFS=$'\t' read -r name command printed; do
	if ! lab_podman pull -q --tls-verify=false \
		"$REGISTRY/$name:latest" >"$TMP/out" 2>&1; then
		fail "$name: podman pulls it"
		note "$(cat "$TMP/out")"
		continue
	fi
	out=$(eval "lab_podman run --rm --network none \
		'$REGISTRY/$name:latest' $command" 2>&1)
	like "$out" "$printed" "$name: $command"
done < <("$CORPUS" --small --starts)
lab_podman rmi -af >/dev/null 2>&1

# ---- what goes wrong ----

fails "an image that there is not" 2 "$CORPUS" no-such-image
mkdir "$TMP/bin"
printf '#!/bin/sh\nexit 1\n' >"$TMP/bin/umoci"
chmod 755 "$TMP/bin/umoci"
PATH=$TMP/bin:$PATH fails "an image that cannot be built" 1 \
	"$CORPUS" --again memcached redis
like "$OUT" "not built: memcached redis" "is named"
"$CORPUS" --small >"$TMP/last" 2>"$TMP/log5" || bail "$(cat "$TMP/log5")"
ok "and is built the next time" diff "$TMP/first" "$TMP/last"
done_testing
