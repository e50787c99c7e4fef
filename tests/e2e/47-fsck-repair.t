#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A store that is damaged in every way that a disk damages one: fsck names it,
# fsck --repair fetches it again, and then every file of every image is what
# umoci unpacks.  What cannot be had is named, and had once it can be.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
command -v umoci >/dev/null || skip_all "needs umoci"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/base/usr" "$TMP/top/usr/etc" "$TMP/conf" "$TMP/own"
echo '{"connect_seconds": 2, "stall_seconds": 2, "retries": 1}' \
	>"$TMP/conf/registries.json"

python3 - "$TMP/base" "$TMP/top" <<-'PY' || bail files
	import os, random, sys
	base, top = sys.argv[1:]
	r = random.Random(4700)
	for i in range(60):
	    with open("%s/usr/f%d" % (base, i), "wb") as f:
	        f.write(r.randbytes(r.choice([1, 50, 300, 5000, 30000])))
	for i in range(4):
	    with open("%s/usr/large%d" % (base, i), "wb") as f:
	        f.write(r.randbytes(700000 + 70001 * i))
	for i in range(20):
	    with open("%s/usr/etc/f%d" % (top, i), "wb") as f:
	        f.write(r.randbytes(2000))
	# Content that an image hides is its layer's all the same.
	open(top + "/usr/.wh.large3", "w").close()
PY
head -c 100000 /dev/urandom >"$TMP/own/folder"
for l in base top own; do
	tar -C "$TMP/$l" --owner=0 --group=0 -cf "$TMP/$l.tar" . || bail tar
done
make_image "$TMP/oci" t "$TMP/base.tar:gzip" "$TMP/top.tar:gzip" \
	>/dev/null || bail image
make_image "$TMP/folder" f "$TMP/base.tar:gzip" "$TMP/own.tar" \
	>/dev/null || bail image
umoci unpack --image "$TMP/oci:t" "$TMP/want" >/dev/null 2>&1 || bail umoci
umoci unpack --image "$TMP/folder:f" "$TMP/want-f" >/dev/null 2>&1 ||
	bail umoci

start_registry
registry_down()
{
	lab_end "$REGISTRY_PID"
}
registry_up()
{
	lab_start registry env -u REGISTRY_AUTH_FILE docker-registry serve \
		"$TMP/registry.yml"
	REGISTRY_PID=$LAB_PID
	wait_for 10 curl -s "http://$REGISTRY/v2/" || bail registry
}
push_image "oci:$TMP/oci:t" lab:gzip || bail push
"$QL" push -q "oci:$TMP/oci:t" "$REGISTRY/lab:chunked" >/dev/null ||
	bail "push chunked"
GZIP=$REGISTRY/lab:gzip CHUNKED=$REGISTRY/lab:chunked FOLDER=oci:$TMP/folder:f

# ---- what is done to a store ----

S=$QUICKLAYER_ROOT
object_of()
{
	sha256sum "$1" | sed 's,^\(..\)\(.\{62\}\).*,objects/\1/\2,'
}
flip()
{
	python3 - "$S/$1" "${2:-40}" <<-'PY'
		import os, sys
		os.chmod(sys.argv[1], 0o644)
		with open(sys.argv[1], "r+b") as f:
		    f.seek(int(sys.argv[2])); c = f.read(1)
		    f.seek(int(sys.argv[2])); f.write(bytes([c[0] ^ 1]))
	PY
}
cut()
{
	chmod 644 "$S/$1" && truncate -s "${2:-30}" "$S/$1"
}
inspect()
{
	"$QL" inspect "$1" | jq -r "$2"
}
# hex DIGEST
hex()
{
	echo "${1#sha256:}"
}
# object DIGEST: its path
object()
{
	hex "$1" | sed 's,^\(..\),objects/\1/,'
}
pull_all()
{
	rm -rf "$S"
	"$QL" pull -q --full "$GZIP" >/dev/null &&
		"$QL" pull -q "$CHUNKED" >/dev/null &&
		"$QL" prefetch -q "$CHUNKED" &&
		"$QL" pull -q --full "$FOLDER" >/dev/null
}
# same IMAGE FOLDER: by its files, read through the store.
same()
{
	"$QL" diff "$1" "$2/rootfs"
}
all_same()
{
	same "$GZIP" "$TMP/want" && same "$CHUNKED" "$TMP/want" &&
		same "$FOLDER" "$TMP/want-f"
}
# repairs WHAT: fsck finds something, repairs all, and finds nothing then.
repairs()
{
	fails "fsck finds $1" 1 "$QL" fsck
	ok "... and repairs it" "$QL" fsck --repair --config-dir "$TMP/conf"
	like "$("$QL" fsck)" ": 0 errors" "... and finds nothing then"
	ok "... and all files are umoci's" all_same
}

