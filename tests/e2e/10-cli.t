#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The command line: what is typed wrongly is told and exits 2, what cannot be
# done exits 1, what is printed as JSON is JSON; images are listed, read,
# checked and removed.  Mounts have a story of their own (30-mount.t).
# Scripts for bash -c are expanded there.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/none
COMMANDS="pull mount umount run record index prefetch images inspect ls cat rmi pin unpin status diff push refactor cachesim gc fsck plan"

# ---- wrong words ----

# usage WHAT WORDS ARGUMENT...: it exits 2, says so on stderr, and nothing on
# stdout.
usage()
{
	local what=$1 words=$2 status=0 out
	shift 2
	out=$("$QL" "$@" 2>"$TMP/err") || status=$?
	if [ "$status" = 2 ] && [ -z "$out" ] &&
		grep -qF -- "$words" "$TMP/err"; then
		pass "$what is told and exits 2"
	else
		fail "$what is told and exits 2"
		note "status $status, stdout: $out, stderr:" "$(cat "$TMP/err")"
	fi
}

usage "no command" "Usage: quicklayer COMMAND"
usage "an unknown command" "quicklayer: fly: no such command" fly
usage "an unknown option" "images: --fly: no such option" images --fly
usage "another command's option" "images: --lazy: no such option" images --lazy
usage "an unknown letter" "ls: -z: no such option" ls -z img
usage "plan without nodes" "plan: either --nodes or --kubernetes" plan img
usage "plan with nodes twice" "plan: either --nodes or --kubernetes" \
	plan --nodes f --kubernetes img
usage "a cluster's name with a file of nodes" "plan: --kubernetes-token, " \
	plan --nodes f --cluster c img
usage "half of a TLS configuration" "plan: --tls-ca, --tls-cert and --tls-key" \
	plan --nodes f --tls-ca f img
usage "a missing value" "images: --root: it needs a value" images --root
usage "a missing operand" "pull: an operand is missing" pull
usage "a second missing operand" "mount: an operand is missing" mount img
usage "one operand too many" "status: b: one operand too many" status a b

for command in $COMMANDS; do
	help=$("$QL" "$command" --help 2>"$TMP/err")
	status=$?
	is "$status $(cat "$TMP/err")" "0 " "$command --help exits 0"
	like "$help" "^Usage: quicklayer $command " "... and shows its usage"
	is "$("$QL" "$command" -h)" "$help" "... and so does -h"
done
is "$("$QL" --help | sed -n 's/^  \([a-z]\{1,\}\)  .*/\1/p' | xargs)" \
	"$COMMANDS" "--help lists the commands"
like "$("$QL" --version)" "^quicklayer [0-9]+\.[0-9]+" "--version"

# ---- no store, no image ----

for command in images "inspect x" "ls x" "cat x /y" status "status x" fsck \
	"mount x $TMP" "diff x y"; do
	# shellcheck disable=SC2086
	fails "$command where there is no store" 1 "$QL" $command
	like "$OUT" "^quicklayer: ${command%% *}: store $TMP/store: no store" \
		"... says so"
done
is "$(ls "$TMP")" "err" "and no store is made"
fails "a store whose place is a file" 1 "$QL" images --root "$TMP/err"
like "$OUT" "store $TMP/err: Not a directory" "... is told"

# ---- an image ----

mkdir -p "$TMP/base/dir/sub" "$TMP/base/bin"
echo "some text, longer than what is kept inside of the metadata: sixty-four" \
	>"$TMP/base/dir/file"
ln -s ../dir "$TMP/base/bin/link"
ln -s /dir/file "$TMP/base/absolute"
ln -s loop "$TMP/base/loop"
mkfifo "$TMP/base/fifo"
mkdir "$TMP/base/"$'new\nline'
touch "$TMP/base/"$'latin\xe9'
chmod 4755 "$TMP/base/dir/file"
seq 1 50000 >"$TMP/base/numbers"
touch -d '2001-02-03 04:05:06.789 UTC' "$TMP/base/dir/file"
tar -C "$TMP/base" --owner=12 --group=34 --numeric-owner \
	-cf "$TMP/base.tar" .
