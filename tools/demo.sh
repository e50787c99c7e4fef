#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Shows the whole path once, with real things: an image in a registry, pulled
# into a store of its own, mounted, looked at, and run as a container.  Without
# an argument it makes the image from Debian packages and starts a registry on
# a loopback port; with one it takes IMAGE from wherever that is.  Nothing
# keeps running, and nothing is left but the cache of the image that it made.
. "$(dirname "$0")/../tests/lab/lib.sh"
set -e

IMAGE=${1:-}
MNT=$TMP/mnt
export QUICKLAYER_ROOT=$TMP/store
TIMES=()

head_line()
{
	printf '\n== %s\n' "$*"
}

# As it would be typed: quoted where that is needed.
typed()
{
	local word
	printf '\n$'
	for word in "${@/#"$QL"/quicklayer}"; do
		if [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]]; then
			printf ' %s' "$word"
		else
			printf " '%s'" "${word//\'/\'\\\'\'}"
		fi
	done
	printf '\n'
}

# step NAME COMMAND...: shows the command, runs it, keeps its time.
step()
{
	local name=$1 start end status=0
	shift
	typed "$@"
	start=${EPOCHREALTIME/[.,]/}
	"$@" || status=$?
	end=${EPOCHREALTIME/[.,]/}
	TIMES+=("$(printf '%-28s %8d ms' "$name" $(((end - start) / 1000)))")
	if [ "$status" != 0 ]; then
		echo "demo: $name failed (status $status)" >&2
		exit 1
	fi
}

make_demo_image()
{
	local oci
	head_line "An image of three layers, made from Debian packages"
	oci=$("$LAB/mkimage.sh" demo | tail -1)
	head_line "A registry (docker-registry) that holds it"
	start_registry registry
	IMAGE=$REGISTRY/demo/python:latest
	push_image "$oci" demo/python:latest
	echo "$IMAGE"
}

# The first of these that is in the image.
find_in_image()
{
	local path
	for path; do
		if [ -e "$MNT$path" ] || [ -L "$MNT$path" ]; then
			echo "$path"
			return
		fi
	done
}

show()
{
	local file python
	head_line "Pull it: layers in parallel, each file stored once by its sha256"
	step "pull" "$QL" pull "$IMAGE"
	step "pull again (all is here)" "$QL" pull "$IMAGE"

	head_line "Look into it, without a mount"
	step "ls by the command" "$QL" ls "$IMAGE" /
	step "cat by the command" "$QL" cat "$IMAGE" /etc/passwd

	head_line "Mount its merged root (FUSE)"
	step "mount" "$QL" mount "$IMAGE" "$MNT"
	step "ls of the mount" ls -la "$MNT"
	file=$(find_in_image /etc/motd /etc/os-release /etc/passwd)
	[ -z "$file" ] || step "cat from the mount" cat "$MNT$file"
	# shellcheck disable=SC2016
	step "find over all of it" sh -c 'find "$1" -xdev | wc -l' find "$MNT"

	head_line "Run a container on it (crun)"
	python=$(find_in_image /usr/bin/python3 /usr/local/bin/python3)
	if [ -n "$python" ]; then
		step "run python3" "$QL" run "$IMAGE" python3 -c \
			'import platform; print("python", platform.python_version(), "says: hello")'
	elif [ -n "$(find_in_image /bin/sh /usr/bin/sh)" ]; then
		step "run sh" "$QL" run "$IMAGE" /bin/sh -c \
			'echo "a shell says: hello"'
	else
		step "run the image's command" "$QL" run "$IMAGE"
	fi
	step "umount" "$QL" umount "$MNT"
}

report()
{
	local size
	size=$(du -s --block-size=1K "$QUICKLAYER_ROOT" | cut -f1)
	head_line "How long each step took"
	printf '%s\n' "${TIMES[@]}"
	head_line "What is on disk"
	step "images" "$QL" images
	printf 'the whole store: %d KiB\n' "$size"
	head_line "By hand"
	cat <<-TEXT
		With a registry of your own (any image will do), as root:

		    build/quicklayer pull IMAGE
		    mkdir -p /mnt/image
		    build/quicklayer mount IMAGE /mnt/image
		    ls /mnt/image
		    build/quicklayer run IMAGE python3 -c 'print(1)'
		    build/quicklayer umount /mnt/image
		    build/quicklayer rmi IMAGE

		or, the same as here: make demo IMAGE=docker.io/library/python:3.12-slim
	TEXT
}

[ -x "$QL" ] || {
	echo "demo: $QL is not built (make)" >&2
	exit 1
}
mkdir -p "$MNT"
[ -n "$IMAGE" ] || make_demo_image
show
report
