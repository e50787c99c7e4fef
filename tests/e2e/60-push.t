#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# quicklayer push in each format to a real docker-registry: what is there then
# is an image to skopeo, podman and containerd as well as to quicklayer, and
# its files are those of the source.
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/engines.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
busybox=$(command -v busybox) || skip_all "needs busybox"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"

# Two layers with all that layers have; the upper deletes and replaces.
mkdir -p "$TMP/base"/{bin,etc,gone,old} "$TMP/top"/{etc,old}
cp "$busybox" "$TMP/base/bin/busybox"
for name in sh cat echo ls; do
	ln -s busybox "$TMP/base/bin/$name"
done
seq 1 400000 >"$TMP/base/etc/large"
head -c 1500000 /dev/zero >"$TMP/base/etc/zeros"
printf x >>"$TMP/base/etc/zeros"
head -c 300000 /dev/urandom >"$TMP/base/etc/random"
ln "$TMP/base/etc/large" "$TMP/base/etc/hard"
: >"$TMP/base/etc/empty"
echo gone >"$TMP/base/gone/file"
echo old >"$TMP/base/old/file"
mkfifo "$TMP/base/etc/fifo"
mknod "$TMP/base/etc/null" c 1 3
chmod 4755 "$TMP/base/bin/busybox"
setfattr -n user.test -v "a value" "$TMP/base/etc/empty"
touch -d '1969-12-31 23:59:59.25' "$TMP/base/etc/fifo"
name=$(printf 'n%.0s' {1..250})
echo long >"$TMP/base/etc/$name"
: >"$TMP/top/.wh.gone"
: >"$TMP/top/old/.wh..wh..opq"
echo new >"$TMP/top/old/new"
echo hello >"$TMP/top/etc/hello"
for l in base top; do
	tar --format=pax --xattrs --xattrs-include='user.*' -C "$TMP/$l" \
		--owner=0 --group=0 --numeric-owner -cf "$TMP/$l.tar" .
done
make_image --arch amd64 --config '{"Env": ["PATH=/bin"], "Cmd": ["cat", "/etc/hello"]}' \
	"$TMP/oci" src "$TMP/base.tar:gzip" "$TMP/top.tar:plain" >/dev/null ||
	bail make_image
SRC=oci:$TMP/oci:src
"$QL" pull -q "$SRC" >/dev/null || bail "pull $SRC"
REGISTRY_ACCESS=1 start_registry

# manifest TAG: as the registry has it.
manifest()
{
	curl -s -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/lab/img/manifests/$1"
}

declare -A TYPE=([chunked]=zstd [estargz]=gzip [gzip]=gzip)
declare -A KEY=([chunked]=io.github.containers.zstd-chunked.manifest-checksum
	[estargz]=containerd.io/snapshot/stargz/toc.digest [gzip]=none)
declare -A FORMAT=([chunked]=zstd:chunked [estargz]=estargz [gzip]=gzip)
declare -A EXTRA=([estargz]="/.no.prefetch.landmark: extra: -, file
/stargz.index.json: extra: -, file")

for tag in chunked estargz gzip; do
	note "$tag"
	to=$REGISTRY/lab/img:$tag
	json=$("$QL" push --json --format "${FORMAT[$tag]}" "$SRC" "$to") ||
		fail "$tag: push"
	is "$(jq -r '[.layers[].was_there] | @csv' <<<"$json")" "false,false" \
		"$tag: both layers are sent"
	m=$(manifest "$tag")
	is "$(printf %s "$m" | sha256sum | cut -c1-64)" \
		"$(jq -r .digest <<<"$json" | cut -d: -f2)" \
		"... with the manifest of the digest that is printed"
	is "$(jq -r '[.layers[].mediaType] | unique | @csv' <<<"$m" | tr -d '"')" \
		"application/vnd.oci.image.layer.v1.tar+${TYPE[$tag]}" \
		"... of its media type"
	has=$(jq -r --arg k "${KEY[$tag]}" \
		'[.layers[].annotations[$k] // "none" | .[:7]] | unique | @csv' \
		<<<"$m" | tr -d '"')
	if [ "$tag" = gzip ]; then
		is "$has" none "... with no table of contents"
	else
		is "$has" sha256: "... with tables of contents"
	fi
	"$QL" push -q --format "${FORMAT[$tag]}" --parallel 1 "$SRC" \
		"oci:$TMP/again:$tag" >"$TMP/again.digest" || fail "$tag: oci:"
	is "$(cat "$TMP/again.digest")" "$(jq -r .digest <<<"$json")" \
		"... the same, pushed again to a folder"
	json=$("$QL" push --json --format "${FORMAT[$tag]}" "$SRC" "$to")
	is "$(jq -c '[[.layers[].was_there], .bytes_sent]' <<<"$json")" \
		"[[true,true],0]" "... again to the registry, nothing is sent"

	ok "... quicklayer pulls it" "$QL" pull -q "$to"
	is "$("$QL" diff "$SRC" "$to" | sort)" "${EXTRA[$tag]:-}" \
		"... and its files are the source's"
	ok "... skopeo copies it, digests and all" skopeo --insecure-policy \
		copy -q --src-tls-verify=false "docker://$to" \
		"oci:$TMP/skopeo:$tag"
	is "$(lab_podman run --rm --network none --tls-verify=false "$to" 2>&1 |
		tail -1)" hello "... podman runs it"
	lab_podman rmi -af >/dev/null 2>&1
done

is "$("$QL" push -q "oci:$TMP/again:estargz" --format estargz \
	"oci:$TMP/twice:t")" "$("$QL" push -q "$SRC" --format estargz \
	"oci:$TMP/twice:o")" "an eStargz as an eStargz is the same again"
