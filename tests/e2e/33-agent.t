#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The node agent: its API by curl, the command through it, every image in one
# mount, two clients that share a pull, a killed agent, and what it refuses.
# ls is one of the ways that a mount is looked at.
# shellcheck disable=SC2011,SC2012
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
QLD=$B/quicklayerd
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
chmod 711 "$TMP"
mkdir "$TMP/m"

REGISTRY_ACCESS=1 start_registry
python3 "$LAB/mktree.py" 3300 "$TMP/img" --entries 1500 --layers 3 ||
	bail mktree
push_image "oci:$TMP/img:t" tree:t || bail push
python3 "$LAB/oddtree.py" "$TMP/src" || bail oddtree
mkdir -p "$TMP/src/usr" && cp /bin/busybox "$TMP/src/bin/busybox" &&
	ln -s busybox "$TMP/src/bin/sh" || bail busybox
tar -C "$TMP/src" --xattrs --xattrs-include='*' --acls --posix \
	-cf "$TMP/odd.tar" . || bail tar
make_image "$TMP/oci" odd "$TMP/odd.tar" >/dev/null || bail make_image
TREE=$REGISTRY/tree:t
ODD=oci:$TMP/oci:odd
SOCKET=$TMP/store/agent/quicklayerd.sock
MNT=$TMP/store/agent/mnt

# ---- what it refuses ----

ok "--help" "$QLD" --help
is "$("$QLD" --version)" "quicklayerd $("$QL" --version | cut -d' ' -f2)" \
	"--version"
fails "an unknown option" 2 "$QLD" --nothing
fails "an operand" 2 "$QLD" x
cat >"$TMP/bad.yaml" <<-YAML
	root: relative
	rot: /r
	fuse: {threads: 0}
YAML
fails "a configuration with errors" 1 "$QLD" --check-config \
	--config "$TMP/bad.yaml"
is "$OUT" "quicklayerd: $TMP/bad.yaml:1: root: an absolute path is wanted
quicklayerd: $TMP/bad.yaml:2: rot: no such key
quicklayerd: $TMP/bad.yaml:3: fuse.threads: a number from 1 to 64 is wanted" \
	"each is named with its line"
fails "is not served with, either" 1 "$QLD" --config "$TMP/bad.yaml"
fails "one that is not there" 1 "$QLD" --check-config --config "$TMP/none"
is "$("$QLD" --check-config --config "$LAB/../../tools/quicklayerd.yaml")" ok \
	"the example is good"

# ---- an agent ----

# Starts an agent, and waits until it says that it is ready.
start_agent()
{
	cat >"$TMP/agent.yaml" <<-YAML
		root: $TMP/store
		log_level: info
	YAML
	python3 - "$TMP/notify" >"$TMP/notified" <<-'PY' &
		import socket, sys
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(sys.argv[1])
		s.settimeout(60)
		while True:
		    text = s.recv(4096).decode()
		    print(text, flush=True)
		    if "STOPPING=1" in text: break
	PY
	LAB_PIDS+=($!)
	wait_for 5 test -S "$TMP/notify" || bail notify
	lab_start agent env NOTIFY_SOCKET="$TMP/notify" "$QLD" \
		--config "$TMP/agent.yaml" "$@"
	AGENT=$LAB_PID
	wait_for 10 grep -q READY=1 "$TMP/notified"
}

