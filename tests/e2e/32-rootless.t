#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Somebody who is not root pulls into a store of his own and mounts through
# fusermount3; and root of a user namespace mounts by itself.  On machines where
# only root may open /dev/fuse the story brings a node of its own, which is
# seen in its mount namespace alone.
# Scripts for bash -c are expanded there.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root, to become somebody else"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
command -v fusermount3 >/dev/null || skip_all "needs fusermount3"
ID=$(id -u nobody) # fusermount3 wants a name for it
chmod 711 "$TMP"
mkdir "$TMP/home" "$TMP/home/mnt" "$TMP/src" "$TMP/bin"
install -m 755 "$QL" "$TMP/bin/quicklayer"
export QL=$TMP/bin/quicklayer

head -c 300000 /dev/urandom >"$TMP/src/file"
echo small >"$TMP/src/small"
ln -s file "$TMP/src/link"
tar -C "$TMP/src" -cf "$TMP/layer.tar" . || bail tar
make_image "$TMP/home/oci" t "$TMP/layer.tar" >/dev/null || bail "make_image"
chown -R "$ID:$ID" "$TMP/home"
mknod -m 666 "$TMP/fuse" c 10 229 || skip_all "cannot make device nodes"

# as_user SCRIPT: runs it as somebody, in a mount namespace of its own.
as_user()
{
	unshare --mount --propagation private bash -c '
		mount --bind "$1/fuse" /dev/fuse
		cd "$1/home"
		export HOME=$1/home XDG_DATA_HOME=$1/home/share TMP=$1
		unset QUICKLAYER_ROOT XDG_RUNTIME_DIR
		exec setpriv --reuid "$2" --regid "$2" --clear-groups \
			bash -c "$3"' - "$TMP" "$ID" "$1"
}

ok "pulls into a store of his own" as_user '"$QL" pull oci:oci:t'
ok "which is in XDG_DATA_HOME" test -d "$TMP/home/share/quicklayer/objects"
ok "mounts, reads and unmounts" as_user '
	set -e
	"$QL" mount oci:oci:t mnt
	cmp mnt/file "$TMP/src/file"
	cmp mnt/link "$TMP/src/file"
	[ "$(cat mnt/small)" = small ]
	grep -F " $HOME/mnt " /proc/self/mountinfo
	"$QL" umount mnt
	! grep -F " $HOME/mnt " /proc/self/mountinfo'
ok "the mount allows no setuid files" as_user '
	"$QL" mount oci:oci:t mnt
	grep -F " $HOME/mnt " /proc/self/mountinfo | grep -q nosuid
	status=$?
	fusermount3 -u mnt
	exit $status'
fails "a mount point of somebody else is refused" 1 as_user '
	"$QL" mount oci:oci:t /mnt'
like "$OUT" "/mnt" "and it is named"

chown -R 0:0 "$TMP/home"
if unshare --user --map-root-user --mount true 2>/dev/null; then
	ok "root of a user namespace mounts by itself" \
		unshare --user --map-root-user --mount bash -c '
		set -e
		cd "$1/home"
		export QUICKLAYER_ROOT=$1/home/share/quicklayer
		"$QL" mount oci:oci:t mnt
		cmp mnt/file ../src/file
		"$QL" umount mnt' - "$TMP"
else
	skip "no user namespaces here"
fi

done_testing
