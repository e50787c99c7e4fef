#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An image is mounted by FUSE and looked at with ordinary tools; mounts that
# cannot be made say why; every way of unmounting leaves nothing behind.
# Scripts for bash -c are expanded there.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
chmod 711 "$TMP" # other users look into the mount

python3 "$LAB/oddtree.py" "$TMP/src" || bail "oddtree.py"
cp /bin/ls "$TMP/src/bin/ls"
tar -C "$TMP/src" --xattrs --xattrs-include='*' --acls --posix \
	-cf "$TMP/layer.tar" . || bail tar
make_image "$TMP/oci" odd "$TMP/layer.tar" >/dev/null || bail "make_image"
IMAGE=oci:$TMP/oci:odd
ok "an image is pulled" "$QL" pull "$IMAGE"
M=$TMP/mnt
mkdir "$M"

# The processes that serve a mount of this story.
servers()
{
	local pid
	for pid in $(pgrep -x "$(basename "$QL" | cut -c1-15)"); do
		tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null |
			grep -qF "$TMP" && echo "$pid"
	done
}
no_servers()
{
	[ -z "$(servers)" ]
}
mounted()
{
	grep -qF " $1 " /proc/self/mountinfo
}
not_mounted()
{
	! mounted "$1"
}

# One line for each entry: what stat and getfattr see, and a checksum.
listing()
{
	python3 - "$1" <<-'PY'
		import hashlib, os, stat, sys
		top = os.fsencode(sys.argv[1])
		for d, dirs, files in os.walk(top):
		    dirs.sort()
		    for name in sorted(dirs + files):
		        p = os.path.join(d, name)
		        s = os.lstat(p)
		        x = {n: os.getxattr(p, n, follow_symlinks=False)
		             for n in sorted(os.listxattr(p, follow_symlinks=False))}
		        more = b""
		        if stat.S_ISREG(s.st_mode):
		            more = hashlib.sha256(open(p, "rb").read()).hexdigest()
		        elif stat.S_ISLNK(s.st_mode):
		            more = os.readlink(p)
		        size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
		        links = 0 if stat.S_ISDIR(s.st_mode) else s.st_nlink
		        print(p[len(top):], oct(s.st_mode), s.st_uid, s.st_gid, size,
		              links, s.st_rdev, s.st_mtime_ns, x, more)
	PY
}

story_content()
{
	local how=$1
	shift
	ok "$how: mount returns when the mount serves" \
		"$QL" mount "$IMAGE" "$M" "$@"
	is "$(cd "$M" && echo *)" "aa bin data deep etc many" \
		"$how: ls shows the root, and none of composefs's additions"
	listing "$TMP/src" >"$TMP/want"
	listing "$M" >"$TMP/got"
	ok "$how: every attribute, xattr and byte is the image's" \
		diff "$TMP/want" "$TMP/got"
	is "$(stat -c %i "$M/data/large")" "$(stat -c %i "$M/data/large-again")" \
		"$how: hardlinks are one inode"
	is "$(wc -c <"$M/data/null")" 0 "$how: a device node works"
	ok "$how: a program in it runs" "$M/bin/ls" -l "$M/bin"
	ok "$how: shared mappings and random reads see the right bytes" \
		python3 - "$M/data/large" "$TMP/src/data/large" <<-'PY'
			import mmap, os, random, sys
			want = open(sys.argv[2], "rb").read()
			f = open(sys.argv[1], "rb")
			m = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
			random.seed(1)
			assert m[:] == want
			for i in range(2000):
			    n, at = random.randrange(70000), random.randrange(len(want) + 99)
			    assert os.pread(f.fileno(), n, at) == want[at:at + n]
			    at = min(at, len(want) - 1)
			    assert m[at] == want[at]
			s = open(os.path.dirname(sys.argv[1]) + "/../etc/small", "rb")
			assert os.pread(s.fileno(), 9, 5) == b"in the im"
			assert os.pread(s.fileno(), 9, 100) == b""
		PY
	ok "$how: sixteen readers at once" bash -c '
		for i in {1..16}; do
			cmp "$1/data/large" "$2/data/large" || exit 1 &
			pids+=($!)
		done
		for p in "${pids[@]}"; do wait "$p" || exit 1; done' - "$M" "$TMP/src"
	fails "$how: nothing can be written" 1 touch "$M/new"
	like "$OUT" "Read-only file system" "$how: and it says so"
	ok "$how: umount" "$QL" umount "$M"
	ok "$how: the server is gone when umount returns" no_servers
}

