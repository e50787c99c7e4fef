#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Plain gzip layers with an index, read lazily to their end: each byte of the
# layers' blobs is moved once, whether the background brings it, slowly or at
# once, or it is read file by file; and a part of a file costs a part.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/m" "$TMP/files"

# Files of all sizes, so that many lie over a place where a blob is entered.
python3 - "$TMP/files" <<-'PY' || bail files
	import random, sys
	r = random.Random(6600)
	def put(name, n):
	    half = r.randbytes(n // 2)
	    with open(sys.argv[1] + "/" + name, "wb") as f:
	        f.write(half + b"".join(half[i : i + 64] * 2 for i in range(0, n // 2, 128)))
	for i in range(300):
	    put("small%03d" % i, r.randrange(100, 40000))
	for i in range(12):
	    put("middle%02d" % i, r.randrange(500000, 4000000))
	for i in range(2):
	    put("large%d" % i, 9000000)
PY
tar -C "$TMP/files" --sort=name -cf "$TMP/files.tar" . &&
	make_image "$TMP/oci" t "$TMP/files.tar:gzip" >/dev/null || bail image
REGISTRY_ACCESS=1 start_registry
IMAGE=$REGISTRY/lab:t
push_image "oci:$TMP/oci:t" lab:t || bail push
(
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$IMAGE" && "$QL" index --push "$IMAGE"
) >/dev/null || bail index
ALL=$(size t)

# once DESCRIPTION: since the mark, each byte was moved once, nearly.
once()
{
	local n
	n=$(sent)
	[ "$n" -le $((ALL * 105 / 100)) ] && [ "$n" -ge $((ALL * 9 / 10)) ] &&
		pass "$1: $n bytes for $ALL" || fail "$1: $n bytes for $ALL"
}
is_here()
{
	"$QL" status --json "$IMAGE" | jq -e '.files == .files_here' >/dev/null
}
# server IMAGE: a server of its own; sets THREADS.
server()
{
	lab_start server "$QL" mount --no-agent --foreground "$1" "$TMP/m"
	wait_for 10 test -e "$TMP/m/large0" || bail "$(cat "$TMP/server.log")"
	SERVER=$LAB_PID
	THREADS=$(find "/proc/$SERVER/task" -mindepth 1 -maxdepth 1 | wc -l)
}
# agent RATE: a new store with the image, and an agent; sets AGENT.
agent()
{
	rm -rf "$TMP/store"
	mark
	printf 'root: %s\nbackground_rate: %s\n' "$TMP/store" "$1" \
		>"$TMP/agent.yaml"
	: >"$TMP/agent.log"
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent || bail agent
	"$QL" pull -q "$IMAGE" >/dev/null || bail pull
}
agent_end()
{
	lab_end "$AGENT"
	lab_umount_below "$TMP/store"
	ok "... and nothing in the store is wrong" "$QL" fsck
}

for rate in unlimited 4MB 20MB; do
	agent $rate
	ok "at a rate of $rate the background brings all of it" \
		wait_for 60 is_here
	once "... once"
	agent_end
done

# What is whole is known to be, and has nobody who fills it.
"$QL" push -q "oci:$TMP/oci:t" "$REGISTRY/lab:chunked" >/dev/null || bail push
for tag in t chunked; do
	rm -rf "$TMP/store"
	IMAGE=$REGISTRY/lab:$tag
	"$QL" pull -q "$IMAGE" >/dev/null || bail pull
	server "$IMAGE"
	before=$THREADS
	ok "$tag: all of it is read" diff -r "$TMP/m" "$TMP/files"
	lab_end "$SERVER"
	server "$IMAGE"
	[ "$THREADS" -le $((before - 10)) ] &&
		pass "... the next mount has $THREADS threads, not $before" ||
		fail "... the next mount has $THREADS threads, not $before"
	ok "... and is right" diff -r "$TMP/m" "$TMP/files"
	lab_end "$SERVER"
	# A whole image that is damaged is so to who checks the store.
	ok "... and nothing in the store is wrong" "$QL" fsck
	find "$TMP/store/objects" -type f -size +1000k | head -1 | xargs rm
	fails "... but what is whole and lacks a file is found" 1 "$QL" fsck
done
IMAGE=$REGISTRY/lab:t

agent 0
ok "read file by file, it is right" \
	diff -r "$TMP/store/agent/mnt/images/$IMAGE/" "$TMP/files"
once "... and each byte came once"
agent_end

agent 0
ok "read backwards, in pieces, it is right" python3 - \
	"$TMP/store/agent/mnt/images/$IMAGE" "$TMP/files" <<-'PY'
	import os, sys
	here, true = sys.argv[1:]
	for name in sorted(os.listdir(true), reverse=True):
	    with open(true + "/" + name, "rb") as t, open(here + "/" + name, "rb") as h:
	        size = os.fstat(t.fileno()).st_size
	        os.posix_fadvise(h.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
	        for at in range(size // 65536 * 65536, -1, -65536):
	            t.seek(at); h.seek(at)
	            assert t.read(65536) == h.read(65536), (name, at)
PY
once "... and each byte came once"
agent_end

agent 0
mark
ok "a page of a large file" python3 - "$TMP/store/agent/mnt/images/$IMAGE" \
	"$TMP/files" <<-'PY'
	import os, sys
	def page(dir):
	    fd = os.open(dir + "/large1", os.O_RDONLY)
	    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
	    return os.pread(fd, 4096, 5000000)
	assert page(sys.argv[1]) == page(sys.argv[2])
PY
n=$(sent)
[ "$n" -gt 0 ] && [ "$n" -le 2500000 ] &&
	pass "... costs the places that it lies in: $n bytes" ||
	fail "... costs $n bytes"
agent_end
done_testing
