#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# With a budget, what nobody waits for stays as it came: it takes about what it
# took in the registry, all of it can be read with the registry gone, and what
# is damaged is fetched again.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
command -v umoci >/dev/null || skip_all "needs umoci"
BUSYBOX=$(command -v busybox) || skip_all "needs busybox"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/m" "$TMP/base/usr/lib" "$TMP/base/bin" "$TMP/top/etc"

# Text that is compressed well, and files of many chunks, in two layers.
python3 - "$TMP/base" "$TMP/top" <<-'PY' || bail files
	import random, sys
	base, top = sys.argv[1:]
	r = random.Random(79)
	words = [r.randbytes(6).hex() for i in range(3000)]
	def text(n):
	    return " ".join(r.choice(words) for i in range(n // 13)).encode()
	for i in range(400):
	    with open("%s/usr/lib/f%d" % (base, i), "wb") as f:
	        f.write(text(r.choice([200, 5000, 40000])))
	for i in range(6):
	    with open("%s/usr/large%d" % (base, i), "wb") as f:
	        f.write(text(1500000 + 70001 * i))
	with open(base + "/usr/noise", "wb") as f:
	    f.write(r.randbytes(900000))
	with open(base + "/usr/holes", "wb") as f:
	    f.seek(300000); f.write(b"x" * 1000); f.seek(900000); f.write(b"y")
	with open(base + "/usr/zeros", "wb") as f:
	    f.truncate(200000)
	for i in range(20):
	    with open("%s/etc/f%d" % (top, i), "wb") as f:
	        f.write(text(20000))
PY
for l in base top; do
	tar -C "$TMP/$l" --owner=0 --group=0 -cf "$TMP/$l.tar" . || bail tar
done
make_image "$TMP/oci" t "$TMP/base.tar:gzip" "$TMP/top.tar:gzip" \
	>/dev/null || bail make_image
SRC=oci:$TMP/oci:t
REGISTRY_ACCESS=1 start_registry

sums()
{
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum) |
		grep -vE ' \./(\.(no\.)?prefetch\.landmark|stargz\.index\.json)$'
}

# Who else says what is in it.
umoci unpack --image "$TMP/oci:t" "$TMP/umoci" >/dev/null 2>&1 || bail umoci
sums "$TMP/umoci/rootfs" >"$TMP/want"
[ "$(wc -l <"$TMP/want")" -gt 400 ] || bail "the image has files"

"$QL" push -q --format zstd:chunked "$SRC" "$REGISTRY/lab:chunked" \
	>/dev/null || bail "push chunked"
"$QL" push -q --format estargz "$SRC" "$REGISTRY/lab:estargz" >/dev/null ||
	bail "push estargz"
push_image "$SRC" lab:indexed || bail "push gzip"
(
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$REGISTRY/lab:indexed" &&
		"$QL" index --push "$REGISTRY/lab:indexed"
) >/dev/null || bail "index"

BUDGET=500000000
# Begins a store with a budget.
begin()
{
	rm -rf "$TMP/store"
	"$B/tests/lab/limits" "$TMP/store" "${1:-$BUDGET}" 8388608 >/dev/null ||
		bail limits
}
disk() # FOLDER: bytes of blocks
{
	echo $(($(du -s --block-size=1 "$TMP/store/$1" | cut -f1)))
}
status() # IMAGE FIELD...: as jq says it
{
	"$QL" status --json "$1" | jq -r "$2"
}
stop_registry()
{
	lab_end "$REGISTRY_PID"
}
again_registry()
{
	# On the port where it was.
	lab_start registry env -u REGISTRY_AUTH_FILE docker-registry serve \
		"$TMP/registry.yml"
	REGISTRY_PID=$LAB_PID
	wait_for 10 curl -s "http://$REGISTRY/v2/" || bail "registry"
	MARK=0
}

# packed_image IMAGE ALL: all of it is here, most of it packed.
packed_image()
{
	local image=$1 all=$2 n
	is "$(status "$image" '.files == .files_here + .files_packed')" true \
		"... all of it is here"
	is "$(status "$image" '.files_packed > .files * 0.9')" true \
		"... most of it packed"
	n=$(disk packed)
	[ "$n" -le $((all * 110 / 100 + 2000000)) ] &&
		[ "$n" -ge $((all * 80 / 100)) ] &&
		pass "... which takes $n bytes of disk for $all" ||
		fail "... which takes $n bytes of disk for $all"
	n=$(disk objects)
	[ "$n" -le 1600000 ] && pass "... and plain $n" ||
		fail "... and plain $n"
}

for form in chunked estargz indexed; do
	image=$REGISTRY/lab:$form
	all=$(size "$form")
	begin
	mark
	ok "$form: a lazy pull" "$QL" pull -q "$image" || continue
	ok "... and the rest of it" "$QL" prefetch "$image"
	n=$(sent)
	[ "$n" -le $((all * 103 / 100 + 100000)) ] &&
		pass "... moves $n bytes for $all" ||
		fail "... moves $n bytes for $all"
	packed_image "$image" "$all"
	mark
	ok "... the rest again" "$QL" prefetch "$image"
	is "$(sent)" 0 "... moves nothing"
	ok "... nothing in the store is wrong" "$QL" fsck
	stop_registry
	ok "... without a registry it mounts" \
		"$QL" mount --no-agent "$image" "$TMP/m"
	sums "$TMP/m" >"$TMP/got"
	ok "... and reads as umoci says" cmp "$TMP/want" "$TMP/got"
	ok "... is unmounted" "$QL" umount "$TMP/m"
	is "$(status "$image" '.files == .files_here')" true \
		"... and is plain now"
	ok "... with nothing wrong" "$QL" fsck
	again_registry
	begin
	mark
	ok "$form: a full pull" "$QL" pull -q --full "$image" || continue
	n=$(sent)
	[ "$n" -le $((all * 103 / 100 + 100000)) ] &&
		pass "... moves $n bytes for $all" ||
		fail "... moves $n bytes for $all"
	packed_image "$image" "$all"
	mark
	ok "... again" "$QL" pull -q --full "$image"
	is "$(sent)" 0 "... moves nothing"
	is "$("$QL" cat "$image" /usr/large3 | sha256sum | cut -c1-64)" \
		"$(sha256sum <"$TMP/base/usr/large3" | cut -c1-64)" \
		"... and one file of it is right"
	is "$(sent)" 0 "... for nothing, too"

	# Damage: in each packed file, bytes here and there.  Of gzip about a
	# megabyte is fetched again for each.
	places="3 5 8"
	[ $form != indexed ] || places=5
	find "$TMP/store/packed" -type f | while read -r f; do
		python3 - "$f" "$places" <<-'PY'
			import os, sys
			n = os.path.getsize(sys.argv[1])
			with open(sys.argv[1], "r+b") as f:
			    for part in sys.argv[2].split():
			        at = n * int(part) // 10
			        f.seek(at)
			        old = f.read(200)
			        f.seek(at)
			        f.write(bytes(b ^ 0x5a for b in old))
		PY
	done
	mark
	ok "$form: damaged, it mounts" "$QL" mount --no-agent "$image" "$TMP/m"
	sums "$TMP/m" >"$TMP/got"
	ok "... and reads as umoci says" cmp "$TMP/want" "$TMP/got"
	n=$(sent)
	[ "$n" -gt 0 ] && [ "$n" -le $((all * 2 / 3)) ] &&
		pass "... what was damaged came again: $n bytes of $all" ||
		fail "... what was damaged came again: $n bytes of $all"
	ok "... is unmounted" "$QL" umount "$TMP/m"
	ok "... with nothing wrong" "$QL" fsck
done

# ---- through the agent ----

begin
cat >"$TMP/agent.yaml" <<-YAML
	root: $TMP/store
	cache:
	  budget: $BUDGET
YAML
lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
AGENT=$LAB_PID
MNT=$TMP/store/agent/mnt
image=$REGISTRY/lab:chunked
wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" || bail agent
ok "a pull through the agent" "$QL" pull -q "$image"
here()
{
	[ "$(status "$image" '.files == .files_here + .files_packed')" = true ]
}
ok "... its background ends" wait_for 60 here
packed_image "$image" "$(size chunked)"
sleep 1.5
mark
ok "... again" "$QL" pull -q "$image"
sleep 1
is "$(sent)" 0 "... moves nothing"
stop_registry
sums "$MNT/images/$image/" >"$TMP/got"
ok "... without a registry it reads as umoci says" cmp "$TMP/want" "$TMP/got"
again_registry
ok "... is removed" timeout 20 "$QL" rmi "$image"
lab_end "$AGENT"
lab_umount_below "$TMP/store"
is "$(find "$TMP/store/packed" -type f | wc -l)" 0 "... and what was packed"
ok "... with nothing wrong" "$QL" fsck

# ---- a start blob, of which no filler goes on with the rest ----

# By another node: an image with what a start reads.
mkdir -p "$TMP/box/bin" "$TMP/box/usr" && cp "$BUSYBOX" "$TMP/box/bin/busybox" &&
	cp "$TMP/base/usr"/large[0-4] "$TMP/box/usr" &&
	tar -C "$TMP/box" --owner=0 --group=0 -cf "$TMP/box.tar" . &&
	make_image "$TMP/oci" box "$TMP/box.tar:gzip" >/dev/null || bail box
other=(--root "$TMP/other")
"$QL" pull -q --full "${other[@]}" "oci:$TMP/oci:box" >/dev/null &&
	"$QL" record -q "${other[@]}" "oci:$TMP/oci:box" /bin/busybox cat \
		/usr/large3 >/dev/null &&
	"$QL" push -q "${other[@]}" "oci:$TMP/oci:box" "$REGISTRY/lab:start" \
		>/dev/null || bail "push start"
begin
lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
AGENT=$LAB_PID
wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" || bail agent
ok "a full pull of an image with a start blob" \
	"$QL" pull -q --full "$REGISTRY/lab:start"
unnamed()
{
	find "/proc/$AGENT/fd" -lname "$TMP/store/*(deleted)" -printf '%l\n'
}
closed()
{
	[ -z "$(unnamed)" ]
}
wait_for 5 closed
is "$(unnamed)" "" "... leaves no file without a name open"
is "$(status "$REGISTRY/lab:start" \
	'.bytes == .bytes_here + .bytes_packed + .bytes_partly')" true \
	"... and all of it is here"
lab_end "$AGENT"
lab_umount_below "$TMP/store"

# ---- without one ----

rm -rf "$TMP/store"
ok "without a budget: a pull" "$QL" pull -q "$image"
ok "... and the rest" "$QL" prefetch "$image"
is "$(status "$image" '[.files == .files_here, .files_packed]|tostring')" \
	"[true,0]" "... is plain"
is "$(find "$TMP/store/packed" -type f | wc -l)" 0 "... and nothing is packed"

done_testing
