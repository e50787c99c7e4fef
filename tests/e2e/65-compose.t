#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Images composed of layers that were never an image's before, in each format,
# in a real docker-registry and in a folder: skopeo, podman and quicklayer find
# in them what they were composed of; nothing that is there is sent again; no
# tag means an image that is not there as it was put.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
busybox=$(command -v busybox) || skip_all "needs busybox"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"
compose=$B/tests/lab/compose

# One layer as a source, two as the new image.
mkdir -p "$TMP/root"
python3 "$LAB/oddtree.py" "$TMP/root" || bail oddtree
# JSON, and so tables of contents, cannot have this name.
rm -f "$TMP/root/data/"$'\xff\xfe'*
cp "$busybox" "$TMP/root/bin/busybox"
for name in sh cat; do
	ln -s busybox "$TMP/root/bin/$name"
done
tarred()
{
	tar --format=pax --xattrs --xattrs-include='*' -C "$TMP/root" \
		--numeric-owner --no-recursion -cf "$1" -T -
}
(cd "$TMP/root" && find .) | tarred "$TMP/all.tar"
(cd "$TMP/root" && find bin etc many) | tarred "$TMP/lower.tar"
(cd "$TMP/root" && find . ! -path './bin*' ! -path './etc*' ! -path './many*') |
	tarred "$TMP/upper.tar"
"$B/tests/lab/retar" <"$TMP/lower.tar" >"$TMP/lower-new.tar"
cat >"$TMP/config.json" <<'JSON'
{"architecture": "amd64", "os": "linux", "variant": "v2", "x-unknown": [1, {}],
 "created": "2001-02-03T04:05:06.7Z", "author": "someone",
 "config": {"Env": ["PATH=/bin"], "Cmd": ["cat", "/etc/small"],
            "Labels": {"a": "b"}, "User": "0", "x": null},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]},
 "history": [{"created_by": "one", "x": 1},
             {"created_by": "two", "empty_layer": true}]}
JSON
make_image --arch amd64 "$TMP/oci" src "$TMP/all.tar:gzip" >/dev/null ||
	bail make_image
SRC=oci:$TMP/oci:src
"$QL" pull -q --full "$SRC" >/dev/null || bail "pull $SRC"
REGISTRY_ACCESS=1 start_registry

# get PATH: of the registry's API, of the repository.
get()
{
	curl -s -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/lab/img/$1"
}

declare -A EXTRA=([estargz]="/.no.prefetch.landmark: missing: file, -
/stargz.index.json: missing: file, -")
for format in zstd:chunked estargz gzip; do
	tag=${format/:/}
	to=$REGISTRY/lab/img:$tag
	json=$("$compose" -f "$format" -t 3 "$TMP/config.json" "$to" \
		"$TMP/lower-new.tar" "$TMP/upper.tar" 2>"$TMP/log") ||
		fail "$format: $(cat "$TMP/log")"
	is "$(jq -c '[[.layers[].there], .start_size]' <<<"$json")" \
		"[[false,false],0]" "$format: two layers are sent, and read back"
	is "$(jq -c '[.layers[].tar_size]' <<<"$json")" \
		"[$(stat -c %s "$TMP/lower-new.tar"),$(stat -c %s "$TMP/upper.tar")]" \
		"... of these archives"
	digest=$(jq -r .digest <<<"$json")
	is "sha256:$(get "manifests/$tag" | sha256sum | cut -c1-64)" "$digest" \
		"... the tag means the image"
	one=$("$compose" -f "$format" -t 1 "$TMP/config.json" \
		"oci:$TMP/folder:$tag" "$TMP/lower-new.tar" "$TMP/upper.tar")
	is "$(jq -r .digest <<<"$one")" "$digest" \
		"... one thread, and a folder: the same digest"
	json=$("$compose" -f "$format" "$TMP/config.json" "$to" \
		"$TMP/lower-new.tar" "$TMP/upper.tar")
	is "$(jq -c '[[.layers[].there], .bytes_sent]' <<<"$json")" \
		"[[true,true],0]" "... again, nothing is sent"
	ok "... skopeo copies it, digests and all" skopeo --insecure-policy \
		copy -q --src-tls-verify=false "docker://$to" \
		"oci:$TMP/skopeo:$tag"
	is "$(lab_podman run --rm --network none --tls-verify=false "$to" 2>&1 |
		tail -1)" "kept in the image" "... podman runs it"
	lab_podman rmi -af >/dev/null 2>&1
	[ "$format" = zstd:chunked ] || # which it does not know
		ok "... umoci unpacks it" umoci unpack \
			--image "$TMP/folder:$tag" "$TMP/bundle-$tag"
	for how in lazy full; do
		QUICKLAYER_ROOT=$TMP/store-$tag-$how "$QL" pull -q "--$how" \
			"$to" >"$TMP/log" 2>&1 || fail "$how: $(cat "$TMP/log")"
		is "$(QUICKLAYER_ROOT=$TMP/store-$tag-$how "$QL" diff \
			"$to" "$TMP/root" | sort)" "${EXTRA[$tag]:-}" \
			"... quicklayer pulls it --$how: the tree is the same"
	done