story_content "default"
story_content "no passthrough" --no-passthrough

# ---- what the kernel is told ----

"$QL" mount "$IMAGE" "$M"
like "$(grep -F " $M " /proc/self/mountinfo)" \
	" ro,relatime.* - fuse.quicklayer " "mountinfo: read-only, no nosuid"
unlike "$(grep -F " $M " /proc/self/mountinfo)" "nosuid|nodev|noexec" \
	"mountinfo: neither nosuid nor nodev nor noexec"
like "$(grep -F " $M " /proc/self/mountinfo)" " oci:$TMP/oci:odd " \
	"mountinfo: the source is the image's name"
is "$(stat -f -c '%l' "$M")" 255 "statfs: names of 255 bytes"
find "$M" -printf '%i %p\n' | sort >"$TMP/inodes"
sync
echo 3 >/proc/sys/vm/drop_caches
find "$M" -printf '%i %p\n' | sort >"$TMP/inodes2"
ok "inode numbers are stable over drop_caches" cmp "$TMP/inodes" "$TMP/inodes2"
"$QL" umount "$M"
"$QL" mount "$IMAGE" "$M"
find "$M" -printf '%i %p\n' | sort >"$TMP/inodes2"
ok "inode numbers are stable over a new mount" \
	cmp "$TMP/inodes" "$TMP/inodes2"
ok "a file handle is good after drop_caches, also a directory's" \
	python3 - "$M" <<-'PY'
		import ctypes, os, sys
		libc = ctypes.CDLL(None, use_errno=True)
		top = sys.argv[1]
		class Handle(ctypes.Structure):
		    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int),
		                ("data", ctypes.c_ubyte * 128)]
		handles = []
		for name in ("data/page", "deep/er/and"):
		    h, at = Handle(128), ctypes.c_int()
		    path = os.fsencode(os.path.join(top, name))
		    if libc.name_to_handle_at(-100, path, ctypes.byref(h),
		                              ctypes.byref(at), 0):
		        sys.exit("name_to_handle_at: %d" % ctypes.get_errno())
		    handles.append((name, h))
		os.sync()
		open("/proc/sys/vm/drop_caches", "w").write("3")
		mount = os.open(top, os.O_RDONLY)
		for name, h in handles:
		    fd = libc.open_by_handle_at(mount, ctypes.byref(h), os.O_RDONLY)
		    if fd < 0:
		        sys.exit("open_by_handle_at: %d" % ctypes.get_errno())
		    want = os.stat(os.path.join(top, name))
		    assert os.fstat(fd).st_ino == want.st_ino, name
		    if name == "data/page":
		        assert len(os.read(fd, 5000)) == 4096
		    else:
		        assert os.listdir(fd) == ["deeper"]
	PY
is "$(setpriv --reuid 1234 --regid 1234 --clear-groups cat "$M/data/acl" 2>&1)" \
	"for 1234 only" "an ACL lets its user in"
fails "and nobody else" 1 \
	setpriv --reuid 1235 --regid 1235 --clear-groups cat "$M/data/acl"
is "$(setpriv --reuid 1235 --regid 1235 --clear-groups getfattr -m - "$M/data/attrs" \
	2>/dev/null | grep -c trusted)" 0 "trusted xattrs are listed to root alone"
ok "the negative answer is kept, too" bash -c '
	for i in 1 2 3; do ! test -e "$1/no/such" || exit 1; done' - "$M"
ok "a position in a directory is good for another reader" \
	python3 - "$M/many" <<-'PY'
		import ctypes, os, sys
		libc = ctypes.CDLL(None, use_errno=True)
		libc.opendir.restype = ctypes.c_void_p
		libc.telldir.restype = ctypes.c_long
		libc.readdir.restype = ctypes.c_void_p
		def name(d):
		    e = libc.readdir(ctypes.c_void_p(d))
		    return ctypes.string_at(e + 19) if e else None
		d = libc.opendir(sys.argv[1].encode())
		seen = []
		while True:
		    at = libc.telldir(ctypes.c_void_p(d))
		    n = name(d)
		    if n is None:
		        break
		    seen.append((at, n))
		assert len(seen) == 2002, len(seen)
		other = libc.opendir(sys.argv[1].encode())
		for at, n in seen[1::97]:
		    libc.seekdir(ctypes.c_void_p(other), ctypes.c_long(at))
		    assert name(other) == n, (at, n)
	PY