mkdir "$TMP/app"
seq 1 60000 >"$TMP/app/own"
tar -C "$TMP/app" -cf "$TMP/app.tar" .
make_image "$TMP/oci" one "$TMP/base.tar" >/dev/null || bail make_image
make_image "$TMP/oci" two "$TMP/base.tar" "$TMP/app.tar:gzip" >/dev/null ||
	bail make_image
ONE=oci:$TMP/oci:one TWO=oci:$TMP/oci:two

ok "an image is pulled" "$QL" pull "$ONE"
is "$("$QL" pull -q "$TWO" 2>&1)" \
	"$("$QL" inspect "$TWO" | jq -r .digest)" "pull -q prints its digest"
fails "--parallel wants a number" 1 "$QL" pull --parallel 0 "$ONE"
fails "an unknown --mode" 1 "$QL" mount --mode magic "$ONE" "$TMP/m"
fails "an image that is not here" 1 "$QL" ls nothing/here
like "$OUT" "nothing/here: no such image in $TMP/store; pull it first" \
	"... is told"
fails "no reference" 1 "$QL" ls 'UPPER CASE'

# ---- JSON ----

# json COMMAND...: what it prints, whether it exits 0 or 1, is JSON.
json()
{
	"$QL" "$@" >"$TMP/json"
	ok "$*: JSON" jq -e . "$TMP/json"
}
json images --json
json status --json
json status --json "$ONE"
json inspect "$ONE"
json ls --json "$ONE"
json ls --json -R "$ONE"
json pull --json "$ONE"
json diff --json "$ONE" "$TWO"
json fsck --json
is "$("$QL" images --json | jq -r '.[].name' | xargs)" "$ONE $TWO" \
	"images --json has the names"

# What is not UTF-8 has another spelling, and is no reason to print nothing.
ln -s oci "$TMP/"$'oci\xe9'
ODD=oci:$TMP/$'oci\xe9:three'
ln -s $'\e[31m' "$TMP/app/arrow"
tar -C "$TMP/app" -cf "$TMP/arrow.tar" .
make_image "$TMP/oci" three "$TMP/arrow.tar" >/dev/null || bail make_image
json pull --json "$ODD"
json images --json
json status --json "$ODD"
json diff --json "$ONE" "$ODD"
is "$(jq -r '.[] | select(.path == "/latin\\351") | .what' "$TMP/json")" \
	missing "diff --json has a name that is not UTF-8"
ln -sf $'\e[32m' "$TMP/app/arrow"
fails "a link's target differs" 1 "$QL" diff "$ODD" "$TMP/app"
like "$OUT" "/arrow: target: .*033.31m, .*033.32m" \
	"... and cannot steer a terminal"
rm "$TMP/app/arrow"
json rmi --json "$ODD"
is "$("$QL" images -q | wc -l)" 2 "images -q prints a digest each"
is "$("$QL" images | tail -n +2 | awk '{ print $1 }' | xargs)" "$ONE $TWO" \
	"images prints a line each"
is "$("$QL" inspect "$TWO" | jq -c '[(.layers | length), .image_manifest.schemaVersion,
	.image_config.os]')" '[2,2,"linux"]' "inspect has manifest and config"
digest=$("$QL" inspect "$ONE" | jq -r .digest)
for word in "$digest" "${digest#sha256:}" "$(cut -c8-19 <<<"$digest")"; do
	is "$("$QL" inspect "$word" | jq -r .digest)" "$digest" \
		"$word is the image"
done
fails "eleven digits are no digest" 1 "$QL" inspect "$(cut -c8-18 <<<"$digest")"
is "$("$QL" status --json "$ONE" | jq '.files == .files_here and
	.bytes == .bytes_here')" true "status: everything is here"
is "$("$QL" status --json | jq -c '[.images, .names, .layers, .mounts]')" \
	'[2,2,2,[]]' "status of the store"

# ---- ls and cat ----

is "$("$QL" ls "$ONE" | xxd -p)" "$(printf '%s\n' absolute bin dir fifo \
	$'latin\xe9' loop $'new\nline' numbers | xxd -p)" \
	"ls prints names as they are, in order"
