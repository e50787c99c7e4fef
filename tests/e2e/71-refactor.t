#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Images made to share what they have alike, in a real docker-registry: umoci,
# skopeo, podman and quicklayer find in each new image what the old one has,
# to the last attribute; the same images give the same digests, and nothing is
# sent twice.
# shellcheck disable=SC2016 # jq's variables are not the shell's
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/refactor.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
busybox=$(command -v busybox) || skip_all "needs busybox"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"

# ---- images ----

# random FILE BYTES
random()
{
	mkdir -p "$(dirname "$1")"
	head -c "$2" /dev/urandom >"$1"
}
# packed FOLDER: as $TMP/FOLDER.tar.
packed()
{
	tar --format=pax --xattrs --xattrs-include='*' -C "$TMP/$1" \
		--numeric-owner -cf "$TMP/$1.tar" .
}

# Three stand on one base; one was built apart, of most of the same files; one
# is that with other times.
mkdir -p "$TMP"/{base/bin,app,web/srv,odd,odder/deep,odder/etc,apart,late}
cp "$busybox" "$TMP/base/bin/busybox"
for name in sh cat echo; do
	ln -s busybox "$TMP/base/bin/$name"
done
for i in {1..30}; do
	random "$TMP/base/usr/lib/f$i" $((RANDOM + 20000))
done
random "$TMP/base/etc/gone" 30000
random "$TMP/base/etc/old" 30000
ln "$TMP/base/usr/lib/f1" "$TMP/base/usr/lib/hard"
random "$TMP/app/opt/common" 300000
random "$TMP/app/opt/app" 200000
mkdir "$TMP/web/opt"
cp -p "$TMP/app/opt/common" "$TMP/web/opt/"
random "$TMP/web/srv/web" 200000
python3 "$LAB/oddtree.py" "$TMP/odd" || bail oddtree
: >"$TMP/odder/deep/.wh..wh..opq"
echo new >"$TMP/odder/deep/new"
: >"$TMP/odder/etc/.wh.gone"
mkdir "$TMP/odder/etc/old" "$TMP/odder/etc/void"
find "$TMP"/{base,app,web,odder} -exec touch -hd '2020-02-02 02:02:02.02' {} +
cp -a "$TMP/base/." "$TMP/apart/"
rm "$TMP/apart/etc/gone"
random "$TMP/apart/opt/apart" 100000
cp -a "$TMP/apart/." "$TMP/late/"
find "$TMP/late" -exec touch -hd '2021-01-01' {} +
for l in base app web odd odder apart late; do
	packed "$l"
done

# image NAME LAYER...
image()
{
	local name=$1
	shift
	make_image --arch amd64 --config '{"Env": ["PATH=/bin", "IS='"$name"'"],
		"Entrypoint": ["sh", "-c", "echo $IS $0; id -u; ls -ld /etc"],
		"Cmd": ["command"], "User": "7:8", "Labels": {"is": "'"$name"'"},
		"x-unknown": {"a": [1]}}' \
		"$TMP/oci" "$name" "${@/%/.tar:gzip}" >/dev/null &&
		push_image "oci:$TMP/oci:$name" "lab/$name:1"
}
REGISTRY_ACCESS=1 start_registry
ALL=(app web odd apart)
(
	cd "$TMP" && image app base app && image web base web &&
		image odd base odd odder && image apart apart && image late late
) || bail images
SOURCES=("${ALL[@]/#/$REGISTRY/lab/}")
SOURCES=("${SOURCES[@]/%/:1}")

