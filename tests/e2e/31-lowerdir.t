#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A mounted image is the lowerdir of an ordinary overlayfs mount, on which
# everything works that works over a folder on disk: each step is done on both
# and the results are compared.  Then a container runs on such a mount.
# Scripts for bash -c are expanded there.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store

python3 "$LAB/oddtree.py" "$TMP/src" || bail "oddtree.py"
# A program and its libraries, so that the tree can be a container's root.
mkdir -p "$TMP/src/proc" "$TMP/src/sys" "$TMP/src/dev" "$TMP/src/tmp" \
	"$TMP/src/usr" "$TMP/src/run"
for program in bash ls cat find chmod ln rm mv mkdir; do
	path=$(command -v "$program")
	cp -L "$path" "$TMP/src/bin/"
	ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$TMP/src$(dirname "$library")"
		cp -L "$library" "$TMP/src$library"
	done
done
cp -a "$TMP/src/bin/bash" "$TMP/src/bin/sh"
tar -C "$TMP/src" --xattrs --xattrs-include='*' --acls --posix \
	-cf "$TMP/layer.tar" . || bail tar
make_image "$TMP/oci" odd "$TMP/layer.tar" >/dev/null || bail "make_image"
IMAGE=oci:$TMP/oci:odd
"$QL" pull "$IMAGE" >"$TMP/pull.log" 2>&1 || bail "pull: $(cat "$TMP/pull.log")"
M=$TMP/mnt
mkdir "$M"

# overlay NAME LOWER OPTIONS: mounts $TMP/NAME over LOWER, fresh.
overlay()
{
	rm -rf "$TMP/$1.upper" "$TMP/$1.work"
	mkdir -p "$TMP/$1" "$TMP/$1.upper" "$TMP/$1.work"
	mount -t overlay overlay -o "lowerdir=$2,upperdir=$TMP/$1.upper,\
workdir=$TMP/$1.work${3:+,$3}" "$TMP/$1"
}

# What is seen after all that was done: names, types, modes, owners, sizes,
# link counts of files, targets, checksums.
listing()
{
	(cd "$1" && find . ! -type d -printf '%p %y %m %U %G %n %s %l\n' \
		-o -printf '%p %y %m %U %G\n' | sort
	find . -type f -exec sha256sum {} + | sort)
}

# Everything that changes a tree, on the overlay in $1.
change()
{
	cd "$1" || return 1
	set -e
	echo more >>etc/small                      # copy-up, by writing
	chmod 600 data/large                       # copy-up of a hardlink
	chown 5:6 data/owned
	mv data/page data/page-renamed             # rename of a lower file
	mv data/large-again etc/moved
	ln etc/empty etc/empty-again               # hardlink to a lower file
	ln -s new etc/new-link
	rm data/attrs data/null                    # whiteouts
	echo again >data/attrs                     # created anew
	rm -r many                                 # a directory goes
	mkdir many                                 # and comes back empty
	echo one >many/file-0001
	rm -r aa
	echo file >aa                              # a file for a directory
	rm etc/link
	mkdir etc/link                             # a directory for a symlink
	truncate -s 10 bin/setuid
	mkfifo run/fifo
	mv etc/dangling etc/dangling2
	setfattr -n user.new -v 1 bin/capable
}

