#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An image of plain layers that nobody has indexed, over a slow link: what has
# passed is readable while the rest is on its way, what cannot be known yet is
# waited for, and when the pull ends nobody who looks on notices.
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/net.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
[ -c /dev/net/tun ] || skip_all "needs /dev/net/tun"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
chmod 711 "$TMP"
mkdir -p "$TMP/m" "$TMP/low/etc" "$TMP/low/lib" "$TMP/low/old/sub" \
	"$TMP/up/app" "$TMP/up/lib" "$TMP/up/old" "$TMP/up/zz" "$TMP/conf"
echo '{"connect_seconds": 2, "stall_seconds": 2, "retries": 1}' \
	>"$TMP/conf/registries.json"

# The lower layer: 3 MB; the upper: early files, 9 MB, and a late one.
echo low >"$TMP/low/etc/conf"
echo gone >"$TMP/low/etc/gone"
echo hidden >"$TMP/low/old/sub/hidden"
head -c 3000000 /dev/urandom >"$TMP/low/lib/large"
echo early >"$TMP/up/app/early"
chmod 4751 "$TMP/up/app/early"
setfattr -n user.word -v said "$TMP/up/app/early"
head -c 200000 /dev/urandom >"$TMP/up/app/data"
ln -s ../app/early "$TMP/up/app/link"
ln "$TMP/up/app/data" "$TMP/up/app/hard"
for i in 1 2 3; do
	head -c 3000000 /dev/urandom >"$TMP/up/lib/large$i"
done
touch "$TMP/up/old/.wh..wh..opq" && mkdir "$TMP/up/etc" &&
	touch "$TMP/up/etc/.wh.gone"
echo late >"$TMP/up/zz/late"
tar -C "$TMP/low" -cf "$TMP/low.tar" etc lib old &&
	tar -C "$TMP/up" --xattrs --posix -cf "$TMP/up.tar" app lib etc old \
		zz || bail tar
make_image "$TMP/oci" t "$TMP/low.tar:gzip" "$TMP/up.tar:gzip" >/dev/null ||
	bail image
TOTAL=12000000

net_up 16 10
net_registry "$TMP/registry"
REGISTRY_AT=$REGISTRY REGISTRY_PROC=$REGISTRY_PID
net_server skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
	"oci:$TMP/oci:t" "docker://$REGISTRY/lab:t" || bail push
IMAGE=$REGISTRY/lab:t
SOCKET=$TMP/store/agent/quicklayerd.sock
MNT=$TMP/store/agent/mnt
cat >"$TMP/agent.yaml" <<-YAML
	root: $TMP/store
	registries: $TMP/conf
	read_timeout: 3s
YAML

fresh()
{
	if [ -n "${AGENT:-}" ]; then
		lab_umount_below "$TMP/m"
		lab_end "$AGENT"
		lab_umount_below "$TMP"
	fi
	rm -rf "$TMP/store"
	lab_start agent "${NET_IN_CLIENT[@]}" "$B/quicklayerd" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	wait_for 10 test -S "$SOCKET" || bail "agent: $(cat "$TMP/agent.log")"
}

# Starts a pull, and waits until the image can be looked at.
start_pull()
{
	net_reset >/dev/null
	lab_start pull "$QL" pull --plain-http "$IMAGE"
	PULL=$LAB_PID
	wait_for 10 test -d "$MNT/images/$IMAGE/" ||
		bail "no image: $(cat "$TMP/pull.log" "$TMP/agent.log")"
}

# Bytes that came over the link.
moved()
{
	net_counters | jq .down.bytes
}

# is_early DESCRIPTION: it is far from the end.
is_early()
{
	local bytes
	bytes=$(moved)
	[ "$bytes" -lt $((TOTAL * 2 / 3)) ] && kill -0 "$PULL" 2>/dev/null &&
		pass "$1 ($bytes bytes)" || fail "$1: $bytes bytes"
}

sum()
{
	sha256sum <"$1" | cut -c1-64
}

# ---- while it is on its way ----

fresh
start_pull
ok "it is mounted" timeout 10 "$QL" mount "$IMAGE" "$TMP/m"
is "$(timeout 10 cat "$TMP/m/app/early")" early "an early file is read"
is "$(sum "$TMP/m/app/data")" "$(sum "$TMP/up/app/data")" "... a larger one"
is "$(sum "$TMP/m/app/hard")" "$(sum "$TMP/up/app/data")" "... its other name"
is "$(timeout 10 "$QL" cat "$IMAGE" /app/link)" early \
	"... by the command, through a symlink"
is "$(stat -c '%a %s %F' "$TMP/m/app/early")" "4751 6 regular file" \
	"... with its attributes"
is "$(getfattr --absolute-names --only-values -n user.word \
	"$TMP/m/app/early")" said "... and xattrs"
is_early "all this while the layer is far from its end"

mkdir "$TMP/o" "$TMP/o/upper" "$TMP/o/work" "$TMP/o/root"
mount -t overlay overlay -o \
	"lowerdir=$TMP/m,upperdir=$TMP/o/upper,workdir=$TMP/o/work" \
	"$TMP/o/root" && is "$(cat "$TMP/o/root/app/early")" early \
	"an overlay stands on it" || fail "an overlay stands on it"