pull_all || bail pull
ok "a sound store" "$QL" fsck
ok "... has umoci's files" all_same
like "$("$QL" fsck --repair)" ": 0 errors" "... and nothing to repair"

# ---- content ----

flip "$(object_of "$TMP/base/usr/large0")" 400000
flip "$(object_of "$TMP/top/usr/etc/f3")"
repairs "flipped bytes"
cut "$(object_of "$TMP/base/usr/large1")" 5000
cut "$(object_of "$TMP/top/usr/etc/f4")" 0
repairs "files that were cut"
rm "$S/$(object_of "$TMP/base/usr/large2")" \
	"$S/$(object_of "$TMP/top/usr/etc/f5")" \
	"$S/$(object_of "$TMP/own/folder")"
repairs "missing files"
flip "$(object_of "$TMP/base/usr/large3")"
repairs "what an image hides"
ok "... and has it again" test -e "$S/$(object_of "$TMP/base/usr/large3")"
for f in "$TMP"/base/usr/f* "$TMP"/base/usr/large*; do
	[ "$(stat -c %s "$f")" -le 64 ] || rm "$S/$(object_of "$f")"
done
repairs "many missing files"

# ---- metadata ----

for image in "$GZIP" "$CHUNKED" "$FOLDER"; do
	manifest=$(hex "$(inspect "$image" .digest)")
	layer=$(hex "$(inspect "$image" '.layers[0]')")
	flip "images/$manifest.cfs" 2000
	repairs "a damaged tree of ${image##*/}"
	cut "layers/$layer.cfs.zst"
	repairs "a layer of ${image##*/} that was cut"
done
for toc in "$S"/layers/*.toc; do
	flip "layers/${toc##*/}" 90
done
repairs "damaged tables of contents"
for layer in "$S"/layers/*.cfs.zst; do
	rm "$layer"
done
rm "$S"/images/*.cfs
repairs "no trees at all"
gzip=$(inspect "$GZIP" .digest) folder=$(inspect "$FOLDER" .digest)
config=$(jq -r .config.digest "$S/$(object "$folder")")
flip "$(object "$gzip")"
cut "$(object "$config")" 10
rm "$S/$(object "$folder")"
repairs "damaged manifests and configurations"

# ---- the catalogue ----

object=$(object_of "$TMP/base/usr/large0")
"$B/tests/lab/miscount" "$S" "$(echo "${object#objects/}" | tr -d /)" ||
	bail miscount
fails "fsck finds wrong counts" 1 "$QL" fsck
like "$OUT" "the catalogue counts [0-9]+ users of [1-9]" "... of a file"
like "$OUT" "the catalogue counts 1 users of 0" "... also of nothing"
ok "... and repairs them" "$QL" fsck --repair
like "$("$QL" fsck)" ": 0 errors" "... and finds nothing then"

# ---- pulls go on ----

"$QL" fsck --rate 300kB/s >/dev/null &
fsck=$!
sleep 0.3
make_image "$TMP/small" s "$TMP/own.tar" >/dev/null || bail image
start=$(date +%s%N)
ok "a pull does not wait for a check that reads" \
	"$QL" pull -q --full "oci:$TMP/small:s"
took=$((($(date +%s%N) - start) / 1000000))
kill -0 $fsck 2>/dev/null && pass "... which goes on" ||
	fail "... which has ended (the pull took $took ms)"
wait $fsck
is $? 0 "... and finds nothing"

# ---- the rate ----

# within TOOK_MS BYTES RATE: it was that rate, by 15 %.
within()
{
	local rate=$(($2 * 1000 / $1))
	note "$2 bytes in $1 ms: $rate bytes a second of $3"
	[ $((rate * 100)) -ge $(($3 * 85)) ] &&
		[ $((rate * 100)) -le $(($3 * 115)) ]
}
for rate in 1000000 2500000; do
	start=$(date +%s%N)
	bytes=$("$QL" fsck --json --rate "$rate" | jq .bytes)
	took=$((($(date +%s%N) - start) / 1000000))
	ok "content is read at $rate bytes a second" within "$took" "$bytes" \
		"$rate"
done
fails "a rate of nothing" 2 "$QL" fsck --rate 0
fails "a rate that is none" 2 "$QL" fsck --rate fast

# ---- what is packed ----

push_image "oci:$TMP/oci:t" lab:indexed || bail push
(
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$REGISTRY/lab:indexed" &&
		"$QL" index --push "$REGISTRY/lab:indexed"
) >/dev/null || bail index
S=$TMP/packed QUICKLAYER_ROOT=$TMP/packed
# spoil FILE WHAT: where its middle lies in packed/, a byte becomes another
# one, or a block a hole.
spoil()
{
	python3 - "$S/packed" "$1" "$2" <<-'PY'
		import ctypes, glob, os, sys
		want = open(sys.argv[2], "rb").read()
		want = want[len(want) // 2:][:64]
		for path in glob.glob(sys.argv[1] + "/*/*"):
		    at = open(path, "rb").read().find(want)
		    if at < 0:
		        continue
		    os.chmod(path, 0o644)
		    with open(path, "r+b") as f:
		        if sys.argv[3] == "hole":
		            assert ctypes.CDLL(None).fallocate(f.fileno(), 3,
		                ctypes.c_long(at // 4096 * 4096),
		                ctypes.c_long(4096)) == 0
		        else:
		            f.seek(at); f.write(bytes([want[0] ^ 1]))
		    sys.exit(0)
		sys.exit(1)
	PY
}
# packed FILTER: of the status of the image.
packed()
{
	"$QL" status --json "$image" | jq "$1"
}
for image in "$CHUNKED" "$REGISTRY/lab:indexed"; do
	rm -rf "$S"
	"$B/tests/lab/limits" "$S" 500000000 0 >/dev/null || bail limits
	"$QL" pull -q --no-agent --full "$image" >/dev/null || bail pull
	n=$(packed .files_packed)
	ok "${image##*/}: what is packed is sound" "$QL" fsck
	is "$(packed .files_packed)" "$n" "... and stays"
	[ "$n" -gt 0 ] && [ "$("$QL" fsck --json | jq .bytes)" -gt 3000000 ] &&
		pass "... and is read" || fail "$n files are packed"
	for what in byte hole; do
		ok "... a $what is damaged" \
			spoil "$TMP/base/usr/large0" $what
		fails "... fsck finds it" 1 "$QL" fsck --rate 50MB/s
		like "$OUT" "packed/.*: 1 damaged parts, the first at byte" \
			"... and says where"
		like "$OUT" ": 1 errors" "... and nothing else"
		is "$(packed .files_packed)" "$n" "... and takes nothing away"
		ok "... and repairs it" "$QL" fsck --repair
		like "$("$QL" fsck)" ": 0 errors" "... and finds nothing then"
		here=$(packed .files_packed)
		[ "$here" -lt "$n" ] && [ "$here" -gt $((n / 2)) ] &&
			pass "... what was damaged is gone, and not all" ||
			fail "$here of $n are packed"
		ok "... and all files are umoci's" same "$image" "$TMP/want"
		ok "... and can be packed again" \
			"$QL" pull -q --no-agent --full "$image"
	done
	ok "... two at once" spoil "$TMP/base/usr/large1" byte
	ok "... are damaged" spoil "$TMP/base/usr/large3" byte
	fails "... and found" 1 "$QL" fsck
	# Where spans are large, one file's chunk crosses into the other's.
	parts=2
	[ "$image" = "$CHUNKED" ] || parts='[12]'
	like "$OUT" "packed/.*: $parts damaged parts" "... both"
	ok "... and repaired" "$QL" fsck --repair
	ok "... and all files are umoci's" same "$image" "$TMP/want"
