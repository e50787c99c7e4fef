#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Images in every form that can come when it is read: a pull moves a small
# part, what is read through the mount is what a full pull brings, and no byte
# is fetched twice.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
busybox=$(command -v busybox) || skip_all "needs busybox"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/m" "$TMP/full" "$TMP/base/usr/lib" "$TMP/base/bin" "$TMP/top/etc"
cp "$busybox" "$TMP/base/bin/busybox"

# Small files, files of several chunks, holes, and what the upper one hides.
python3 - "$TMP/base" "$TMP/top" <<-'PY' || bail files
	import os, random, sys
	base, top = sys.argv[1:]
	r = random.Random(6000)
	for i in range(600):
	    with open("%s/usr/lib/f%d" % (base, i), "wb") as f:
	        f.write(r.randbytes(r.choice([1, 40, 300, 5000, 30000])))
	for i in range(8):
	    with open("%s/usr/large%d" % (base, i), "wb") as f:
	        f.write(r.randbytes(400000 + 70001 * i))
	with open(base + "/usr/text", "w") as f:
	    f.write("".join("%d\n" % (i * 7919) for i in range(200000)))
	with open(base + "/usr/holes", "wb") as f:
	    f.seek(300000); f.write(b"x" * 1000); f.seek(900000); f.write(b"y")
	open(base + "/usr/empty", "w").close()
	with open(base + "/usr/hidden", "wb") as f:
	    f.write(r.randbytes(5000))
	os.symlink("text", base + "/usr/link")
	os.link(base + "/usr/text", base + "/usr/hard")
	for i in range(20):
	    with open("%s/etc/f%d" % (top, i), "wb") as f:
	        f.write(r.randbytes(2000))
	os.mkdir(top + "/usr")
	open(top + "/usr/.wh.hidden", "w").close()
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
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

# ---- the forms ----

QUICKLAYER_ROOT=$TMP/whole "$QL" pull -q --full "$SRC" >/dev/null ||
	bail "pull $SRC"
QUICKLAYER_ROOT=$TMP/whole "$QL" mount --no-agent "$SRC" "$TMP/full" ||
	bail mount
sums "$TMP/full" >"$TMP/want"
[ "$(wc -l <"$TMP/want")" -gt 600 ] || bail "the image has files"

FORMS=(chunked estargz indexed start)
"$QL" push -q --format zstd:chunked "$SRC" "$REGISTRY/lab:chunked" \
	>/dev/null || bail "push chunked"
"$QL" push -q --format estargz "$SRC" "$REGISTRY/lab:estargz" >/dev/null ||
	bail "push estargz"
push_image "$SRC" lab:indexed || bail "push gzip"
# By another node: an index with what a start reads, and an image with one.
(
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$REGISTRY/lab:indexed" &&
		"$QL" record -q "$REGISTRY/lab:indexed" /bin/busybox cat \
			/etc/f3 /usr/lib/f7 /usr/large3 &&
		"$QL" index --push "$REGISTRY/lab:indexed" &&
		"$QL" push -q "$REGISTRY/lab:indexed" "$REGISTRY/lab:start"
) >/dev/null || bail "index"
if push_image "$SRC" lab:plain && lab_podman pull -q --tls-verify=false \
	"$REGISTRY/lab:plain" >/dev/null 2>&1; then
	rm -f "$TMP/podman/root/cache/blob-info-cache-v1.boltdb" \
		/var/lib/containers/cache/blob-info-cache-v1.boltdb
	if lab_podman push -q --tls-verify=false --format oci \
		--compression-format zstd:chunked "$REGISTRY/lab:plain" \
		"$REGISTRY/lab:podman" >"$TMP/err" 2>&1 &&
		curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
			"http://$REGISTRY/v2/lab/manifests/podman" |
		grep -q zstd-chunked; then
		FORMS+=(podman)
	else
		note "podman pushes no zstd:chunked here: $(cat "$TMP/err")"
	fi
	lab_podman rmi -af >/dev/null 2>&1
fi