exec 7<"$TMP/m/app/data"
head -c 1000 <&7 >"$TMP/part"
lab_start none stat "$TMP/m/app/none"
NONE=$LAB_PID
lab_start list ls "$TMP/m/app"
LIST=$LAB_PID
lab_start low cat "$TMP/m/etc/conf"
LOW=$LAB_PID
lab_start killed stat "$TMP/m/app/killed"
KILLED=$LAB_PID
sleep 0.5
is_early "it still is"
for pid in "$NONE" "$LIST" "$LOW" "$KILLED"; do
	kill -0 "$pid" 2>/dev/null && echo waits || echo ended
done >"$TMP/waits"
is "$(xargs <"$TMP/waits")" "waits waits waits waits" \
	"an absent name, a listing and a lower layer's file are waited for"
kill "$KILLED"
gone()
{
	! kill -0 "$1" 2>/dev/null
}
ok "who is killed meanwhile goes" wait_for 2 gone "$KILLED"
is_early "... before the end"
is "$(timeout 5 cat "$TMP/m/app/early")" early "others do not wait with them"

# ---- the end ----

wait "$PULL" && pass "the pull ends well" || fail "$(cat "$TMP/pull.log")"
wait "$NONE" && fail "an absent name" ||
	like "$(cat "$TMP/none.log")" "No such file" "the absent name is absent"
wait "$LIST"
is "$(xargs <"$TMP/list.log")" "data early hard link" "the listing is whole"
wait "$LOW"
is "$(cat "$TMP/low.log")" low "the lower layer's file is read"
cat <&7 >>"$TMP/part"
ok "an open file is read on" cmp "$TMP/part" "$TMP/up/app/data"
exec 7<&-
is "$(cd "$TMP/o/root" && find . -type f | sort | xargs)" \
	"./app/data ./app/early ./app/hard ./etc/conf ./lib/large ./lib/large1 ./lib/large2 ./lib/large3 ./zz/late" \
	"the overlay has all of it"
is "$(cat "$TMP/o/root/app/early" "$TMP/o/root/zz/late" | xargs)" \
	"early late" "... with its content"
umount "$TMP/o/root"
mkdir "$TMP/w"
QUICKLAYER_ROOT=$TMP/whole "$QL" pull -q "oci:$TMP/oci:t" >/dev/null &&
	QUICKLAYER_ROOT=$TMP/whole "$QL" mount "oci:$TMP/oci:t" "$TMP/w" ||
	bail "a whole pull"
tree()
{
	(cd "$1" && find . -printf '%p %y %m %U %G %s %n %T@ %l\n' | sort)
}
tree "$TMP/m" >"$TMP/tree.grown"
tree "$TMP/w" >"$TMP/tree.whole"
ok "the tree is that of a whole pull" diff "$TMP/tree.grown" "$TMP/tree.whole"
ok "... every byte" diff -r "$TMP/m" "$TMP/w"
is "$(stat -c %i "$TMP/m/app/data")" \
	"$(find "$TMP/m/app" -name data -printf %i)" \
	"a listing has the numbers that files have"
QUICKLAYER_ROOT=$TMP/whole "$QL" umount "$TMP/w"
echo 2 >/proc/sys/vm/drop_caches
ok "... also when the kernel has forgotten what it saw grow" \
	"$QL" diff "$IMAGE" "$TMP/m"
fails "it is not removed while it is mounted" 1 "$QL" rmi "$IMAGE"
exec 7<"$TMP/m/app"
ok "umount" "$QL" umount --lazy "$TMP/m"
fails "... nor while a folder of it is open" 1 "$QL" rmi "$IMAGE"
exec 7<&-
ok "it goes when nobody uses it" wait_for 5 "$QL" rmi "$IMAGE"
ok "nothing in the store is wrong" "$QL" fsck

# ---- a registry that goes away ----

fresh
start_pull
ok "it is mounted" timeout 10 "$QL" mount "$IMAGE" "$TMP/m"
exec 7<"$TMP/m/app/data"
lab_start none stat "$TMP/m/zz/none"
NONE=$LAB_PID
lab_start list ls "$TMP/m/app"
LIST=$LAB_PID
sleep 0.3
is_early "the registry is killed in the middle"
kill -9 "$REGISTRY_PROC"
lab_forget "$REGISTRY_PROC"
ok "who waits is not kept" wait_for 20 gone "$NONE"
like "$(cat "$TMP/none.log")" "Input/output error" "... but told of the error"
ok "... also for a listing" wait_for 5 gone "$LIST"
like "$(cat "$TMP/list.log")" "Input/output error" "... likewise"
ok "the pull fails" wait_for 20 gone "$PULL"
is "$(sha256sum <&7 | cut -c1-64)" "$(sum "$TMP/up/app/data")" \
	"what was open is read on"
exec 7<&-
fails "what is looked at later is an error" 1 timeout 5 cat "$TMP/m/app/early"
fails "the image is not there" 1 "$QL" cat "$IMAGE" /app/early
net_registry_again()
{
	lab_start net-registry "${NET_IN_SERVER[@]}" env -u REGISTRY_AUTH_FILE \
		docker-registry serve "$TMP/net-registry.yml"
	wait_for 10 net_server curl -s "http://$REGISTRY_AT/v2/"
}
net_registry_again || bail "no registry: $(cat "$TMP/net-registry.log")"
ok "the next pull brings it" "$QL" pull -q --plain-http "$IMAGE"
is "$(timeout 10 cat "$TMP/m/app/early" 2>&1)" early \
	"what was mounted works again"
umount "$TMP/m"

done_testing