done
S=$TMP/store QUICKLAYER_ROOT=$TMP/store

# ---- nobody has it ----

registry_down
lost=$(object_of "$TMP/top/usr/etc/f7")
flip "$lost"
# The lower one is in the folder, too.
layer=$(hex "$(inspect "$CHUNKED" '.layers[1]')")
manifest=$(inspect "$CHUNKED" .digest)
cut "layers/$layer.cfs.zst"
fails "without the registry: a repair fails" 1 \
	"$QL" fsck --repair --config-dir "$TMP/conf"
like "$OUT" "not repaired: $lost: " "... and names the file"
like "$OUT" "not repaired: layers/$layer.cfs.zst: " "... and the layer"
like "$OUT" "127.0.0.1|refused|[Cc]onnect" "... and says why"
ok "... a damaged file is not there any more" test ! -e "$S/$lost"
fails "... and not read" 1 "$QL" cat --no-agent "$GZIP" usr/etc/f7
registry_up
ok "the registry is back: it is repaired" "$QL" fsck --repair
ok "... and all files are umoci's" all_same
like "$("$QL" fsck)" ": 0 errors" "... and nothing is wrong"

# ---- an image that cannot be repaired is removed ----

registry_down
cut "layers/$layer.cfs.zst"
cut "images/$(hex "$manifest").cfs"
fails "... again" 1 "$QL" fsck --repair --config-dir "$TMP/conf"
ok "an image with damaged metadata is removed" "$QL" rmi "$CHUNKED"
ok "... and another that has the layer" "$QL" rmi "$GZIP"
like "$("$QL" fsck)" " 0 unreferenced: 0 errors" "... and nothing is left"
ok "... nor gone that another needs" same "$FOLDER" "$TMP/want-f"
done_testing