story()
{
	local what=$1 options=$2 mount=$3
	# shellcheck disable=SC2086
	"$QL" mount "$IMAGE" "$M" $mount || bail "mount"
	ok "$what: overlayfs takes the mount as lowerdir" \
		overlay over "$M" "$options"
	overlay native "$TMP/src" "$options"
	ok "$what: it shows the same tree" diff <(listing "$TMP/native") \
		<(listing "$TMP/over")
	find "$TMP/over" ! -type d -printf '%i %P\n' | sort >"$TMP/inodes"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	find "$TMP/over" ! -type d -printf '%i %P\n' | sort >"$TMP/inodes2"
	ok "$what: inode numbers of files are stable over drop_caches" \
		cmp "$TMP/inodes" "$TMP/inodes2"
	is "$(uniq -c "$TMP/inodes" | awk '$1 > 1' | wc -l)" 0 \
		"$what: find sees each entry once"
	ok "$what: a program runs" "$TMP/over/bin/ls" "$TMP/over"
	ok "$what: a shared mapping reads, and writes after copy-up" \
		python3 - "$TMP/over/data/large" "$TMP/src/data/large" <<-'PY'
			import mmap, sys
			want = open(sys.argv[2], "rb").read()
			lower = open(sys.argv[1], "rb")
			m = mmap.mmap(lower.fileno(), 0, mmap.MAP_SHARED,
			              mmap.PROT_READ)
			assert m[:] == want
			up = open(sys.argv[1], "r+b")
			w = mmap.mmap(up.fileno(), 0)
			assert w[:] == want
			w[5:8] = b"new"
			w.flush()
			assert open(sys.argv[1], "rb").read()[5:8] == b"new"
			w[5:8] = want[5:8]
			w.flush()
		PY
	(change "$TMP/native") || bail "the changes fail on a folder"
	ok "$what: copy-up, rename, hardlink, chmod, deletion, re-creation" \
		bash -c "$(declare -f change); change \"\$1\"" - "$TMP/over"
	ok "$what: and the result is the same" diff <(listing "$TMP/native") \
		<(listing "$TMP/over")
	echo 3 >/proc/sys/vm/drop_caches
	ok "$what: also after drop_caches" diff <(listing "$TMP/native") \
		<(listing "$TMP/over")
	ok "$what: the image is as it was" cmp "$M/data/page" \
		"$TMP/src/data/page"
	umount "$TMP/native" "$TMP/over"
	ok "$what: unmounts" "$QL" umount "$M"
}

story "default" "" ""
story "no passthrough" "" "--no-passthrough"
story "metacopy" "metacopy=on,redirect_dir=on,index=on,xino=on" ""

# ---- inode numbers with file handles ----

"$QL" mount "$IMAGE" "$M"
if overlay over "$M" "xino=on,index=on,nfs_export=on" 2>/dev/null; then
	find "$TMP/over" -printf '%i %P\n' | sort >"$TMP/inodes"
	sync
	echo 3 >/proc/sys/vm/drop_caches
	find "$TMP/over" -printf '%i %P\n' | sort >"$TMP/inodes2"
	ok "with xino also those of directories" cmp "$TMP/inodes" \
		"$TMP/inodes2"
	like "$(grep -F " $TMP/over " /proc/self/mountinfo)" "xino=on" \
		"overlayfs takes the mount's file handles"
	umount "$TMP/over"
else
	skip "this kernel has no nfs_export in overlayfs" 2
fi

# ---- an overlay on the overlay ----

"$QL" umount "$M"
"$QL" mount "$IMAGE" "$M" --no-passthrough
overlay over "$M" ""
ok "without passthrough an overlay stacks on the overlay" \
	overlay nested "$TMP/over"
ok "and reads" cmp "$TMP/nested/data/large" "$TMP/src/data/large"
umount "$TMP/nested" "$TMP/over"
"$QL" umount "$M"

# ---- a container ----

"$QL" mount "$IMAGE" "$M"
if command -v podman >/dev/null && command -v runc >/dev/null; then
	before=$(cd "$M" && find . -printf '%i %p %m %T@\n' | sha256sum)
	ok "podman run --rootfs DIR:O" lab_podman run --rm --network host \
		--rootfs "$M:O" /bin/bash -c \
		'echo hi >/etc/small && rm -r /many && /bin/ls / && chmod 600 /data/large'
	is "$(lab_podman run --rm --network host --rootfs "$M:O" \
		/bin/cat /etc/small 2>&1)" "kept in the image" \
		"the next container sees the image as it was"
	is "$(cd "$M" && find . -printf '%i %p %m %T@\n' | sha256sum)" \
		"$before" "and so does the mount"
else
	skip "no podman or runc" 3
fi
ok "unmounts at the end" "$QL" umount "$M"

done_testing