# refactor TO [OPTION...] [IMAGE...]: what it says is for said().
refactor()
{
	local to=$1
	shift
	"$QL" refactor --json --to "$to" "$@" 2>"$TMP/err" >"$TMP/said" &&
		return 0
	note "$(cat "$TMP/err")"
	return 1
}
said()
{
	jq -c "$@" "$TMP/said"
}
# Of what was said: the new image's digest.  new NAME
new()
{
	said -r --arg n "$REGISTRY/lab/$1:1" \
		'.images[] | select(.name == $n).digest'
}
digests()
{
	said '[.images[].digest] | sort'
}
# Requests since the last mark that bring a blob's bytes.
uploads()
{
	sleep 0.1
	tail -n "+$((MARK + 1))" "$TMP/registry.log" |
		grep -cE '"(PATCH|PUT) [^ ]*/blobs/'
}
other()
{
	QUICKLAYER_ROOT=$TMP/other "$QL" "$@"
}
# same_as NAME NEW: by our own account, in another store.
same_as()
{
	other pull -q "$REGISTRY/lab/$1:1" >/dev/null &&
		other pull -q "$2" >/dev/null &&
		other diff "$REGISTRY/lab/$1:1" "$2"
}

# ---- what is there then ----

ok "four images" refactor "$REGISTRY/lab/new" --picture "$TMP/layers.svg" \
	"${SOURCES[@]}"
FIRST=$(digests)
CONTENT=$(said .content_after)
is "$(said '[.images[].error] | map(select(.)) | length')" 0 \
	"... without an error"
ok "... a picture that is XML" python3 -c 'import sys, xml.dom.minidom
xml.dom.minidom.parse(sys.argv[1])' "$TMP/layers.svg"
is "$(said '[.layers[] | [.digest, .size]] | sort')" \
	"$(for d in $(said -r '.layers[].digest'); do
		echo "[\"$d\",$(curl -s "http://$REGISTRY/v2/lab/new/blobs/$d" |
			wc -c)]"
	done | jq -cs 'sort')" "... layers of the sizes that are printed"
is "$(said .registry_after)" \
	"$(for name in "${ALL[@]}"; do
		get lab/new "manifests/$name-1"
	done | jq -s '[.[].layers[]] | unique_by(.digest) | [.[].size] | add')" \
	"... which are what the registry keeps"
is "$(said '.content_after < .content_before')" true \
	"... less than before"
like "$(said '[.layers[] | select(.images | length == 4).content] | add')" \
	'^[0-9]{6}' "... some of it is of all four"

# What podman prints, but for how it gets the image.
runs()
{
	lab_podman pull -q --tls-verify=false "$1" >/dev/null &&
		lab_podman run --rm --network none "$1" 2>&1
}

# What the archives of a new image's layers name, as dumptree does.
names()
{
	python3 - "${TARS[@]}" <<'PYTHON'
import os, sys, tarfile
for path in sys.argv[1:]:
    seen = set()
    with tarfile.open(path) as tar:
        for m in tar:
            name = os.fsencode(m.name).lstrip(b"./")
            if m.name.startswith("./."):
                name = os.fsencode(m.name)[2:]
            assert name not in seen, name
            seen.add(name)
            print(repr(name)[1:])
PYTHON
}

for name in "${ALL[@]}"; do
	to=$REGISTRY/lab/new:$name-1
	get lab/new "manifests/$name-1" >"$TMP/manifest"
	get lab/new "blobs/$(jq -r .config.digest "$TMP/manifest")" \
		>"$TMP/config"
	is "sha256:$(sha256sum <"$TMP/manifest" | cut -c1-64)" "$(new "$name")" \
		"$name: the tag means the image that is printed"
	is "$(same_as "$name" "$to")" "" "... it is the old one"
	ok "... skopeo copies it" skopeo --insecure-policy copy -q \
		--src-tls-verify=false "docker://$to" "oci:$TMP/copy:$name"
	tree "$TMP/oci" "$name" >"$TMP/$name.old" || fail "umoci: old"
	tree "$TMP/copy" "$name" >"$TMP/$name.new" || fail "umoci: new"
	[ -s "$TMP/$name.old" ] || fail "umoci: nothing"
	ok "... umoci unpacks both to the same tree" \
		diff "$TMP/$name.old" "$TMP/$name.new"
	mkdir -p "$TMP/tars"
	tars "$TMP/copy" "$name" "$TMP/tars/l"
	is "$(names | sort -u | diff - <(sed 's/ type=.*//' "$TMP/$name.old" |
		sort) | head -5)" "" "... its layers have these names alone"
	rm -rf "$TMP/tars"
	was=$(runs "$REGISTRY/lab/$name:1")
	like "$was" "^$name command" "... the old one runs"
	is "$(runs "$to")" "$was" "... the new one prints the same"
	lab_podman rmi -af >/dev/null 2>&1
	old=$(layout_manifest "$TMP/oci" "$name" | jq -r .config.digest)
	is "$(jq -cS 'del(.rootfs, .history)' "$TMP/config")" \
		"$(jq -cS 'del(.rootfs, .history)' \
			"$TMP/oci/blobs/sha256/${old#sha256:}")" \
		"... of the same configuration"
	n=$(jq '.layers | length' "$TMP/manifest")
	is "$(jq -c '[([.history[] | select(.empty_layer | not)] | length),
		(.rootfs.diff_ids | length)]' "$TMP/config")" "[$n,$n]" \
		"... with a history of so many layers"
	is "$(jq -r '.annotations["io.quicklayer.refactored-from"]' \
		"$TMP/manifest")" "lab/$name:1@$(image_digest "lab/$name" 1)" \
		"... and says what it was made from"