"$QL" push -q "oci:$TMP/again:chunked" --format gzip "oci:$TMP/twice:g" \
	>/dev/null
is "$(jq -r .config.digest <<<"$(manifest gzip)")" \
	"$(jq -r .config.digest <<<"$(manifest chunked)")" \
	"zstd:chunked and gzip have the source's configuration"
is "$(jq -r '.manifests[] | select(.annotations[] == "g").digest' \
	"$TMP/twice/index.json")" "sha256:$(manifest gzip | sha256sum |
		cut -c1-64)" "from zstd:chunked back to gzip is gzip"

# What is worth fetching ahead stands first, each layer for itself.
printf '%s\n' /etc/random etc/hello none >"$TMP/first"
"$QL" push -q --format estargz --first "$TMP/first" "$SRC" \
	"$REGISTRY/lab/img:first" >/dev/null || fail "push --first"
for n in 0 1; do
	blob=$(manifest first | jq -r ".layers[$n].digest")
	curl -s "http://$REGISTRY/v2/lab/img/blobs/$blob" | gzip -dc 2>/dev/null |
		tar -tf - >"$TMP/list.$n" 2>/dev/null
done
is "$(head -4 "$TMP/list.0" | tr '\n' ' ')" \
	"./ ./etc/ ./etc/random .prefetch.landmark " \
	"a list of files: they stand before the landmark"
is "$(head -4 "$TMP/list.1" | tr '\n' ' ')" \
	"./ ./etc/ ./etc/hello .prefetch.landmark " "... in each layer"
"$QL" pull -q "$REGISTRY/lab/img:first" >/dev/null
is "$("$QL" diff "$SRC" "$REGISTRY/lab/img:first" | sort)" \
	"/.prefetch.landmark: extra: -, file
/stargz.index.json: extra: -, file" "... and the files are the source's"

# Other sources: a docker archive, Docker's schema 2 in a registry.
skopeo --insecure-policy copy -q "$SRC" "docker-archive:$TMP/img.tar:lab:1" ||
	fail "docker archive"
push_image "$SRC" lab/docker:1 --format v2s2 || fail "schema 2"
for from in "docker-archive:$TMP/img.tar" "$REGISTRY/lab/docker:1"; do
	"$QL" push -q "$from" "oci:$TMP/from:x" >/dev/null ||
		fail "push from $from"
	"$QL" pull -q "oci:$TMP/from:x" >/dev/null
	ok "from ${from%%:*}: the files are the source's" \
		"$QL" diff -q "$SRC" "oci:$TMP/from:x"
done

# ---- containerd ----

containerd_wipe
for tag in chunked estargz gzip; do
	to=$REGISTRY/lab/img:$tag
	ok "containerd pulls $tag" lab_ctr images pull --plain-http "$to"
	is "$(lab_ctr run --rm --net-host "$to" "push-$tag" 2>&1)" hello \
		"... and runs it"
done
containerd_end

# ---- lazily, by others ----

# How many ranges the registry was asked for.
ranges()
{
	grep -c '"GET /v2/lab/img/blobs/.*" 206 ' "$TMP/registry.log"
}

# Podman's partial pull of zstd:chunked (containers/storage).
sed -i '/^\[storage.options/,$d' "$TMP/storage.conf"
cat >>"$TMP/storage.conf" <<-'CONF'
	[storage.options.pull_options]
	enable_partial_images = "true"
	use_hard_links = "false"
	ostree_repos = ""
CONF
before=$(ranges)
is "$(lab_podman run --rm --network none --tls-verify=false \
	"$REGISTRY/lab/img:chunked" 2>&1 | tail -1)" hello \
	"podman runs zstd:chunked with partial pulls"
if [ "$(ranges)" -gt "$before" ]; then
	pass "... and asked for parts of layers"
else
	fail "... and asked for parts of layers"
fi
mkdir "$TMP/root"
id=$(lab_podman create --tls-verify=false --network none "$REGISTRY/lab/img:chunked")
lab_podman export "$id" 2>/dev/null | tar -C "$TMP/root" -xf - \
	etc/large etc/zeros etc/random etc/hello etc/hard "etc/$name" old
is "$(cd "$TMP/root/etc" && sha256sum large zeros random hard "$name")" \
	"$(cd "$TMP/base/etc" && sha256sum large zeros random hard "$name")" \
	"... its files are whole"
is "$(ls "$TMP/root/old")" new "... and its folders merged"
lab_podman rm -af >/dev/null 2>&1

# stargz-snapshotter, where it has been built.
stargz=
for f in "${QL_CACHE:-$HOME/.cache/quicklayer}"/peers/v*/stargz-grpc; do
	[ ! -x "$f" ] || stargz=$f
done
if [ -x "$stargz" ] && command -v ctr-remote >/dev/null; then
	stargz_wipe "$stargz" "$REGISTRY"
	remote()
	{
		ctr-remote -a "$TMP/containerd/sock" "$@"
	}
	before=$(ranges)
	ok "stargz-snapshotter pulls eStargz lazily" remote images rpull \
		--plain-http "$REGISTRY/lab/img:estargz"
	is "$(remote run --snapshotter stargz --rm --net-host \
		"$REGISTRY/lab/img:estargz" lazy sh -c \
		'cat /etc/hello; cat /etc/large | tail -1; ls /old' 2>&1 |
		tr '\n' ' ')" "hello 400000 new " "... and runs it"
	if [ "$(ranges)" -gt "$before" ]; then
		pass "... by parts of layers"
	else
		fail "... by parts of layers"
	fi
	stargz_end
else
	skip "stargz-snapshotter is not built here" 3
fi

done_testing