is "$(script -qec "'$QL' ls '$ONE'" /dev/null | tr -d '\r' | grep new)" \
	'new\012line' "... on a terminal without control characters"
is "$("$QL" ls "$ONE" bin/link)" "$(printf 'file\nsub')" \
	"ls follows symlinks in the image"
is "$("$QL" ls -R "$ONE" bin/../dir | xargs)" "file sub" "ls -R, and '..'"
is "$("$QL" ls -l "$ONE" dir/file)" \
	"-rwsr-xr-x   1    12    34           71 2001-02-03 04:05:06 dir/file" \
	"ls -l of a file"
like "$("$QL" ls -lR "$ONE")" "lrwxrwxrwx .* bin/link -> ../dir"$'\n' \
	"ls -lR shows where links go"
like "$("$QL" ls -l "$ONE")" $'\n'"prw-r--r-- " "... and FIFOs"
is "$("$QL" ls -R --json "$ONE" | jq -r '.[] | select(.name == "bin/link") |
	.mode + .target')" "lrwxrwxrwx../dir" "ls --json has targets"
ok "cat" cmp <("$QL" cat "$ONE" numbers) "$TMP/base/numbers"
ok "cat follows symlinks" cmp <("$QL" cat "$ONE" bin/link/file) \
	"$TMP/base/dir/file"
ok "... absolute ones, from the image's root" \
	cmp <("$QL" cat "$ONE" absolute) "$TMP/base/dir/file"
is "$("$QL" cat "$ONE" dir/file /dir/file | wc -l)" 2 "cat of two files"
fails "cat of a folder" 1 "$QL" cat "$ONE" dir
like "$OUT" "cat: dir: it is a folder" "... is told"
fails "cat of a FIFO does not hang" 1 timeout 5 "$QL" cat "$ONE" fifo
like "$OUT" "no regular file" "... and is told"
fails "cat of a symlink to itself" 1 "$QL" cat "$ONE" loop
like "$OUT" "symbolic links" "... is told"
fails "cat of nothing" 1 "$QL" cat "$ONE" none
fails "ls of nothing" 1 "$QL" ls "$ONE" dir/none
fails "ls below a file" 1 "$QL" ls "$ONE" dir/file/x
if [ -c /dev/full ]; then
	fails "a full disk is an error" 1 bash -c '"$1" cat "$2" numbers \
		>/dev/full' - "$QL" "$ONE"
	like "$OUT" "No space left" "... and told"
fi
fails "a closed pipe is an error" 1 bash -c \
	'set -o pipefail; "$1" cat "$2" numbers | true' - "$QL" "$ONE"

# ---- diff ----

ok "an image does not differ from itself" "$QL" diff "$ONE" "$digest"
fails "from another it does" 1 "$QL" diff "$ONE" "$TWO"
like "$OUT" "/own: extra" "... by that file"
fails "diff -q" 1 "$QL" diff -q "$ONE" "$TWO"
is "$OUT" "" "... prints nothing"

# ---- fsck ----

ok "fsck finds nothing wrong" "$QL" fsck
object=$(cd "$TMP/base" && sha256sum numbers | sed 's,^\(..\)\(.\{62\}\).*,\1/\2,')
chmod 644 "$QUICKLAYER_ROOT/objects/$object"
printf x | dd of="$QUICKLAYER_ROOT/objects/$object" bs=1 seek=99 conv=notrunc \
	status=none
fails "fsck finds a changed byte" 1 "$QL" fsck
like "$OUT" "objects/$object: its content has another digest" "... and says where"
is "$("$QL" fsck --json | jq .errors)" 1 "... once"
cp "$TMP/base/numbers" "$QUICKLAYER_ROOT/objects/$object"
ok "repaired, it is well" "$QL" fsck

# ---- rmi ----

fails "rmi of nothing" 1 "$QL" rmi nothing
before=$(find "$QUICKLAYER_ROOT/objects" -type f | wc -l)
ok "an image is removed" "$QL" rmi "$TWO"
ok "what it shared stays" cmp <("$QL" cat "$ONE" numbers) "$TMP/base/numbers"
is "$(find "$QUICKLAYER_ROOT/objects" -type f | wc -l)" $((before - 3)) \
	"what it alone had is gone: a file, manifest and configuration"