done

# ---- the same again, and elsewhere ----

mark
ok "again" refactor "$REGISTRY/lab/new" "${SOURCES[@]}"
is "$(digests)" "$FIRST" \
	"... the same digests"
is "$(said .bytes_sent) $(uploads)" "0 0" "... nothing is sent"
backwards=("${SOURCES[3]}" "${SOURCES[2]}" "${SOURCES[1]}" "${SOURCES[0]}")
for jobs in 1 3; do
	refactor "oci:$TMP/folder$jobs" --parallel "$jobs" "${backwards[@]}"
	is "$(digests)" "$FIRST" \
		"in another order, $jobs at once, to a folder: the same"
done
is "$(for name in "${ALL[@]}"; do
	layout_manifest "$TMP/folder1" "$name-1" | sha256sum
done)" "$(for name in "${ALL[@]}"; do
	get lab/new "manifests/$name-1" | sha256sum
done)" "... which its tags mean"
here=$REGISTRY
start_registry elsewhere
refactor "$REGISTRY/x/y" "${SOURCES[@]}"
REGISTRY=$here
is "$(digests)" "$FIRST" "in another registry: the same"

# ---- other ways ----

for format in estargz gzip; do
	ok "$format" refactor "$REGISTRY/lab/{name}:$format-{tag}" \
		--format "$format" "${SOURCES[@]}"
	for name in "${ALL[@]}"; do
		to=$REGISTRY/lab/$name:$format-1
		is "$(same_as "$name" "$to" | grep -vE \
			'^/(\.(no\.)?prefetch\.landmark|stargz\.index\.json): extra')" \
			"" "... $name is the old one"
		skopeo --insecure-policy copy -q --src-tls-verify=false \
			"docker://$to" "oci:$TMP/copy:$format-$name"
		tree "$TMP/copy" "$format-$name" | without_stargz \
			>"$TMP/$name.new"
		ok "... by umoci, too" diff "$TMP/$name.old" "$TMP/$name.new"
	done
done
for max in 1 3; do
	refactor "oci:$TMP/folder:{name}_$max" --max-layers "$max" \
		"${SOURCES[@]}"
	is "$(said --argjson m "$max" '[.images[].layers | length] |
		max <= $m')" true "$max layers at most"
	is "$(for name in "${ALL[@]}"; do
		layout_manifest "$TMP/folder" "${name}_$max" |
			jq '.layers | length'
	done | sort -n | tail -1)" "$(said '[.images[].layers | length] |
		max')" "... as it says"
	other pull -q "oci:$TMP/folder:odd_$max" >/dev/null
	is "$(other diff "$REGISTRY/lab/odd:1" "oci:$TMP/folder:odd_$max")" "" \
		"... and the images are the old ones"
done

mark
ok "a dry run" refactor "$REGISTRY/lab/dry" --dry-run \
	--picture "$TMP/dry.svg" "${SOURCES[@]}"
is "$(tail -n "+$((MARK + 1))" "$TMP/registry.log" |
	grep -cE '"(PATCH|PUT|POST|DELETE) ')" 0 "... writes nothing"
