#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a comparison with stargz-snapshotter needs, and a registry that Debian
# has not, made once and kept in $QL_CACHE (~/.cache/quicklayer) under peers/.
#
#   peers.sh program            builds the snapshotter from its Go module
#                               (stargz/); prints the program's path
#   peers.sh registry           the same of a registry with the referrers API
#                               (referrers/)
#   peers.sh images NAME...     a docker-registry's storage with, for each
#                               workload (workloads.sh), NAME:1, the image as
#                               mkimage.sh makes it, and NAME:stargz, optimized
#                               for the workload's command by ctr-remote;
#                               prints the folder
#
# Needs root, Go as new as the folders' go.mod say with a module proxy that it
# reaches, and Debian's stargz-snapshotter package (ctr-remote alone).
. "$(dirname "$0")/lib.sh"
. "$LAB/engines.sh"
. "$LAB/workloads.sh"
set -e

CACHE=${QL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quicklayer}/peers

say()
{
	printf 'peers: %s\n' "$*" >&2
}

# go_program FOLDER MODULE NAME: builds what is in a folder here, whose version
# is that of the module it is made of and a checksum of what is around it;
# prints the program's path.
go_program()
{
	local from=$LAB/$1 module=$2 name=$3 dir
	dir=$CACHE/$(awk -v m="$module" '$2 == m { print $3; exit }
		$1 == m { print $2; exit }' "$from/go.mod")-$(cat \
		"$from"/{main.go,go.mod,go.sum} | sha256sum | cut -c1-8)
	if [ ! -x "$dir/$name" ]; then
		command -v go >/dev/null || bail "no Go compiler is installed"
		say "building $name ${dir##*/}"
		mkdir -p "$dir"
		(cd "$from" && go build -buildvcs=false \
			-o "$dir/$name.part" .) >&2 || bail "$name was not built"
		mv "$dir/$name.part" "$dir/$name"
	fi
	echo "$dir/$name"
}

program()
{
	go_program stargz github.com/containerd/stargz-snapshotter stargz-grpc
}

registry()
{
	go_program referrers github.com/google/go-containerregistry referrers
}

remote()
{
	ctr-remote -a "$TMP/containerd/sock" "$@"
}

# optimize REF REF COMMAND...: runs the command in the first image for ten
# seconds, and makes the second, with what it read at its front.
# shellcheck disable=SC2016
optimize()
{
	local from=$1 to=$2
	shift 2
	remote images pull --plain-http "$from" &&
		remote images optimize --oci --period 10 --net-host \
			--args "$(jq -nc '$ARGS.positional' --args -- "$@")" \
			"$from" "$to" &&
		remote images push --plain-http "$to"
}

# image NAME: pushes both forms of a workload's image, if they are not there.
image()
{
	local name=$1 oci key keyfile=$CACHE/images/$1
	workload "$name"
	oci=$("$LAB/mkimage.sh" "$IMAGE" | tail -1)
	key="$(cat "$CACHE/../$IMAGE/digest") $(dpkg-query -W -f '${Version}' \
		stargz-snapshotter) ${CMD[*]}"
	[ "$(cat "$keyfile" 2>/dev/null)" != "$key" ] || return 0
	[ -n "$CONTAINERD_PID" ] || {
		containerd_wipe
		REGISTRY_DIR_KEEP=$CACHE/registry start_registry peers
	}
	say "pushing and optimizing $name"
	push_image "$oci" "$name:1"
	optimize "$REGISTRY/$name:1" "$REGISTRY/$name:stargz" "${CMD[@]}" \
		>"$TMP/optimize.log" 2>&1 ||
		bail "$name was not optimized: $(tail -3 "$TMP/optimize.log")"
	mkdir -p "$CACHE/images"
	echo "$key" >"$keyfile"
}

images()
{
	local name
	command -v ctr-remote >/dev/null ||
		bail "no ctr-remote (Debian's stargz-snapshotter)"
	for name; do
		image "$name"
	done
	containerd_end
	echo "$CACHE/registry"
}

[ "$(id -u)" = 0 ] || bail "needs root"
mkdir -p "$CACHE"
exec 7>"$CACHE/lock"
flock 7
case ${1:-} in
program | registry | images) "$@" ;;
*)
	say "usage: peers.sh program | registry | images NAME..."
	exit 2
	;;
esac