extra="/.no.prefetch.landmark /.prefetch.landmark /stargz.index.json"
for form in "${FORMS[@]}"; do
	image=$REGISTRY/lab:$form
	rm -rf "$TMP/store"
	mark
	ok "$form: a pull" "$QL" pull -q "$image" || continue
	n=$(sent) all=$(size "$form")
	[ "$n" -lt $((all / 6)) ] &&
		pass "... moves a small part: $n of $all bytes" ||
		fail "... moves $n of $all bytes"
	ok "... mounts" "$QL" mount --no-agent "$image" "$TMP/m"
	sums "$TMP/m" | grep -vE ' \./(\.(no\.)?prefetch\.landmark|stargz\.index\.json)$' \
		>"$TMP/got"
	ok "... and reads as what was pushed" cmp "$TMP/want" "$TMP/got"
	note "$form: $(sent) bytes for $all"
	ok "... is unmounted" "$QL" umount "$TMP/m"
	is "$("$QL" diff "$image" "$TMP/full" 2>&1 | cut -d: -f1 |
		grep -vxF "${extra// /$'\n'}")" "" "... entry by entry as well"
	ok "... and nothing in the store is wrong" "$QL" fsck
	is "$("$QL" status --json "$image" | jq '.files == .files_here')" \
		true "... and all of it is here then"
	mark
	ok "... a full pull of it" "$QL" pull -q --full "$image"
	n=$(sent) # but for what the upper layer hides
	[ "$n" -le 60000 ] && pass "... moves nothing more" ||
		fail "... moves $n bytes more"
done

# ---- through the agent ----

rm -rf "$TMP/store"
cat >"$TMP/agent.yaml" <<-YAML
	root: $TMP/store
	background_rate: 0
YAML
lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
AGENT=$LAB_PID
MNT=$TMP/store/agent/mnt
wait_for 10 test -S "$TMP/store/agent/quicklayerd.sock" || bail agent
for form in start indexed chunked; do
	ok "$form: a pull through the agent" "$QL" pull -q "$REGISTRY/lab:$form"
	sums "$MNT/images/$REGISTRY/lab:$form/" >"$TMP/got"
	ok "... reads as what was pushed" cmp "$TMP/want" "$TMP/got"
	ok "... is removed" timeout 20 "$QL" rmi "$REGISTRY/lab:$form"
	ok "... and nothing in the store is wrong" "$QL" fsck
done
sleep 1.2 # until what came at the last moment would have been named
like "$("$QL" fsck)" " 0 unreferenced: 0 errors" "... with all its files"
ok "what was removed comes again" "$QL" pull -q "$REGISTRY/lab:chunked"
sums "$MNT/images/$REGISTRY/lab:chunked/" >"$TMP/got"
ok "... as it was" cmp "$TMP/want" "$TMP/got"
lab_end "$AGENT"
lab_umount_below "$TMP/store"

# ---- a large file ----

mkdir "$TMP/big"
head -c 34000000 /dev/urandom >"$TMP/big/large"
tar -C "$TMP/big" -cf "$TMP/big.tar" . &&
	make_image "$TMP/oci" big "$TMP/big.tar" >/dev/null || bail big
"$QL" push -q "oci:$TMP/oci:big" "$REGISTRY/lab:big" >/dev/null || bail push
rm -rf "$TMP/store"
"$QL" pull -q "$REGISTRY/lab:big" >/dev/null || bail pull
"$QL" mount --no-agent "$REGISTRY/lab:big" "$TMP/m" || bail mount
mark
ok "the first page of a large file" cmp -n 4096 "$TMP/m/large" "$TMP/big/large"
n=$(sent)
[ "$n" -le $((2 * 262144 + 2048)) ] && pass "... costs $n bytes" ||
	fail "... costs $n bytes"
"$QL" umount "$TMP/m"
wait_for 5 "$QL" rmi "$REGISTRY/lab:big" || fail "rmi"
"$QL" pull -q "$REGISTRY/lab:big" >/dev/null || bail pull
"$QL" mount --no-agent "$REGISTRY/lab:big" "$TMP/m" || bail mount
mark
sha256sum <"$TMP/big/large" >"$TMP/want"
pids=()
for i in {1..64}; do
	{ [ $((i % 4)) = 0 ] && { dd of=/dev/null bs=64k count=1 \
		skip=$((i * 8)) 2>/dev/null <"$TMP/m/large"; }
	sha256sum <"$TMP/m/large"; } >"$TMP/sum.$i" &
	pids+=($!)
done
wait "${pids[@]}"
wrong=0
for i in {1..64}; do
	cmp -s "$TMP/want" "$TMP/sum.$i" || wrong=$((wrong + 1))
