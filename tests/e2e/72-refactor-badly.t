#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Refactoring that fails, and that does not although something is odd: images
# that cannot be read, content that changed, registries that take nothing or
# give back something else, kills, a full disk.  No tag means less than it did.
#
#   QL_KILLS   how often one is killed (5)
# shellcheck disable=SC2016 # jq's variables are not the shell's
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/refactor.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/conf" "$TMP/tmp"
echo '{"retries": 2}' >"$TMP/conf/registries.json"

# ---- images ----

for l in base one two big; do
	mkdir -p "$TMP/$l/$l"
	for i in {1..10}; do
		head -c 40000 /dev/urandom >"$TMP/$l/$l/f$i"
	done
done
head -c 10000000 /dev/urandom >"$TMP/big/big/large"
for l in base one two big; do
	tar -C "$TMP/$l" -cf "$TMP/$l.tar" .
done

# image TAG ARCH LAYER...: in $TMP/oci.
image()
{
	local tag=$1 arch=$2
	shift 2
	[ $# = 0 ] || set -- "${@/%/.tar:gzip}"
	make_image --arch "$arch" "$TMP/oci" "$tag" "$@" >/dev/null ||
		bail "image $tag"
}
REGISTRY_ACCESS=1 start_registry
OPEN=$REGISTRY
cd "$TMP" || bail "$TMP"
image one amd64 base one
image two amd64 base two
image arm arm64 base two
image big amd64 base big
image none amd64
for tag in one two arm big none; do
	push_image "oci:$TMP/oci:$tag" "lab/$tag:1" || bail "push $tag"
done
push_image "oci:$TMP/oci:one" lab/one:2 || bail "push one:2"
ONE=$REGISTRY/lab/one:1 TWO=$REGISTRY/lab/two:1 BIG=$REGISTRY/lab/big:1

# refactor TO [OPTION...] [IMAGE...]: JSON in $TMP/said, errors in $TMP/err.
refactor()
{
	local to=$1
	shift
	TMPDIR=$TMP/tmp "$QL" refactor --json --config-dir "$TMP/conf" \
		--to "$to" "$@" >"$TMP/said" 2>"$TMP/err"
}
said()
{
	jq -c "$@" "$TMP/said"
}
# refused DESCRIPTION REGEX ARGUMENT...: exits 1, and says so.
refused()
{
	local what=$1 regex=$2
	shift 2
	fails "$what" 1 refactor "$@"
	like "$(cat "$TMP/err")" "$regex" "... says so"
	is "$(ls "$TMP/tmp")" "" "... leaves no temporary file"
}
# An image is the old one, by our own account in another store.
same_as()
{
	QUICKLAYER_ROOT=$TMP/other "$QL" pull -q "$1" >/dev/null &&
		QUICKLAYER_ROOT=$TMP/other "$QL" pull -q "$2" >/dev/null &&
		QUICKLAYER_ROOT=$TMP/other "$QL" diff "$1" "$2"
}
digest_of()
{
	said -r --arg n "$1" '.images[] | select(.name == $n).digest'
}
blob_file()
{
	local hex=${1#sha256:}
	echo "$REGISTRY_DIR/docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
}

# ---- what is asked for is wrong ----

fails "no destination" 2 "$QL" refactor "$ONE"
for wrong in "--format tar" "--max-layers 0" "--max-layers 100000" \
	"--parallel 0" "--relax owner" "--level 20" "--chunk-size 1" \
	"--picture" "--no-such-option"; do
	# shellcheck disable=SC2086
	fails "$wrong" 2 "$QL" refactor --to "$OPEN/lab/x" "$ONE" $wrong
done
fails "no image" 2 "$QL" refactor --to "$OPEN/lab/x"
mark
refused "two images of one destination" \
	"$ONE and $TWO would both be $OPEN/lab/x:1" "$OPEN/lab/x:1" "$ONE" "$TWO"
refused "two of one name and tag" "would both be" "$OPEN/lab/x" "$ONE" \
	"oci:$TMP/one:1"
refused "another brace" "no other brace" "$OPEN/lab/{digest}" "$ONE"
is "$(tail -n "+$((MARK + 1))" "$TMP/registry.log" | wc -l)" 0 \
	"... before the registry is asked anything"

# ---- images that are left out ----

cp -r "$TMP/oci" "$TMP/bad"
hurt=$(layout_manifest "$TMP/bad" two | jq -r '.layers[1].digest')
printf X | dd of="$TMP/bad/blobs/sha256/${hurt#sha256:}" bs=1 seek=200000 \
	conv=notrunc status=none
REGISTRY_DIR_WAS=$REGISTRY_DIR
start_registry hurt
skopeo --insecure-policy copy -q --dest-tls-verify=false \
	"oci:$TMP/oci:two" "docker://$REGISTRY/lab/hurt:1" || bail "push hurt"
cp "$TMP/bad/blobs/sha256/${hurt#sha256:}" "$(blob_file "$hurt")"
HURT=$REGISTRY/lab/hurt:1 REGISTRY=$OPEN REGISTRY_DIR=$REGISTRY_DIR_WAS
mkdir "$TMP/foreign"
make_image --arch amd64 "$TMP/foreign" t "$TMP/base.tar:gzip" \
	"$TMP/one.tar:gzip" >/dev/null
m=$(layout_manifest "$TMP/foreign" t | jq -c '.layers[1].mediaType =
	"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"')
hex=$(printf %s "$m" | sha256sum | cut -c1-64)
printf %s "$m" >"$TMP/foreign/blobs/sha256/$hex"
jq --arg d "sha256:$hex" --argjson n "${#m}" \
	'.manifests[0] |= (.digest = $d | .size = $n)' \
	"$TMP/foreign/index.json" >"$TMP/index" &&
	mv "$TMP/index" "$TMP/foreign/index.json"

fails "with images that cannot be had" 1 refactor "$OPEN/lab/some" "$ONE" \
	"$OPEN/lab/one:none" "$HURT" "oci:$TMP/foreign:t" "$BIG"
for bad in "$OPEN/lab/one:none" "$HURT" "oci:$TMP/foreign:t"; do
	like "$(cat "$TMP/err")" "quicklayer: refactor: $bad: " \
		"... ${bad##*/} is named"
	like "$(said --arg n "$bad" '.images[] | select(.name == $n) |
		[.error, .digest]')" "^\[\"$bad: .*\",null\]$" \
		"... also in JSON"
done
like "$(cat "$TMP/err")" "may not be distributed" \
	"... and that layers may not be distributed"
is "$(for t in one-none hurt-1 foreign-t; do
	image_digest lab/some "$t"
done | xargs)" "- - -" "... they have no tag"
for good in one big; do
	is "$(same_as "$OPEN/lab/$good:1" "$OPEN/lab/some:$good-1")" "" \
		"... $good is done"
done
fails "with no other" 1 refactor "$OPEN/lab/only" "$HURT"
is "$(ls "$TMP/tmp")" "" "... no temporary file is left"

# ---- odd sets ----

# sure DESCRIPTION TO IMAGE...: it works, and images are what they were.
sure()
{
	local what=$1 to=$2 n i
	shift 2
	ok "$what" refactor "$to" "$@" || note "$(cat "$TMP/err")"
	n=$(said '.images | length')
	for ((i = 0; i < n; i++)); do
		is "$(same_as "$(said -r ".images[$i].name")" \
			"$(said -r ".images[$i].to")")" "" "... the same"
	done
}
sure "one image" "$OPEN/lab/s1" "$ONE"
sure "one of no layer" "$OPEN/lab/s2" "$OPEN/lab/none:1"
sure "it and another" "$OPEN/lab/s2" "$OPEN/lab/none:1" "$TWO"
sure "one named twice" "$OPEN/lab/s3" "$ONE" "$ONE"
is "$(said '.images | length')" 1 "... is one"
sure "two tags of one" "$OPEN/lab/s4" "$ONE" "$OPEN/lab/one:2"
is "$(said '[.images | length, (.[0].layers == .[1].layers)]')" "[2,true]" \
	"... are two, of the same layers"
sure "two architectures" "$OPEN/lab/s5" "$ONE" "$OPEN/lab/arm:1"
is "$(said '[.layers[] | select(.images | length == 2)] | length > 0')" true \
	"... share what is alike"
is "$(for t in one arm; do
	get lab/s5 "blobs/$(get lab/s5 "manifests/$t-1" |
		jq -r .config.digest)" | jq -r .architecture
done | xargs)" "amd64 arm64" "... and stay what they are"
layers=()
mkdir "$TMP/many"
for i in {1..127}; do
	echo "$i" >"$TMP/many/f$((i % 100))"
	tar -C "$TMP/many" -cf "$TMP/many$i.tar" "f$((i % 100))"
	layers+=("many$i")