done

# ---- the configuration ----

json=$("$compose" "$TMP/config.json" "$REGISTRY/lab/img:c" \
	"$TMP/lower-new.tar" "$TMP/upper.tar")
get "blobs/$(jq -r .config <<<"$json")" >"$TMP/new.json"
is "$(jq -cS 'del(.rootfs, .history)' "$TMP/new.json")" \
	"$(jq -cS 'del(.rootfs, .history)' "$TMP/config.json")" \
	"all of the configuration stays"
is "$(jq -c .history "$TMP/new.json")" \
	'[{"created_by":"one","x":1,"empty_layer":true},{"created_by":"two","empty_layer":true},{"created":"2001-02-03T04:05:06.7Z","created_by":"lower","comment":"quicklayer"},{"created":"2001-02-03T04:05:06.7Z","created_by":"upper","comment":"quicklayer"}]' \
	"... and the history, which is of no layers now"
is "$(jq -r '.rootfs.diff_ids[]' "$TMP/new.json")" \
	"$(for f in lower-new upper; do
		echo "sha256:$(sha256sum <"$TMP/$f.tar" | cut -c1-64)"
	done)" "the diff IDs are the archives'"
is "$(get manifests/c | jq -r '.annotations["test.note"]')" composed \
	"annotations are the manifest's"

# ---- a start blob ----

"$QL" record "$SRC" /bin/cat /etc/small >"$TMP/log" 2>&1 ||
	bail "record: $(cat "$TMP/log")"