ok "the store is in order" "$QL" fsck
cp -r "$TMP/oci" "$TMP/again"
ok "the same image by another name" "$QL" pull "oci:$TMP/again:one"
like "$("$QL" rmi "$ONE")" "the name is gone, the image has others" \
	"its first name alone goes"
ok "the image stays" "$QL" ls "oci:$TMP/again:one"
like "$("$QL" rmi --json "$digest" | jq -c '.[0].removed')" true \
	"by digest it goes, with its names"
is "$("$QL" images -q)" "" "nothing is left in the list"
is "$(find "$QUICKLAYER_ROOT"/{objects,images,layers} -type f | wc -l)" 0 \
	"and nothing on disk"
if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ]; then
	"$QL" pull -q "$ONE" >/dev/null
	mkdir "$TMP/m"
	"$QL" mount "$ONE" "$TMP/m"
	fails "a mounted image is not removed" 1 "$QL" rmi "$ONE"
	like "$OUT" "in use" "... and that is said"
	is "$("$QL" status --json | jq -r '.mounts[] | select(.dir == "'"$TMP/m"'").image')" \
		"$ONE" "status shows where it is mounted"
	ok "it still serves" cmp "$TMP/m/numbers" "$TMP/base/numbers"
	"$QL" umount "$TMP/m"
	ok "once unmounted it is" "$QL" rmi "$ONE"
else
	skip "needs root and /dev/fuse" 5
fi

# ---- another version's store ----

"$QL" pull -q "$ONE" >/dev/null
python3 - "$QUICKLAYER_ROOT/catalog/data.mdb" <<-'PY' || bail "no format found"
	import re, sys
	data = bytearray(open(sys.argv[1], "rb").read())
	hits = [m.end() for m in re.finditer(rb"format\x03\0\0\0", data)]
	for at in hits:
	    data[at - 4] = 99
	open(sys.argv[1], "wb").write(data)
	sys.exit(0 if hits else 1)
PY
sum=$(sha256sum <"$QUICKLAYER_ROOT/catalog/data.mdb")
for command in images fsck "pull $TWO" "rmi $ONE"; do
	# shellcheck disable=SC2086
	fails "$command in a store of an unknown format" 1 "$QL" $command
	like "$OUT" "the store has format 99, this program knows format 3" \
		"... says so"
done
is "$(sha256sum <"$QUICKLAYER_ROOT/catalog/data.mdb")" "$sum" \
	"and changes nothing"

# ---- completion ----

# complete WORDS: what bash would offer at the end of that line.
complete_line()
{
	env PATH="$(dirname "$QL"):$PATH" bash -c '
		. "$1"
		read -ra COMP_WORDS <<<"$2"
		[[ $2 == *" " ]] && COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
		COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDBREAKS=" :="
		_quicklayer
		echo "${COMPREPLY[*]}"' - "$LAB/../../tools/completion/quicklayer" "$1"
}
rm -r "$QUICKLAYER_ROOT"
is "$(complete_line "quicklayer ")" "$COMMANDS" "completion: commands"
is "$(complete_line "quicklayer um")" "umount" "... that begin so"
is "$(complete_line "quicklayer ls --re")" "--recursive" "... options"
is "$(complete_line "quicklayer ls --quiet")" "" "... of that command alone"
is "$(complete_line "quicklayer run --network ")" "host none" "... their values"
is "$(complete_line "quicklayer ls ")" "" "... no images without a store"
push() { "$QL" pull -q "$1" >/dev/null; }
push "$ONE"
is "$(complete_line "quicklayer ls ")" "$ONE" "... images"
is "$(complete_line "quicklayer ls --root $QUICKLAYER_ROOT ")" "$ONE" \
	"... of the store that the line names"
is "$(complete_line "quicklayer mount $ONE $TMP/ba")" "$TMP/base" \
	"... folders to mount on"
is "$(complete_line "quicklayer cat $ONE ")" "" "... no more images"

done_testing
