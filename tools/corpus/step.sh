#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs a command as one step of an image: in a chroot over an overlay whose
# upper folder is then the layer.
#
#   step.sh DIR LOWER COMMAND [ENV...]
#
# DIR gets diff (the changes), work and root; LOWER is overlay's lowerdir, from
# the top down, relative to where this is called.  The command has a process
# namespace of its own, so that nothing it started outlives it, and nothing in
# its environment but ENV.  STEP_BINDS has "SOURCE TARGET [OPTIONS]" lines of
# what else is mounted, STEP_USER whom it runs as.  Needs root.
set -euo pipefail

if [ "${1:-}" != --inside ]; then
	# In a chroot that is no mount point a namespace cannot be made private;
	# so what was mounted is unmounted as well.
	how=private
	unshare -m true 2>/dev/null || how=unchanged
	exec setpriv --pdeathsig KILL unshare -m -p -f --kill-child \
		--propagation "$how" "$0" --inside "$@"
fi
shift
dir=$1 lower=$2 command=$3
shift 3
root=$dir/root
mkdir -p "$dir/diff" "$dir/work" "$root"
trap 'umount -R "$root" 2>/dev/null || umount -R -l "$root"' EXIT
mount -t overlay -o metacopy=off,redirect_dir=off,index=off \
	-o "lowerdir=$lower,upperdir=$dir/diff,workdir=$dir/work" \
	overlay "$root"

# A device is a node or a link; what is made of them stays out of the layer.
devices_make()
{
	local name
	mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
	for name in null:3 zero:5 full:7 random:8 urandom:9; do
		mknod -m 666 "$root/dev/${name%:*}" c 1 "${name#*:}"
	done
	mknod -m 666 "$root/dev/tty" c 5 0
	mkdir "$root/dev/shm" "$root/dev/pts"
	ln -s /proc/self/fd "$root/dev/fd"
	ln -s fd/0 "$root/dev/stdin"
	ln -s fd/1 "$root/dev/stdout"
	ln -s fd/2 "$root/dev/stderr"
}

if [ -d "$root/proc" ]; then
	mount -t proc proc "$root/proc"
fi
if [ -d "$root/dev" ]; then
	devices_make
fi
while read -r source target options; do
	[ -n "$source" ] || continue
	if [ ! -e "$root$target" ]; then
		# A file like resolv.conf is nothing to a root without it.
		[ ! -d "$source" ] && continue
		echo "there is no folder $target to mount at" >&2
		exit 1
	fi
	mount --bind "$source" "$root$target"
	[ -z "$options" ] || mount -o "remount,bind,$options" "$root$target"
done <<<"${STEP_BINDS:-}"

status=0
env -i "$@" chroot ${STEP_USER:+--userspec="$STEP_USER"} "$root" \
	/bin/sh -c "$command" </dev/null || status=$?
exit "$status"
