# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the stories of the refactorer share: what a registry or a folder says of
# an image, and an image's tree as umoci unpacks it, which knows nothing of us.
# Part of lib.sh; sourced after it.

# The manifest of TAG in an OCI folder: layout_manifest DIR TAG.
layout_manifest()
{
	local digest
	digest=$(jq -r --arg t "$2" '.manifests[] | select(
		.annotations["org.opencontainers.image.ref.name"] == $t) |
		.digest' "$1/index.json")
	cat "$1/blobs/sha256/${digest#sha256:}"
}

# get REPOSITORY PATH: of the registry's API.
get()
{
	curl -s -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/$1/$2"
}

# image_digest REPOSITORY TAG: what the tag means; "-": nothing.
image_digest()
{
	curl -sfI -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/$1/manifests/$2" | tr -d '\r' |
		awk 'tolower($1) == "docker-content-digest:" { d = $2 }
			END { print d ? d : "-" }'
}

# tars DIR TAG OUT: the layers of an image in an OCI folder, as plain archives
# OUT.0, OUT.1, …; sets $TARS.
tars()
{
	local digest blob type
	TARS=()
	while read -r type digest; do
		blob=$1/blobs/sha256/${digest#sha256:}
		case $type in
		*zstd) zstd -qdc "$blob" ;;
		*gzip) gzip -dc "$blob" ;;
		*) cat "$blob" ;;
		esac >"$3.${#TARS[@]}" || return 1
		TARS+=("$3.${#TARS[@]}")
	done < <(layout_manifest "$1" "$2" |
		jq -r '.layers[] | .mediaType + " " + .digest')
}

# tree DIR TAG [dumptree's options]: prints the tree of an image in an OCI
# folder.  umoci 0.4 knows no zstd.
tree()
{
	local dir=$1 tag=$2 status=0
	shift 2
	rm -rf "$TMP/unpack"
	mkdir "$TMP/unpack" && tars "$dir" "$tag" "$TMP/unpack/layer" &&
		make_image "$TMP/unpack/oci" t ${TARS[@]+"${TARS[@]}"} \
			>/dev/null || return 1
	umoci unpack --image "$TMP/unpack/oci:t" "$TMP/unpack/bundle" \
		>"$TMP/umoci.log" 2>&1 || {
		tail -3 "$TMP/umoci.log" >&2
		return 1
	}
	python3 "$LAB/dumptree.py" "$TMP/unpack/bundle/rootfs" "$@" || status=1
	rm -rf "$TMP/unpack"
	return "$status"
}

# What eStargz adds to a layer is not the image's.
without_stargz()
{
	grep -vE "^'(stargz\.index\.json|\.(no\.)?prefetch\.landmark)' "
}