# ---- mounts that cannot be made ----

fails "a mount on a mount is refused" 1 "$QL" mount "$IMAGE" "$M"
like "$OUT" "an image is mounted there" "and it says why"
fails "a mount point that is missing" 1 "$QL" mount "$IMAGE" "$TMP/none"
like "$OUT" "does not exist" "and it says why"
fails "a mount point that is a file" 1 "$QL" mount "$IMAGE" "$TMP/layer.tar"
like "$OUT" "not a directory" "and it says why"
fails "a mount point that is not empty" 1 "$QL" mount "$IMAGE" "$TMP/src"
like "$OUT" "not empty" "and it says why"
fails "umount of what is no mount" 1 "$QL" umount "$TMP/src"
like "$OUT" "not a mount of quicklayer" "and it says why"

# ---- ways to unmount ----

# The server's lock on the image is what keeps it from being removed.
"$QL" umount "$M"
locked=0
for _ in {1..20}; do
	"$QL" mount "$IMAGE" "$M" && "$QL" umount "$M"
	flock -n -x "$QUICKLAYER_ROOT"/images/*.cfs true ||
		locked=$((locked + 1))
done
is "$locked" 0 "the image is free as soon as umount returns, 20 times"
"$QL" mount "$IMAGE" "$M"
fails "and is not while it is mounted" 1 \
	flock -n -x "$QUICKLAYER_ROOT"/images/*.cfs true

exec 7<"$M/etc/small"
fails "umount of what is in use is refused" 1 "$QL" umount "$M"
like "$OUT" "in use" "and it says why"
ok "lazily it is detached" "$QL" umount --lazy "$M"
ok "and no longer there" not_mounted "$M"
is "$(cat <&7)" "kept in the image" "who has a file open reads on"
exec 7<&-
ok "with the last user the server goes" wait_for 5 no_servers

"$QL" mount "$IMAGE" "$M"
ok "the system's umount works" umount "$M"
ok "and ends the server" wait_for 5 no_servers
if command -v fusermount3 >/dev/null; then
	"$QL" mount "$IMAGE" "$M"
	ok "fusermount3 -u works" fusermount3 -u "$M"
	ok "and ends the server" wait_for 5 no_servers
fi
for signal in TERM INT; do
	"$QL" mount "$IMAGE" "$M"
	kill -"$signal" "$(servers)"
	ok "SIG$signal ends the server" wait_for 5 no_servers
	ok "and takes the mount away" not_mounted "$M"
done

"$QL" mount "$IMAGE" "$M"
kill -9 "$(servers)"
wait_for 5 no_servers
fails "with the server killed, a read fails and does not hang" 1 \
	timeout 5 cat "$M/data/page"
fails "mounting over the dead mount is refused" 1 "$QL" mount "$IMAGE" "$M"
ok "umount takes the dead mount away" "$QL" umount "$M"
ok "the mount point is free again" "$QL" mount "$IMAGE" "$M"
ok "and serves" cmp "$M/data/page" "$TMP/src/data/page"
"$QL" umount "$M"

lab_start foreground "$QL" mount "$IMAGE" "$M" --foreground
ok "in the foreground the program stays" wait_for 5 mounted "$M"
ok "and is the server" kill -0 "$LAB_PID"
"$QL" umount "$M"
ok "until it is unmounted" wait "$LAB_PID"

# ---- content that is not as it was ----

object=$QUICKLAYER_ROOT/objects/$(sha256sum "$TMP/src/data/page" |
	sed 's,^\(..\)\(.\{62\}\).*,\1/\2,')
"$QL" mount "$IMAGE" "$M"
mv "$object" "$TMP/kept"
fails "an object that is missing is an error" 1 cat "$M/data/page"
like "$OUT" "Input/output error" "EIO, as for a bad disk"
head -c 100 "$TMP/kept" >"$object"
fails "an object cut short is an error, and not zeros" 1 cat "$M/data/page"
rm "$object"
mv "$TMP/kept" "$object"
ok "once it is back, so is the file" cmp "$M/data/page" "$TMP/src/data/page"
"$QL" umount "$M"
ok "nothing of ours is mounted at the end" \
	bash -c '! grep -F "$1" /proc/self/mountinfo' - "$TMP"

done_testing