done
image many amd64 "${layers[@]}"
sure "127 layers" "$OPEN/lab/s6" "oci:$TMP/oci:many" "$ONE"

# ---- content that changes ----

ok "as it should be" refactor "$OPEN/lab/changed" "$ONE" "$TWO"
was=$(image_digest lab/changed one-1)
hex=$(sha256sum <"$TMP/one/one/f3" | cut -c1-64)
object=$TMP/store/objects/${hex:0:2}/${hex:2}
[ -f "$object" ] || bail "no object"
cp "$object" "$TMP/object"
# damaged COMMAND...: of the object.
damaged()
{
	chattr -i "$object" 2>/dev/null
	chmod u+w "$object"
	"$@"
	chmod 0444 "$object"
}
damaged sh -c 'printf XYZ | dd of="$0" conv=notrunc bs=1 seek=77 status=none' \
	"$object"
fails "other bytes in the store" 1 refactor "$OPEN/lab/changed" \
	--max-layers 7 --level 9 "$ONE" "$TWO"
like "$(cat "$TMP/err")" "one/f3" "... the file is named"
is "$(image_digest lab/changed one-1)" "$was" "... the tag stays"
damaged truncate -s 5000 "$object"
fails "fewer bytes" 1 refactor "$OPEN/lab/changed" --level 9 "$ONE" "$TWO"
like "$(cat "$TMP/err")" "one/f3" "... the file is named"
is "$(image_digest lab/changed one-1)" "$was" "... the tag stays"
is "$(ls "$TMP/tmp")" "" "... no temporary file is left"
damaged cp "$TMP/object" "$object"
ok "as it was again" refactor "$OPEN/lab/changed" "$ONE" "$TWO"
is "$(image_digest lab/changed one-1)" "$was" "... the same image"