done
is "$wrong" 0 "64 readers of it at once are right"
n=$(sent) all=$(size big)
[ "$n" -le $((all * 101 / 100)) ] && pass "... for $n bytes of $all" ||
	fail "... for $n bytes of $all"
"$QL" umount "$TMP/m"
ok "nothing in the store is wrong" "$QL" fsck

# ---- the next version ----

mkdir "$TMP/v"
for i in {1..50}; do
	head -c 100000 /dev/urandom >"$TMP/v/f$i"
done
tar -C "$TMP/v" -cf "$TMP/v1.tar" .
for i in {1..5}; do
	head -c 100000 /dev/urandom >"$TMP/v/f$i"
done
tar -C "$TMP/v" -cf "$TMP/v2.tar" .
for v in v1 v2; do
	make_image "$TMP/oci" $v "$TMP/$v.tar" >/dev/null &&
		"$QL" push -q "oci:$TMP/oci:$v" "$REGISTRY/lab:$v" >/dev/null ||
		bail $v
done
"$QL" pull -q --full "$REGISTRY/lab:v1" >/dev/null || bail v1
mark
ok "a version that shares its files" "$QL" pull -q --full "$REGISTRY/lab:v2"
is "$("$QL" status --json "$REGISTRY/lab:v2" | jq '.files == .files_here')" \
	true "... to the end"
n=$(sent)
[ "$n" -le 550000 ] && pass "... moves the new ones: $n bytes" ||
	fail "... moves $n bytes for 500000 new ones"
like "$("$QL" fsck)" " 0 errors" "... and nothing in the store is wrong"

# The same in other forms; with an index, what stands beside the new ones is
# decoded too; and an eStargz's table is one of its files.
declare -A MOST=([estargz]=600000 [gzip]=3500000)
mkdir "$TMP/tree"
tar -C "$TMP/tree" -xf "$TMP/v2.tar" --numeric-owner
for form in estargz gzip; do
	for v in v1 v2; do
		"$QL" push -q --format $form "oci:$TMP/oci:$v" \
			"$REGISTRY/lab/$form:$v" >/dev/null || bail "push $form"
	done
	if [ $form = gzip ]; then
		"$QL" pull -q --root "$TMP/third" --full \
			"$REGISTRY/lab/gzip:v2" >/dev/null &&
			"$QL" index --root "$TMP/third" --push \
				"$REGISTRY/lab/gzip:v2" >/dev/null || bail index
	fi
	rm -rf "$TMP/store"
	mark
	"$QL" pull -q --full "$REGISTRY/lab/$form:v1" >/dev/null || bail v1
	n=$(sent)
	[ "$n" -ge 5000000 ] || fail "$form: v1 moves $n bytes"
	mark
	ok "$form: a version that shares its files" \
		"$QL" pull -q --full "$REGISTRY/lab/$form:v2"
	n=$(sent)
	[ "$n" -le "${MOST[$form]}" ] &&
		pass "... moves $n bytes for 500000 new ones" ||
		fail "... moves $n bytes for 500000 new ones"
	is "$("$QL" status --json "$REGISTRY/lab/$form:v2" |
		jq '.files == .files_here')" true "... to the end"
	is "$("$QL" diff "$REGISTRY/lab/$form:v2" "$TMP/tree" 2>&1 |
		cut -d: -f1 | grep -vxF "${extra// /$'\n'}")" "" \
		"... as they were pushed"
	like "$("$QL" fsck)" " 0 errors" "... and nothing in the store is wrong"
done

# Of one that shares little, all is fetched, as one stream.
for i in {1..40}; do
	head -c 100000 /dev/urandom >"$TMP/v/f$i"
done
tar -C "$TMP/v" -cf "$TMP/v3.tar" .
make_image "$TMP/oci" v3 "$TMP/v3.tar" >/dev/null &&
	"$QL" push -q --format estargz "oci:$TMP/oci:v3" \
		"$REGISTRY/lab/estargz:v3" >/dev/null || bail v3
"$QL" pull -q --full "$REGISTRY/lab/estargz:v2" >/dev/null || bail v2
mark
ok "a version that shares little" \
	"$QL" pull -q --full "$REGISTRY/lab/estargz:v3"
is "$(tail -n "+$((MARK + 1))" "$TMP/registry.log" | awk '
	/"GET [^ ]*\/blobs\// && $10 > 4000000 { print $9 }')" 200 \
	"... comes whole, as one stream"
done_testing
