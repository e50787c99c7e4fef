#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Images from a real docker-registry, from OCI folders and from docker
# archives: what comes of each is the same tree; platforms, digests, mirrors.
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/none
mkdir -p "$TMP/base/bin" "$TMP/app/etc"
head -c 700000 /dev/urandom >"$TMP/base/bin/random"
seq 1 100000 >"$TMP/base/bin/numbers"
echo amd64 >"$TMP/app/etc/arch"
tar -C "$TMP/base" -cf "$TMP/base.tar" .
tar -C "$TMP/app" -cf "$TMP/app.tar" .
echo arm64 >"$TMP/app/etc/arch"
tar -C "$TMP/app" -cf "$TMP/arm.tar" .

start_registry
OCI=$TMP/oci
make_image --arch amd64 "$OCI" gzip "$TMP/base.tar:gzip" "$TMP/app.tar:gzip" \
	>/dev/null
make_image --arch amd64 "$OCI" zstd "$TMP/base.tar:zstd" "$TMP/app.tar:plain" \
	>/dev/null
make_image --arch arm64 "$OCI" arm "$TMP/base.tar:gzip" "$TMP/arm.tar:gzip" \
	>/dev/null
for tag in gzip zstd arm; do
	push_image "oci:$OCI:$tag" "lab/img:$tag" || bail "push $tag"
done
push_image "oci:$OCI:gzip" lab/img:docker --format v2s2 || bail "push docker"

# digest_of TAG: of a manifest in the registry.
digest_of()
{
	curl -sI -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/lab/img/manifests/$1" |
		tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p'
}

# put_index TAG TYPE: an index of the amd64 and the arm64 image.
put_index()
{
	local kind=application/vnd.oci.image.manifest.v1+json tag sep=
	{
		printf '{"schemaVersion":2,"mediaType":"%s","manifests":[' "$2"
		for tag in gzip:amd64 arm:arm64; do
			printf '%s{"mediaType":"%s","digest":"%s","size":%s,' \
				"$sep" "$kind" "$(digest_of "${tag%:*}")" \
				"$(curl -s -H "Accept: $kind" \
					"http://$REGISTRY/v2/lab/img/manifests/${tag%:*}" | wc -c)"
			printf '"platform":{"os":"linux","architecture":"%s"}}' \
				"${tag#*:}"
			sep=,
		done
		printf ']}'
	} >"$TMP/index.json"
	curl -sf -X PUT -H "Content-Type: $2" --data-binary "@$TMP/index.json" \
		"http://$REGISTRY/v2/lab/img/manifests/$1"
}

# same IMAGE WHAT: pulled afresh, it has the files that it should have.
same()
{
	rm -rf "$TMP/store"
	ok "$2" "$QL" pull "$1" || return
	ok "... has the same bytes" cmp <("$QL" cat "$1" /bin/random) \
		"$TMP/base/bin/random"
}

# ---- formats ----

same "$REGISTRY/lab/img:gzip" "an OCI image of gzip layers"
same "$REGISTRY/lab/img:zstd" "an OCI image of a zstd and a plain layer"
same "$REGISTRY/lab/img:docker" "a Docker schema 2 image"
same "docker://$REGISTRY/lab/img:gzip" "... spelled as skopeo spells it"
same "oci:$OCI:gzip" "an OCI folder by tag"
ok "a docker archive is made" skopeo --insecure-policy copy -q \
	"oci:$OCI:gzip" "docker-archive:$TMP/a.tar:lab/img:v1"
same "docker-archive:$TMP/a.tar" "a docker archive"
same "docker-archive:$TMP/a.tar:lab/img:v1" "a docker archive by tag"

fails "an OCI folder of several images wants a tag" 1 "$QL" pull "oci:$OCI"
like "$OUT" "3 images.*gzip, zstd, arm" "... and lists them"
fails "a tag that the folder has not" 1 "$QL" pull "oci:$OCI:none"
like "$OUT" "tags: gzip, zstd, arm" "... is told with those it has"
fails "a tag that the archive has not" 1 \
	"$QL" pull "docker-archive:$TMP/a.tar:lab/img:v2"
gzip -k "$TMP/a.tar"
fails "a compressed docker archive" 1 "$QL" pull "docker-archive:$TMP/a.tar.gz"
like "$OUT" "compressed by gzip; unpack it" "... is told to be one"
fails "a file that is no archive" 1 \
	"$QL" pull "docker-archive:$TMP/base/bin/numbers"