# A proxy that spoils what the registry gives back of blobs.
lab_start flip python3 "$LAB/flipproxy.py" "$OPEN" "$TMP/flip.port"
wait_for 10 test -s "$TMP/flip.port" || bail flipproxy
FLIP=127.0.0.1:$(cat "$TMP/flip.port")
refused "a registry that gives back something else" \
	"reading back.*(digest|sha256)" "$FLIP/lab/changed" --level 8 "$ONE" "$TWO"
is "$(image_digest lab/changed one-1)" "$was" "... the tag stays"

# ---- registries that take nothing ----

REGISTRY_DIR_KEEP=$REGISTRY_DIR REGISTRY_IN=(env
	REGISTRY_STORAGE_MAINTENANCE_READONLY="{enabled: true}")
start_registry readonly
unset REGISTRY_DIR_KEEP REGISTRY_IN
refused "a registry that is read-only" "upload: HTTP 405" \
	"$REGISTRY/lab/ro" "$ONE" "$TWO"
# bcrypt, which docker-registry wants, by libxcrypt.
perl -e 'print "me:", crypt("secret", q($2b$05$labsaltlabsaltlabsalte)), "\n"' \
	>"$TMP/htpasswd"
start_registry auth "auth:
  htpasswd: {realm: lab, path: $TMP/htpasswd}"