is "$(said '[.dry_run, .images[0].digest]')" "[true,null]" \
	"... has no digests"
is "$(said .content_after)" "$CONTENT" \
	"... says what there would be"

times=("$REGISTRY/lab/apart:1" "$REGISTRY/lab/late:1")
refactor "oci:$TMP/relaxed:{name}_no" "${times[@]}"
apart=$(said .content_after)
refactor "oci:$TMP/relaxed:{name}_yes" --relax mtime "${times[@]}"
ok "files that differ in their times alone are united" \
	[ "$(said .content_after)" -lt $((apart * 6 / 10)) ]
other pull -q "oci:$TMP/relaxed:late_yes" >/dev/null
other pull -q "$REGISTRY/lab/late:1" >/dev/null
is "$(other diff "$REGISTRY/lab/late:1" "oci:$TMP/relaxed:late_yes" |
	grep -v ': mtime: ')" "" "... which nothing else is"

# ---- one more image ----

# kept BEFORE AFTER: the part of BEFORE's bytes, in percent, that are of layers
# of AFTER.
kept()
{
	jq -n --argjson b "$1" --argjson a "$2" '
		([$a.layers[].digest]) as $now |
		([$b.layers[] | select(.digest | IN($now[])).size] | add) *
		100 / ([$b.layers[].size] | add) | floor'
}
# more NAME WHAT: app and web, then NAME as well.
more()
{
	local before kept to=$REGISTRY/lab/inc-$1
	refactor "$to" "$REGISTRY/lab/app:1" "$REGISTRY/lab/web:1"
	before=$(said .)
	ok "one image more, $2" refactor "$to" --incremental \
		"$REGISTRY/lab/app:1" "$REGISTRY/lab/web:1" "$REGISTRY/lab/$1:1"
	kept=$(kept "$before" "$(said .)")
	ok "... most of the layers stay" [ "$kept" -ge 90 ]
	note "$kept % of their bytes"
	before=$(digests)
	for name in app web "$1"; do
		is "$(same_as "$name" "$to:$name-1")" "" \
			"... $name is the old one"
	done
	mark
	refactor "$to" --incremental "$REGISTRY/lab/app:1" \
		"$REGISTRY/lab/web:1" "$REGISTRY/lab/$1:1"
	is "$(said .bytes_sent) $(uploads)" "0 0" \
		"... again, nothing is sent"
	is "$(digests)" "$before" "... and the images are the same"
}
more odd "with the same base"
more apart "with most of the base's files"

# ---- what the start reads ----

"$QL" record -q "$REGISTRY/lab/app:1" busybox cat /opt/app /usr/lib/f7 \
	>/dev/null 2>"$TMP/err" || bail "record: $(cat "$TMP/err")"
ok "with a record of a start" refactor "$REGISTRY/lab/start" "${SOURCES[@]}"
start=$(get lab/start manifests/app-1 |
	jq -r '.annotations["io.quicklayer.start"]')
size=$(said --arg n "$REGISTRY/lab/app:1" \
	'.images[] | select(.name == $n).start_size')
like "$start" "^sha256:[0-9a-f]{64} $size " "... the new image has a start blob"
mark
ok "... by which it is pulled" other pull -q --lazy "$REGISTRY/lab/start:app-1"
asked=$(tail -n "+$((MARK + 1))" "$TMP/registry.log" | grep /blobs/)
like "$asked" "GET [^ ]*/blobs/${start:0:71}" "... it is asked for"
is "$(grep -v "${start:0:71}" <<<"$asked")" "" "... and no other blob"
is "$(other cat "$REGISTRY/lab/start:app-1" /opt/app | sha256sum)" \
	"$(sha256sum <"$TMP/app/opt/app")" "... it reads"
is "$(other diff "$REGISTRY/lab/app:1" "$REGISTRY/lab/start:app-1")" "" \
	"... and is the old one"

ok "the stores have no fault" "$QL" fsck
done_testing