# api METHOD PATH [CURL OPTIONS]: the body in $OUT, the status in $STATUS.
api()
{
	OUT=$(curl -s --unix-socket "$SOCKET" -X "$1" -w '\n%{http_code}' \
		"http://agent$2" "${@:3}")
	STATUS=${OUT##*$'\n'}
	OUT=${OUT%$'\n'*}
	OUT=${OUT%$'\n'}
}
mounted()
{
	grep -qF " $1 " /proc/self/mountinfo
}

start_agent && pass "an agent starts, and tells who started it" ||
	bail "no agent: $(cat "$TMP/agent.log")"
is "$(stat -c %a "$SOCKET")" 600 "its socket is root's alone"
is "$(ls "$MNT" | xargs)" "by-digest images inert layers objects" \
	"its mount has folders for all there is"
fails "a second agent of the root" 1 "$QLD" --root "$TMP/store"
like "$OUT" "an agent serves $TMP/store already \(process $AGENT\)" \
	"... says who is there"
fails "an agent of another root at its socket" 1 "$QLD" --root "$TMP/other" \
	--socket "$SOCKET"
like "$OUT" "another agent answers there" "... says so"

# Those of this story, of a list of mounts: others run beside it.
ours()
{
	jq -r --arg t "$TMP/" '.[] | select(.dir | startswith($t)) |
		.dir + " " + .image'
}

# ---- the API ----

api GET /v1/version
is "$STATUS $(jq -r '.root + " " + .mountpoint' <<<"$OUT")" \
	"200 $TMP/store $MNT" "version"
api GET /v1/images
is "$STATUS $(jq -c . <<<"$OUT")" "200 []" "no images"
api POST /v1/pull -d "{\"image\": \"$TREE\"}"
is "$STATUS $(tail -1 <<<"$OUT" | jq -r .result.name)" "200 $TREE" \
	"a pull ends with its result"
is "$(jq -r 'select(.state == "done") | .layer' <<<"$OUT" | sort | xargs)" \
	"0 1 2" "... and tells that each layer is done"
D=$(tail -1 <<<"$OUT" | jq -r .result.digest)
NAME=$(jq -rn --arg n "$TREE" '$n | @uri')
for path in "$NAME" "$TREE" "$D" "${D:7:12}"; do
	api GET "/v1/images/$path"
	is "$STATUS $(jq -r .digest <<<"$OUT")" "200 $D" "image $path"
done
api GET "/v1/status?image=$NAME"
is "$STATUS $(jq '.files == .files_here' <<<"$OUT")" "200 true" \
	"status of the image"
api GET /v1/status
is "$STATUS $(jq .images <<<"$OUT")" "200 1" "status"
api POST "/v1/images/$NAME/pin"
is "$STATUS $(jq .pinned <<<"$OUT")" "200 true" "pin"
api DELETE "/v1/images/$NAME"
is "$STATUS $(jq -r .error.code <<<"$OUT")" "409 EBUSY" "a pin holds"
api POST "/v1/images/$NAME/unpin"
is "$STATUS $(jq .pinned <<<"$OUT")" "200 false" "unpin"
api GET /v1/mounts
is "$STATUS $(ours <<<"$OUT")" "200 " "no mounts"
api GET /v1/images/none
is "$STATUS $(jq -r .error.code <<<"$OUT")" "404 ENOENT" "no such image"
api PUT /v1/images
is "$STATUS" 405 "no such method"
api GET /v1/none
is "$STATUS" 404 "no such path"
api POST /v1/pull -d '{"image": "a", "colour": 1}'
is "$STATUS $(jq -r .error.message <<<"$OUT")" '400 "colour" is not known' \
	"what a body may not have"
head -c 2000000 /dev/zero | tr '\0' ' ' >"$TMP/large"
api POST /v1/pull --data-binary "@$TMP/large"
is "$STATUS" 413 "a body that is too large"
api POST /v1/pull -d '{"image": "'"$REGISTRY"'/none:t"}'
is "$STATUS $(tail -1 <<<"$OUT" | jq -r .error.code)" "200 ENOENT" \
	"a pull that fails ends with its error"

# ---- every image in one mount ----

ok "the command pulls through it" "$QL" pull "$ODD"
like "$(cat "$TMP/agent.log")" "msg=pulled image=\"$ODD\"" \
	"... the agent did it"
ODD_D=$("$QL" inspect "$ODD" | jq -r .digest)
is "$(readlink "$MNT/images/$TREE" | sed 's,.*by-digest/,,')" "$D" \
	"an image is found by its name"
ok "its tree is the image's" "$QL" diff "$TREE" "$MNT/images/$TREE/"
ok "the other's, too" "$QL" diff "$ODD" "$MNT/by-digest/$ODD_D"
python3 "$LAB/dumptree.py" "$MNT/by-digest/$D" >"$TMP/by-agent"
"$QL" mount --no-agent "$TREE" "$TMP/m" || bail mount
python3 "$LAB/dumptree.py" "$TMP/m" >"$TMP/by-itself"
ls -R "$TMP/m" | tail -n +2 >"$TMP/ls-itself"
"$QL" umount "$TMP/m"
ok "every entry and byte is as in a mount of its own" \
	cmp "$TMP/by-agent" "$TMP/by-itself"
ls -R "$MNT/by-digest/$D" | tail -n +2 | sed "s,^$MNT/by-digest/$D,$TMP/m," \
	>"$TMP/ls-agent"
ok "ls -R says the same" cmp "$TMP/ls-agent" "$TMP/ls-itself"
is "$(find "$MNT/objects" -type f | wc -l)" \
	"$(find "$TMP/store/objects" -type f | wc -l)" "objects are all there"
bad=$(cd "$MNT/objects" && for f in */*; do
	[ "$(sha256sum <"$f" | cut -c1-64)" = "${f/\//}" ] || echo "$f"
done)
is "$bad" "" "... with their content"
is "$(stat -c %a "$MNT/objects")" 500 "... for root alone"
ok "a device is one" test -c "$MNT/by-digest/$ODD_D/data/null"
is "$(stat -c %t:%T "$MNT/inert/$ODD_D/data/null")" 0:1 \
	"... but not where it is inert"
is "$(ls "$MNT/layers" | wc -l)" 4 "layers stand by themselves"
inode=$(stat -c %i "$MNT/by-digest/$D")
echo 2 >/proc/sys/vm/drop_caches
is "$(stat -c %i "$MNT/images/$TREE/")" "$inode" \
	"inode numbers stay when the kernel has forgotten them"

# ---- layers below an overlay ----

mkdir -p "$TMP/w/low" "$TMP/w/opaque"
echo low >"$TMP/w/low/file"
echo gone >"$TMP/w/gone"
echo hidden >"$TMP/w/opaque/hidden"
tar -C "$TMP/w" -cf "$TMP/w1.tar" low gone opaque
rm -rf "$TMP/w" && mkdir -p "$TMP/w/opaque"
touch "$TMP/w/.wh.gone" "$TMP/w/opaque/.wh..wh..opq"
echo shown >"$TMP/w/opaque/shown"
tar -C "$TMP/w" -cf "$TMP/w2.tar" .wh.gone opaque
make_image "$TMP/wh" t "$TMP/w1.tar" "$TMP/w2.tar" >/dev/null || bail wh
"$QL" pull -q "oci:$TMP/wh:t" >/dev/null || bail pull
mapfile -t layers < <("$QL" inspect "oci:$TMP/wh:t" | jq -r '.layers[]')
lower=$MNT/layers/${layers[1]}/diff
is "$(stat -c '%F %t:%T' "$lower/gone")" "character special file 0:0" \
	"a whiteout is a 0:0 device"
is "$(getfattr --absolute-names --only-values -n trusted.overlay.opaque "$lower/opaque")" y \
	"an opaque folder is marked"
is "$(getfattr --absolute-names --only-values -n user.overlay.opaque "$lower/opaque")" y \
	"... for both kinds of overlay"
is "$(find "$lower" -name '.wh.*')" "" "... and its marks are not shown"
mkdir "$TMP/l1" "$TMP/l2" # overlayfs's options have no room for colons
mount --bind "$MNT/layers/${layers[0]}/diff" "$TMP/l1"
mount --bind "$lower" "$TMP/l2"
if mount -t overlay overlay -o "lowerdir=$TMP/l2:$TMP/l1" "$TMP/m"; then
	is "$(cd "$TMP/m" && find . | sort | xargs)" \
		". ./low ./low/file ./opaque ./opaque/shown" \
		"an overlay of the layers is the image"
	umount "$TMP/m"
else
	fail "an overlay of the layers"
fi
umount "$TMP/l1" "$TMP/l2"

# ---- mounts ----

ok "the command mounts through it" "$QL" mount "$TREE" "$TMP/m"
is "$(awk -v m="$TMP/m" '$5 == m { print $4 }' /proc/self/mountinfo)" \
	"/by-digest/$D" "... a part of the agent's mount"
is "$("$QL" status --json | jq .mounts | ours)" \
	"$TMP/m $TREE" "status knows it"
api GET /v1/mounts
is "$(ours <<<"$OUT")" "$TMP/m $TREE" "... the API, too"
fails "an image that is mounted is not removed" 1 "$QL" rmi "$TREE"
like "$OUT" "mounted on $TMP/m" "... and it says where"
fails "the folder takes no second" 1 "$QL" mount "$ODD" "$TMP/m"
ok "umount" "$QL" umount "$TMP/m"
fails "nothing is there any more" 1 "$QL" umount "$TMP/m"
ok "with settings of its own a mount has a server of its own" \
	"$QL" mount --no-passthrough "$TREE" "$TMP/m"
is "$(awk -v m="$TMP/m" '$5 == m { print $4 }' /proc/self/mountinfo)" / \
	"... as it shows"
"$QL" umount "$TMP/m"
exec 7<"$MNT/by-digest/$D"
fails "an image whose files are open is not removed" 1 "$QL" rmi "$TREE"
like "$OUT" "in use" "... and it says so"
ok "and is where it was" "$QL" diff "$TREE" "$MNT/by-digest/$D"
exec 7<&-
if command -v crun >/dev/null || command -v runc >/dev/null; then
	is "$("$QL" run "$ODD" /bin/sh -c 'echo run' 2>"$TMP/err")" run \
		"a container runs on it" || note "$(cat "$TMP/err")"
else
	skip "no runtime"
fi
is "$(grep -c "$TMP/store/run" /proc/self/mountinfo)" 0 \
	"... and leaves no mount"
unlike "$(pgrep -ax quicklayer || :)" "$TMP" "... and no server"

# ---- removing ----

ok "rmi" "$QL" rmi "$ODD"
fails "what is gone is gone from the mount" 2 ls "$MNT/by-digest/$ODD_D"
is "$("$QL" images --json | jq -r '.[].name' | grep -c odd)" 0 \
	"... and from the list"
ok "pin" "$QL" pin "$TREE"
fails "rmi of a pinned image" 1 "$QL" rmi "$TREE"
like "$OUT" "pinned" "... says so"
fails "also past the agent" 1 "$QL" rmi --no-agent "$TREE"
like "$("$QL" images)" "pinned" "images shows it"
ok "unpin" "$QL" unpin "$TREE"
ok "then it goes, though the kernel remembers its files" "$QL" rmi "$TREE"
is "$(find "$MNT/by-digest" -mindepth 1 -maxdepth 1 | wc -l)" 1 \
	"the mount has what is left"

# ---- two at once ----

seen=$(wc -l <"$TMP/registry.log")
for i in 1 2; do
	"$QL" pull --json "$TREE" >"$TMP/pull.$i" 2>"$TMP/err.$i" &
	pids[i]=$!
done
wait "${pids[1]}" && pass "one of two clients" || fail "one of two clients"
wait "${pids[2]}" && pass "the other" || fail "the other"
tail -n "+$((seen + 1))" "$TMP/registry.log" |
	grep -o 'GET /v2/tree/blobs/sha256:[0-9a-f]*' | sort >"$TMP/blobs"
is "$(uniq -d "$TMP/blobs")" "" "no blob was asked for twice"
is "$(wc -l <"$TMP/blobs")" 4 "... of three layers and a configuration"
"$QL" rmi "$TREE" >/dev/null

# A client that goes away: the pull ends with it.
"$QL" pull "$TREE" >/dev/null 2>&1 &
client=$!
kill -9 "$client" 2>/dev/null
wait "$client" 2>/dev/null
idle()
{
	[ "$(curl -s --unix-socket "$SOCKET" http://agent/v1/version |
		jq .pulls)" = 0 ]
}
ok "no pull stays behind" wait_for 10 idle
ok "the next one is whole" "$QL" pull "$TREE"
ok "nothing in the store is wrong" "$QL" fsck

# ---- what comes when it is read ----

mkdir "$TMP/plain"
for i in {1..40}; do
	head -c 200000 /dev/urandom >"$TMP/plain/file$i"
done
tar -C "$TMP/plain" -cf "$TMP/plain.tar" . &&
	make_image "$TMP/lazy" t "$TMP/plain.tar" >/dev/null || bail plain
if "$QL" push --format zstd:chunked "oci:$TMP/lazy:t" "$REGISTRY/lazy:t" \
	>/dev/null 2>"$TMP/err"; then
	LAZY=$REGISTRY/lazy:t
	here()
	{
		"$QL" status --json "$LAZY" | jq .files_here
	}
	"$QL" rmi "$TREE" >/dev/null
	echo "background_rate: 0" >>"$TMP/agent.yaml"
	kill -HUP "$AGENT"
	wait_for 5 grep -q "configuration read again" "$TMP/agent.log"
	ok "an image with tables of contents is pulled" "$QL" pull "$LAZY"
	files=$("$QL" status --json "$LAZY" | jq .files)
	[ "$(here)" -lt "$files" ] &&
		pass "its files come when they are read" ||
		fail "$(here) of $files files are here"
	ok "one is right" cmp "$MNT/images/$LAZY/file7" "$TMP/plain/file7"
	ok "all are" diff -r "$MNT/images/$LAZY/" "$TMP/plain"
	ok "it goes" "$QL" rmi "$LAZY"
	ok "--full leaves nothing" "$QL" pull --full "$LAZY"
	is "$(here)" "$files" "... to be read later"
	"$QL" rmi "$LAZY" >/dev/null
	"$QL" pull -q "$LAZY" >/dev/null
	sed -i 's/background_rate: 0/background_rate: unlimited/' \
		"$TMP/agent.yaml"
	kill -HUP "$AGENT"
	all_here()
	{
		[ "$(here)" = "$files" ]
	}
	ok "at another rate the rest comes by itself" wait_for 20 all_here
	"$QL" rmi "$LAZY" >/dev/null
	"$QL" pull -q "$TREE" >/dev/null
	sed -i '/background_rate/d' "$TMP/agent.yaml"
	: >"$TMP/agent.log"
else
	fail "push: $(cat "$TMP/err")"
fi

# ---- many at once ----

python3 - "$SOCKET" >"$TMP/crowd" <<-'PY'
	import socket, sys, threading
	ask = b"GET /v1/images HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	def connect():
	    s = socket.socket(socket.AF_UNIX); s.settimeout(60)
	    s.connect(sys.argv[1]); return s
	held = [connect() for _ in range(1000)]
	for s in held[:200]: s.sendall(ask)
	good = 0
	for s in held[:200]:
	    data = b""
	    while True:
	        d = s.recv(65536)
	        if not d: break
	        data += d
	    good += data.startswith(b"HTTP/1.1 200") and b"tree:t" in data
	print(good)
PY
is "$(cat "$TMP/crowd")" 200 "200 of 1,000 connections are answered at once"
api GET /v1/version
is "$STATUS" 200 "... and it goes on"
[ "$(ls "/proc/$AGENT/task" | wc -l)" -lt 40 ] &&
	pass "by few threads" || fail "by $(ls "/proc/$AGENT/task" | wc -l)"

# ---- configuration, again ----

sed -i 's/info/debug/' "$TMP/agent.yaml"
kill -HUP "$AGENT"
ok "SIGHUP reads the configuration again" wait_for 5 grep -q \
	"configuration read again" "$TMP/agent.log"
echo "rot: /r" >>"$TMP/agent.yaml"
kill -HUP "$AGENT"
ok "... and keeps to the old one where the new one has errors" wait_for 5 \
	grep -q "agent.yaml:3: rot: no such key" "$TMP/agent.log"
api GET /v1/version
is "$STATUS" 200 "... and serves on"

# ---- which agent ----

is "$("$QL" images -q --root "$TMP/nothing" --socket "$SOCKET" 2>&1 |
	grep -c "serves another store")" 1 "another store's agent is refused"
is "$(env -u QUICKLAYER_ROOT QUICKLAYER_SOCKET="$SOCKET" "$QL" images -q)" \
	"$("$QL" images -q --no-agent)" "a named agent says which store"
fails "a named agent that is not there" 1 "$QL" images --socket "$TMP/none"

# ---- the end ----

"$QL" mount "$TREE" "$TMP/m" || bail mount
kill -9 "$AGENT"
wait "$AGENT" 2>/dev/null
fails "a killed agent leaves a mount that does not answer" 2 ls "$MNT"
is "$("$QL" images --json | jq -r '.[].name' | grep -c tree)" 1 \
	"without an agent the command does it itself"
rm -f "$TMP/notify"
start_agent && pass "the next agent starts" || fail "the next agent starts"
ok "... and serves" "$QL" diff "$TREE" "$MNT/images/$TREE/"
is "$(grep -cF " $MNT " /proc/self/mountinfo)" 1 "... at one mount"
"$QL" umount "$TMP/m" || umount -l "$TMP/m"
ok "a mount through it" "$QL" mount "$TREE" "$TMP/m"
"$QL" umount "$TMP/m"
kill -TERM "$AGENT"
wait "$AGENT"
is $? 0 "SIGTERM ends it well"
like "$(cat "$TMP/notified")" "STOPPING=1" "... and it says so"
mounted "$MNT" && fail "a mount is left" || pass "no mount is left"
[ -e "$SOCKET" ] && fail "a socket is left" || pass "no socket is left"
rm -f "$TMP/notify"
start_agent
cd "$MNT/by-digest" || bail cd
kill -TERM "$AGENT"
wait "$AGENT"
is $? 0 "also where its mount is in use"
cd "$TMP" || bail cd
mounted "$MNT" && fail "a mount is left" || pass "no mount is left"
done_testing
