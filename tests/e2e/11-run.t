#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Containers by quicklayer run, under each runtime that is here: what the image
# and the command line say is what the program in it sees; its exit status
# comes out; nothing is left behind, whoever ends it.
# Scripts for sh -c are expanded in the container.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/none
busybox=$(command -v busybox) || skip_all "needs busybox"

mkdir -p "$TMP/base"/{bin,etc,home/app,tmp,srv/work}
cp "$busybox" "$TMP/base/bin/busybox"
for name in sh cat id env pwd ls touch sleep echo grep mkdir rm test true false \
	hostname seq tty kill; do
	ln -s busybox "$TMP/base/bin/$name"
done
printf '%s\n' root:x:0:0:root:/root:/bin/sh \
	app:x:1000:1001:app:/home/app:/bin/sh >"$TMP/base/etc/passwd"
printf '%s\n' root:x:0: app:x:1001: extra:x:2000:other,app third:x:3000: \
	>"$TMP/base/etc/group"
echo secret >"$TMP/base/root-only"
chmod 600 "$TMP/base/root-only"
chmod 1777 "$TMP/base/tmp"
mknod "$TMP/base/image-null" c 1 3
tar -C "$TMP/base" --owner=0 --group=0 --numeric-owner \
	-cf "$TMP/base.tar" .
make_image --config '{"Env": ["PATH=/bin", "FROM=image"], "Cmd": ["echo", "cmd"]}' \
	"$TMP/oci" plain "$TMP/base.tar" >/dev/null || bail make_image
make_image --config '{"Env": ["PATH=/bin"], "User": "app", "WorkingDir": "/srv/work",
	"Entrypoint": ["sh", "-c", "echo \"$0 $*\"; id -un; pwd"], "Cmd": ["cmd"]}' \
	"$TMP/oci" app "$TMP/base.tar" >/dev/null || bail make_image
make_image --config '{"Env": ["PATH=/bin"]}' "$TMP/oci" bare "$TMP/base.tar" \
	>/dev/null || bail make_image
PLAIN=oci:$TMP/oci:plain APP=oci:$TMP/oci:app

run()
{
	"$QL" run --runtime "$runtime" "$@"
}

# What quicklayer run leaves: nothing.
clean()
{
	[ -z "$(ls -A "$QUICKLAYER_ROOT/run" 2>/dev/null)" ] &&
		! grep -qF " $QUICKLAYER_ROOT/" /proc/self/mountinfo
}

# background ARGUMENT...: a run in the background; its output in run.log.
background()
{
	rm -f "$TMP/run.log"
	lab_start run "$QL" run "$@"
}

# ql-… names of the containers that run.
containers()
{
	ls "$QUICKLAYER_ROOT/run" 2>/dev/null
}