fails "an OCI folder that is none" 1 "$QL" pull "oci:$TMP/base"
like "$OUT" "not an OCI image layout" "... is told to be none"
printf 'x' | dd of="$OCI/blobs/$(jq -r .layers[0].digest \
	"$OCI/blobs/$(jq -r '.manifests[0].digest' "$OCI/index.json" | tr : /)" |
	tr : /)" bs=1 seek=5 conv=notrunc status=none
rm -rf "$TMP/store"
fails "a damaged blob in an OCI folder" 1 "$QL" pull "oci:$OCI:gzip"
like "$OUT" "layer sha256:.*digest" "... is found"

# ---- references ----

rm -rf "$TMP/store"
digest=$(digest_of gzip)
ok "an image by digest" "$QL" pull "$REGISTRY/lab/img@$digest"
ok "... is found by it" "$QL" cat "$REGISTRY/lab/img@$digest" /etc/arch
ok "the same by tag" "$QL" pull "$REGISTRY/lab/img:gzip"
is "$("$QL" pull --json "$REGISTRY/lab/img:gzip" | jq -c \
	'[.up_to_date, .bytes_fetched, .digest]')" "[true,0,\"$digest\"]" \
	"... is not fetched again"
is "$("$QL" pull --json "$REGISTRY/lab/img:docker" | jq -c \
	'[.up_to_date, .layers_fetched, .layers_here]')" "[false,0,2]" \
	"an image of the same layers fetches none"
fails "a digest that the registry has not" 1 \
	"$QL" pull "$REGISTRY/lab/img@sha256:$(printf '%064d' 5)"
like "$OUT" "no such image: .*HTTP 404" "... is no such image"
fails "a tag that the registry has not" 1 "$QL" pull "$REGISTRY/lab/img:none"
fails "a repository that the registry has not" 1 "$QL" pull "$REGISTRY/none"
for ref in 'UPPER/x' 'a b' 'x:' '-x' 'x@sha256:12' ''; do
	fails "'$ref' is no reference" 1 "$QL" pull -- "$ref"
done

# ---- platforms ----

ok "an OCI index is pushed" \
	put_index index application/vnd.oci.image.index.v1+json
ok "a Docker manifest list is pushed" put_index list \
	application/vnd.docker.distribution.manifest.list.v2+json
for tag in index list; do
	for arch in amd64 arm64; do
		ok "linux/$arch of the $tag" "$QL" pull \
			--platform "linux/$arch" "$REGISTRY/lab/img:$tag"
		is "$("$QL" cat "$REGISTRY/lab/img:$tag" /etc/arch)" "$arch" \
			"... is that"
	done
done
fails "a platform that is not there" 1 \
	"$QL" pull --platform linux/s390x "$REGISTRY/lab/img:index"
like "$OUT" "no image for linux/s390x; there is: linux/amd64, linux/arm64" \
	"... is told with those that are"
fails "a single image of another platform" 1 \
	"$QL" pull --platform linux/s390x "$REGISTRY/lab/img:gzip"
fails "a platform that is none" 1 \
	"$QL" pull --platform s390x "$REGISTRY/lab/img:gzip"

# ---- mirrors and settings ----

mkdir -p "$TMP/conf"
push_image "oci:$OCI:arm" library/lab:v1 || bail "push lab"
FIRST=$REGISTRY
start_registry second
printf '{"registries": {"docker.io": {"mirrors": ["http://%s"]},
	"%s": {"mirrors": ["127.0.0.1:1", "http://%s"]}}}' \
	"$FIRST" "$FIRST" "$REGISTRY" >"$TMP/conf/registries.json"
rm -rf "$TMP/store"
ok "an image of docker.io comes from its mirror" \
	"$QL" pull --config-dir "$TMP/conf" lab:v1
ok "... under its own name" "$QL" cat docker.io/library/lab:v1 /etc/arch
ok "what the mirrors have not comes from the origin" \
	"$QL" pull --config-dir "$TMP/conf" "$FIRST/lab/img:arm"
REGISTRY_DIR_FIRST=$TMP/registry
ok "what the mirror has" push_image "oci:$OCI:zstd" lab/img:only
ok "... is not asked of the origin" \
	"$QL" pull --config-dir "$TMP/conf" "$FIRST/lab/img:only"
[ -e "$REGISTRY_DIR_FIRST/docker/registry/v2/repositories/lab/img/_manifests/tags/only" ]
is $? 1 "... which has it not"
echo '{"registries": {"docker.io": {"miror": []}}}' \
	>"$TMP/conf/registries.json"
fails "a setting that is unknown" 1 "$QL" pull --config-dir "$TMP/conf" lab:v1
like "$OUT" 'registries.json: "docker.io": unknown setting "miror"' \
	"... is named"

done_testing
