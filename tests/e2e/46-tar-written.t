#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Archives whose headers we wrote are to GNU tar, bsdtar, umoci and podman what
# the tree was: names of no character set and of any length, times with
# nanoseconds and before 1970, owners, devices, capabilities and other xattrs.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners)"
export REGISTRY_AUTH_FILE=$TMP/auth.json
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/src"
python3 "$LAB/oddtree.py" "$TMP/src" || bail oddtree
python3 - "$TMP/src" <<'PY' || bail "odd names"
import os
import sys

os.chdir(os.fsencode(sys.argv[1]))
for byte in (b"x", b"\xc3\xa9", b"\xe9"):
    # As ustar has it, with a prefix, and neither.
    for length in (80, 160, 250):
        name = byte * (length // len(byte))
        os.makedirs(name + b"/" + name)
        open(name + b"/" + name + b"/" + name, "wb").write(name)
        os.link(name + b"/" + name + b"/" + name, name + b"/link")
        os.symlink(name + b"/" + name, name + b"/symlink")
    deep = byte * 2
    for i in range(14):
        deep = os.path.join(deep, byte * (200 // len(byte)))
    os.makedirs(deep)
open("times", "w").close()
for i, ns in enumerate((-1, -250000000, -1000000000, -1500000000, 1,
                        8589934591999999999, 8589934592000000000)):
    open("times-%d" % i, "w").close()
    os.utime("times-%d" % i, ns=(ns, ns))
open("owner", "w").close()
os.chown("owner", 2097151, 2097152)
open("owners", "w").close()
os.chown("owners", 4294967294, 4000000000)
open("xattr", "w").close()
os.setxattr("xattr", "user.a b\n", b"\0\n=9 x=\xff" * 200)
os.utime(".", ns=(1500000000, 1500000000))
PY

tar -C "$TMP/src" --format=pax --xattrs --xattrs-include='*' \
	-cf "$TMP/gnu.tar" . || bail tar
ok "GNU tar's archive is written anew" \
	bash -c "'$B/tests/lab/retar' <'$TMP/gnu.tar' >'$TMP/new.tar'"
"$B/tests/lab/retar" <"$TMP/new.tar" >"$TMP/newer.tar"
ok "... and is then the same whenever it is written" \
	cmp "$TMP/new.tar" "$TMP/newer.tar"

# One order of entries, for comparing; mtime and all.
dump()
{
	python3 "$LAB/dumptree.py" "$1"
}
dump "$TMP/src" >"$TMP/want"

# same HOW: $TMP/got is the tree.
same()
{
	dump "$TMP/got" >"$TMP/is"
	ok "$1" diff "$TMP/want" "$TMP/is"
	rm -rf "$TMP/got"
}

for locale in C C.UTF-8; do
	mkdir "$TMP/got"
	LC_ALL=$locale tar -C "$TMP/got" --xattrs --xattrs-include='*' \
		--numeric-owner --same-owner -pxf "$TMP/new.tar" \
		>"$TMP/log" 2>&1
	is "$(grep -v ': time stamp\|: implausibly old time' "$TMP/log")" "" \
		"GNU tar takes it ($locale)"
	same "... and has the tree"
	# It has no fractions before 1970 (see store/tar.c), and warns where a
	# name is of no character set.
	mkdir "$TMP/got"
	LC_ALL=$locale bsdtar -C "$TMP/got" --numeric-owner -pxf \
		"$TMP/new.tar" 2>"$TMP/log"
	for i in etc/empty times-{0,1,2,3} ""; do
		touch -r "$TMP/src/$i" "$TMP/got/$i"
	done
	same "bsdtar has the tree ($locale)"
done

make_image "$TMP/img" t "$TMP/new.tar:gzip" >/dev/null || bail make_image
ok "umoci unpacks it" umoci unpack --image "$TMP/img:t" "$TMP/bundle"
mv "$TMP/bundle/rootfs" "$TMP/got"
same "... and has the tree"
start_registry
push_image "oci:$TMP/img:t" lab/img:t || bail push_image
id=$(lab_podman create -q --tls-verify=false "$REGISTRY/lab/img:t" true)
mounted=$(lab_podman mount "$id") || bail "podman mount"
# Its root is its own, and it has no times before 1970.
seen="sed -E 1d;s/mtime=-[0-9]+/mtime=0/"
dump "$mounted" | $seen >"$TMP/is"
ok "podman has the tree" diff <($seen "$TMP/want") "$TMP/is"
lab_podman umount "$id" >/dev/null
lab_podman rm -f "$id" >/dev/null
export QUICKLAYER_ROOT=$TMP/store
"$QL" pull -q "oci:$TMP/img:t" >/dev/null
is "$("$QL" diff "oci:$TMP/img:t" "$TMP/src")" "" "quicklayer has the tree"
done_testing