story()
{
	local pid

	rm -rf "$QUICKLAYER_ROOT"
	is "$(run -q "$PLAIN" 2>&1)" cmd \
		"$runtime: an image that is not here is pulled, its command run"
	ok "$runtime: nothing is left" clean
	"$QL" pull -q "$APP" >/dev/null
	is "$(run "$PLAIN" echo a "b c" -d)" "a b c -d" "$runtime: words"
	for status in 0 1 3 127 255; do
		fails "$runtime: exit status $status" "$status" \
			run "$PLAIN" sh -c "exit $status"
	done
	is "$(echo stdin | run "$PLAIN" cat)" stdin "$runtime: standard input"
	is "$(run "$PLAIN" sh -c 'echo err >&2' 2>&1 >/dev/null)" err \
		"$runtime: standard error"

	# ---- environment ----
	is "$(run -e NEW=1 --env FROM=line "$PLAIN" env | grep -E '^(NEW|FROM)=' |
		sort | xargs)" "FROM=line NEW=1" "$runtime: -e adds and replaces"
	is "$(run "$PLAIN" sh -c 'echo $FROM $HOME')" "image /root" \
		"$runtime: the image's variables, and HOME"
	is "$(MINE=host run "$PLAIN" sh -c 'echo "${MINE-none}"')" none \
		"$runtime: none of the caller's"
	is "$(run "$APP" a b)" $'a b\napp\n/srv/work' \
		"$runtime: entrypoint, user and folder of the image"
	is "$(run "$APP")" $'cmd \napp\n/srv/work' "$runtime: ... and its command"
	is "$(run -w /tmp "$PLAIN" pwd)" /tmp "$runtime: -w"
	is "$(run "$PLAIN" sh -c 'echo $$; hostname')" $'1\nquicklayer' \
		"$runtime: a pid namespace and a name of its own"

	# ---- users ----
	is "$(run -u app "$PLAIN" id)" \
		"uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)" \
		"$runtime: a user by name, with his groups"
	is "$(run -u 1000 "$PLAIN" id -g)" 1001 \
		"$runtime: by number, with the group that passwd says"
	is "$(run -u 77:88 "$PLAIN" id)" "uid=77 gid=88 groups=88" \
		"$runtime: by numbers that nobody has"
	is "$(run -u app:third "$PLAIN" id -g)" 3000 "$runtime: a group by name"
	is "$(run -u app "$PLAIN" sh -c 'echo $HOME')" /home/app "$runtime: HOME"
	fails "$runtime: a user who is not there" 1 run -u nobody "$PLAIN"
	like "$OUT" 'the image has no user "nobody"' "... is told"
	fails "$runtime: a group that is not there" 1 run -u app:no "$PLAIN"
	fails "$runtime: a user may not read root's" 1 \
		run -u app "$PLAIN" cat /root-only
	like "$(run -u app "$PLAIN" grep CapEff /proc/self/status)" \
		"0000000000000000" "$runtime: and has no capabilities"
	is "$(run "$PLAIN" grep CapEff /proc/self/status | cut -f2)" \
		00000000a00425fb "$runtime: root has docker's, but CAP_MKNOD"
	fails "$runtime: root makes no device" 1 \
		run "$PLAIN" busybox mknod /dev/disk b 254 0
	fails "$runtime: and opens none that the image brings" 1 \
		run "$PLAIN" cat /image-null

	# ---- the root ----
	is "$(run "$PLAIN" sh -c 'echo x >/new; echo y >>/etc/passwd; rm /bin/ls
		cat /new; grep -c . /etc/passwd; test -e /bin/ls || echo gone')" \
		$'x\n3\ngone' "$runtime: a container writes to its root"
	is "$(run "$PLAIN" sh -c 'test -e /new || grep -c . /etc/passwd')" 2 \
		"$runtime: and the next one sees nothing of it"
	fails "$runtime: --read-only" 1 \
		run --read-only "$PLAIN" sh -c 'echo x >/new'
	like "$OUT" "Read-only file system" "... is told"
	ok "$runtime: ... with /dev and /proc all the same" run --read-only \
		"$PLAIN" sh -c 'echo x >/dev/null && test -d /proc/self'
	is "$(run --network none "$PLAIN" ls /sys/class/net)" lo \
		"$runtime: --network none"
	fails "$runtime: another network" 1 run --network bridge "$PLAIN"
	like "$OUT" "host and none are there" "... is told"
	ok "$runtime: no network changes nothing of the image" \
		run --network none "$PLAIN" sh -c '! test -e /etc/resolv.conf'

	# ---- what cannot be run ----
	fails "$runtime: a program that is not there" 1 run "$PLAIN" no-such
	ok "$runtime: leaves nothing" clean
	fails "$runtime: an image with no command" 1 run "oci:$TMP/oci:bare"
	like "$OUT" "no command of its own" "... is told"

	# ---- ends ----
	for signal in TERM HUP; do
		background --runtime "$runtime" "$PLAIN" sh -c \
			'trap "exit 9" '$signal'; echo up; while :; do sleep 0.1; done'
		pid=$LAB_PID
		ok "$runtime: a container runs" wait_for 10 grep -q up "$TMP/run.log"
		kill -"$signal" "$pid"
		wait "$pid"
		is $? 9 "$runtime: SIG$signal reaches it; its status comes out"
		ok "$runtime: and nothing is left" clean
	done
	background --runtime "$runtime" "$PLAIN" sh -c \
		'echo up; sleep 1000'
	pid=$LAB_PID
	wait_for 10 grep -q up "$TMP/run.log"
	kill -9 "$pid"
	wait "$pid" 2>/dev/null
	is "$(containers | wc -l)" 1 "$runtime: kill -9 leaves its folder"
	name=$(containers)
	is "$(run "$PLAIN" echo beside)" beside "$runtime: another one runs"
	is "$(containers)" "$name" \
		"$runtime: and leaves the one whose container lives"
	"$runtime" kill "$name" KILL 2>/dev/null
	wait_for 5 bash -c '! "$1" state "$2" 2>/dev/null | grep -q running' - \
		"$runtime" "$name"
	is "$(run "$PLAIN" echo next)" next "$runtime: the next one runs"
	ok "$runtime: and has swept it" clean
	"$runtime" delete -f "$name" 2>/dev/null
	# Two at once do not sweep each other.
	background --runtime "$runtime" "$PLAIN" sh -c \
		'echo up; while ! test -e /tmp/end; do sleep 0.1; done'
	pid=$LAB_PID
	wait_for 10 grep -q up "$TMP/run.log"
	is "$(run "$PLAIN" echo second)" second "$runtime: a second one beside it"
	ok "$runtime: the first runs on" kill -0 "$pid"
	fails "$runtime: its image is not removed meanwhile" 1 \
		"$QL" rmi "$PLAIN"
	"$runtime" kill "$(containers)" KILL
	wait "$pid"
	is $? 137 "$runtime: killed from outside: 137"
	ok "$runtime: nothing is left" clean
}

for runtime in crun runc; do
	if command -v "$runtime" >/dev/null; then
		story
	else
		skip "$runtime is not installed"
	fi
done
printf '#!/bin/sh\n' >"$TMP/instant"
chmod +x "$TMP/instant"
is "$(seq 400 | xargs -P 40 -I N "$QL" run --runtime "$TMP/instant" "$PLAIN" 2>&1)" \
	"" "400 runs, 40 at once, do not sweep each other's new folders"
ok "nothing is left of them" clean
fails "a runtime that is not there" 1 "$QL" run --runtime no-runtime "$PLAIN"
like "$OUT" "start no-runtime: No such file" "... is told"
done_testing
