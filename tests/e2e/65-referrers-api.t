#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A registry that answers the referrers API (OCI distribution-spec 1.1,
# "Listing Referrers"): an index that was pushed beside an image is found by
# that, with no tag to fall back on, and makes the image's pull a lazy one on
# a node that has nothing.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
busybox=$(command -v busybox) || skip_all "needs busybox"
program=$("$LAB/peers.sh" registry 2>"$TMP/err") ||
	skip_all "no registry with the API: $(tail -1 "$TMP/err")"
export REGISTRY_AUTH_FILE=$TMP/auth.json
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"

mkdir -p "$TMP/m" "$TMP/root/bin" "$TMP/root/usr" "$TMP/blobs"
cp "$busybox" "$TMP/root/bin/busybox"
for i in {1..40}; do
	head -c 100000 /dev/urandom >"$TMP/root/usr/f$i"
done
tar -C "$TMP/root" --owner=0 --group=0 -cf "$TMP/root.tar" . || bail tar
make_image "$TMP/oci" t "$TMP/root.tar:gzip" >/dev/null || bail make_image

REGISTRY=127.0.0.1:$(free_port)
lab_start api "$program" --address "$REGISTRY" --blobs "$TMP/blobs"
wait_for 10 curl -sf "http://$REGISTRY/v2/" || bail "$(cat "$TMP/api.log")"
push_image "oci:$TMP/oci:t" lab:1 || bail push
image=$REGISTRY/lab:1

manifest()
{
	curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/lab/manifests/$1"
}

# Requests since the last call.
SEEN=0
requests()
{
	tail -n "+$((SEEN + 1))" "$TMP/api.log"
	SEEN=$(wc -l <"$TMP/api.log")
}

# ---- pushing ----

other()
{
	QUICKLAYER_ROOT=$TMP/other "$QL" "$@"
}

ok "a node that has the image" other pull -q --full --no-agent "$image"
ok "... records its start" other record -q "$image" /bin/busybox wc -c \
	/usr/f7 /usr/f30
ok "... and pushes an index" other index --push "$image"
digest=sha256:$(manifest 1 | sha256sum | cut -d' ' -f1)
listed=$(curl -sf "http://$REGISTRY/v2/lab/referrers/$digest")
is "$(jq -r '.manifests[].artifactType' <<<"$listed")" \
	application/vnd.quicklayer.start.v1 \
	"the registry lists it among those that refer to the image"
like "$(jq -r '.manifests[].annotations["io.quicklayer.start"]' <<<"$listed")" \
	'^sha256:[0-9a-f]{64} ' "... with what it says of the start"

# What the API finds and nothing else would.
tag=${digest/:/-}
curl -sf -X DELETE "http://$REGISTRY/v2/lab/manifests/$tag"
is "$(manifest "$tag")" "" "no tag leads to it"

# ---- pulling ----

export QUICKLAYER_ROOT=$TMP/store
layer=$(manifest 1 | jq -r '.layers[0].digest')
start=$(jq -r '.manifests[].annotations["io.quicklayer.start"]' <<<"$listed" |
	cut -d' ' -f1)
requests >"$TMP/before"
ok "a node that has nothing pulls it" "$QL" pull -q --no-agent "$image"
requests >"$TMP/asked"
like "$(cat "$TMP/asked")" "/v2/lab/referrers/$digest" "... asking the API"
unlike "$(cat "$TMP/asked")" "/manifests/$tag" "... and for no tag"
like "$(cat "$TMP/asked")" "/blobs/$start" "... gets the start blob's head"
unlike "$(cat "$TMP/asked")" "/blobs/$layer" "... and nothing of the layer"
is "$("$QL" status --json "$image" | jq '.files_here < .files')" true \
	"... its files come when they are read"
ok "it mounts" "$QL" mount --no-agent "$image" "$TMP/m"
ok "... a file is read" cmp "$TMP/root/usr/f12" "$TMP/m/usr/f12"
requests >"$TMP/asked"
like "$(cat "$TMP/asked")" "/blobs/$layer" "... of the layer as it is"
ok "... and all of them" diff -r "$TMP/root" "$TMP/m"
ok "... is unmounted" "$QL" umount "$TMP/m"
ok "nothing in the store is wrong" "$QL" fsck
done_testing