refused "one that knows nobody" "HTTP 401" "$REGISTRY/lab/new" "$ONE" "$TWO"
refused "one that is not there" "127.0.0.1:1" "127.0.0.1:1/lab/x" "$ONE"
REGISTRY=$OPEN

# ---- a full disk ----

mkdir "$TMP/small"
for size in 6m 9m; do
	mount -t tmpfs -o "size=$size" tmpfs "$TMP/small" || bail "no tmpfs"
	fails "$size for temporary files" 1 env TMPDIR="$TMP/small" "$QL" \
		refactor --parallel 1 --to "$OPEN/lab/full" "$ONE" "$BIG"
	like "$OUT" "[Nn]o space left" "... is no room, it says"
	is "$(ls "$TMP/small")" "" "... no temporary file is left"
	is "$(image_digest lab/full one-1)" - "... no tag is made"
	umount "$TMP/small"
done
fails "no folder for temporary files" 1 env TMPDIR="$TMP/nowhere" "$QL" \
	refactor --to "$OPEN/lab/full" "$ONE"
like "$OUT" "$TMP/nowhere" "... is named"

# ---- kills ----

start=${EPOCHREALTIME/[.,]/}
refactor "$OPEN/lab/whole" --parallel 1 --level 9 "$ONE" "$TWO" "$BIG" ||
	bail "refactor: $(cat "$TMP/err")"
took=$((${EPOCHREALTIME/[.,]/} - start))
want=$(said '[.images[].digest]')
note "it takes $((took / 1000)) ms"
killed=0 left=0
for ((round = 1; round <= ${QL_KILLS:-5}; round++)); do
	to=$OPEN/lab/killed$round trouble=
	moment=$(((RANDOM * 32768 + RANDOM) % took))
	# One layer at a time, so that some are finished.
	TMPDIR=$TMP/tmp "$QL" refactor --json --parallel 1 --level 9 \
		--to "$to" "$ONE" "$TWO" "$BIG" >/dev/null 2>&1 &
	pid=$!
	sleep "$(printf '%d.%06d' $((moment / 1000000)) $((moment % 1000000)))"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	[ $? != 137 ] || killed=$((killed + 1))
	left=$((left + $(find "$TMP/tmp" -mindepth 1 -maxdepth 1 | wc -l)))
	sleep 0.3
	grep -oE '"PUT /v2/lab/killed'"$round"'/blobs/[^ ]*digest=sha256[^ &"]*.* 201 ' \
		"$TMP/registry.log" | grep -oE '[0-9a-f]{64}' | sort -u \
		>"$TMP/finished"
	mark
	refactor "$to" --parallel 1 --level 9 "$ONE" "$TWO" "$BIG" ||
		trouble+="next run: $(cat "$TMP/err"); "
	sleep 0.2
	again=$(tail -n "+$((MARK + 1))" "$TMP/registry.log" |
		grep '"PUT [^ ]*/blobs/' | grep -oE '[0-9a-f]{64}' | sort -u |
		comm -12 - "$TMP/finished")
	[ -z "$again" ] || trouble+="sent again: $again; "
	[ "$(said '[.images[].digest]')" = "$want" ] || trouble+="other images; "
	"$QL" fsck >"$TMP/log" 2>&1 || trouble+="fsck: $(cat "$TMP/log"); "
	is "$trouble" "" "killed after $((moment / 1000)) ms, then again ($(wc -l \
		<"$TMP/finished") blobs were there)"
done
note "$killed were running; $left folders were left in TMPDIR"

# What killed runs leave goes with the next one; what another run uses stays.
find "$TMP/tmp" -mindepth 1 -delete
mkdir -p "$TMP"/tmp/quicklayer-refactor.{gone/proof,used}
exec 9>"$TMP/tmp/quicklayer-refactor.used/lock"
flock 9
refactor "$OPEN/lab/swept" "$ONE" || bail "refactor: $(cat "$TMP/err")"
exec 9>&-
is "$(cd "$TMP/tmp" && echo *)" quicklayer-refactor.used \
	"the next run removes what nobody uses any more"
done_testing