cp "$QUICKLAYER_ROOT"/images/*.trace "$TMP/trace" || bail "no trace"
to=$REGISTRY/lab/img:start
json=$("$compose" -s "$SRC" -r "$TMP/trace" "$TMP/config.json" "$to" \
	"$TMP/lower-new.tar" "$TMP/upper.tar" 2>&1)
like "$(jq -r .start_size <<<"$json")" '^[1-9]' "with a tree, a start blob"
like "$(get manifests/start | jq -r '.annotations["io.quicklayer.start"]')" \
	"^sha256:[0-9a-f]{64} $(jq -r .start_size <<<"$json") " \
	"... that the manifest names"
export QUICKLAYER_ROOT=$TMP/store-start
start=$(get manifests/start | jq -r '.annotations["io.quicklayer.start"][:71]')
before=$(wc -l <"$TMP/registry.log")
ok "... quicklayer pulls it" "$QL" pull -q --lazy "$to"
asked=$(tail -n "+$((before + 1))" "$TMP/registry.log" | grep GET)
like "$asked" "GET /v2/lab/img/blobs/$start" "... by that blob"
unlike "$(grep -v "$start" <<<"$asked")" blobs/ "... and no other"
is "$("$QL" cat "$to" /etc/small)" "kept in the image" "... reads it"
is "$("$QL" diff "$to" "$TMP/root")" "" "... and the tree is the same"
export QUICKLAYER_ROOT=$TMP/store
json=$("$compose" -s "$SRC" "$TMP/config.json" "$REGISTRY/lab/img:less" \
	"$TMP/lower-new.tar" 2>&1)
like "$json" "start blob: .*[Nn]o" "a tree that the layers do not have is refused"
is "$(get manifests/less | jq -r '.errors[0].code')" MANIFEST_UNKNOWN \
	"... and no tag means it"

# ---- tags, mounts, bytes that are given up ----

json=$("$compose" -n "$TMP/config.json" "$REGISTRY/lab/img:later" \
	"$TMP/lower-new.tar")
is "$(get manifests/later | jq -r '.errors[0].code')" MANIFEST_UNKNOWN \
	"an image that was put has no tag yet"
is "$(get "manifests/$(jq -r .digest <<<"$json")" | jq -r .schemaVersion)" 2 \
	"... but is there"
json=$("$compose" -n "$TMP/config.json" "oci:$TMP/folder:later" \
	"$TMP/lower-new.tar")
is "$(jq -c '[.manifests[].annotations[]] | index("later")' \
	"$TMP/folder/index.json")" null "... neither in a folder"
json=$("$compose" -x -m "$REGISTRY/lab/img:c" "$TMP/config.json" \
	"$REGISTRY/lab/other:c" "$TMP/lower-new.tar" "$TMP/upper.tar" 2>&1)
is "$(jq -c '[.layers[].there]' <<<"$json")" "[true,true]" \
	"without their bytes, blobs are mounted from another repository"
fails "... or not" 1 "$compose" -x -m "$REGISTRY/lab/none:c" \
	"$TMP/config.json" "$REGISTRY/lab/third:c" "$TMP/lower-new.tar"
like "$OUT" "compose: -61: .*not there, nor here" "... and it says so"
fails "... nor where there is none to mount from" 1 "$compose" -x \
	"$TMP/config.json" "$REGISTRY/lab/third:c" "$TMP/lower-new.tar"
like "$OUT" "compose: -61: " "... and it says so"
is "$(find "$REGISTRY_DIR" -path '*lab/third/_uploads/*' -name data | wc -l)" 0 \
	"... no upload is left open"
fails "... nor in a folder" 1 "$compose" -x "$TMP/config.json" \
	"oci:$TMP/empty:c" "$TMP/lower-new.tar"

# ---- what no table can say; what is damaged ----

printf 'x' >"$TMP/root/"$'\xff'
echo $'\xff' | tarred "$TMP/odd.tar"
json=$("$compose" -s "$SRC" "$TMP/config.json" "$REGISTRY/lab/img:odd" \
	"$TMP/odd.tar" "$TMP/all.tar" 2>&1)
is "$(jq -c '[.start_size, [.layers[] | [.lazy, .why]]]' <<<"$json")" \
	"[0,[[false,true],[true,false]]]" \
	"a layer that no table can say is written without, and no start blob"
fails "an archive that is none" 1 "$compose" "$TMP/config.json" \
	"$REGISTRY/lab/img:bad" "$TMP/config.json"
like "$OUT" "compose: -74: " "... is refused as bad"
echo '{"rootfs": {}, "history": [1]}' >"$TMP/bad.json"
fails "a configuration that is none" 1 "$compose" "$TMP/bad.json" \
	"$REGISTRY/lab/img:bad" "$TMP/lower-new.tar"
like "$OUT" "compose: -74: .*configuration: history" "... is refused as bad"
is "$(get manifests/bad | jq -r '.errors[0].code')" MANIFEST_UNKNOWN \
	"... and no tag means it"

# damage DIGEST: a byte of the blob in the registry's folder.
damage()
{
	local hex=${1#sha256:}
	printf '\377' | dd conv=notrunc status=none bs=1 seek=40 \
		of="$REGISTRY_DIR/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
}
json=$("$compose" -n "$TMP/config.json" "$REGISTRY/lab/img:hurt" \
	"$TMP/lower-new.tar")
damage "$(jq -r .config <<<"$json")"
fails "a configuration that came to harm gets no tag" 1 "$compose" \
	"$TMP/config.json" "$REGISTRY/lab/img:hurt" "$TMP/lower-new.tar"
like "$OUT" "compose: -74: .*configuration: digest" "... and it says so"
is "$(get manifests/hurt | jq -r '.errors[0].code')" MANIFEST_UNKNOWN \
	"... and no tag means it"
damage "$(jq -r '.layers[0].digest' <<<"$json")"
fails "a layer that came to harm is found by reading it back" 1 "$compose" \
	"$TMP/config.json" "$REGISTRY/lab/img:hurt" "$TMP/lower-new.tar"
like "$OUT" "compose: -74: " "... and it says so"
done_testing
