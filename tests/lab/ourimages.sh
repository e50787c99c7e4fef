#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# ourimages.sh STORAGE NAME...: adds to a docker-registry's storage, for each
# workload (workloads.sh) that is there as NAME:1,
#
#   NAME:1    an index that refers to it: the image itself stays as it is
#   NAME:ql   the same image as zstd:chunked, with a start blob
#
# both with the trace of the workload's command.  What is there already for
# this program's formats is kept; REFRESH=1 makes it again.
. "$(dirname "$0")/lib.sh"
. "$LAB/workloads.sh"
set -e

FORMAT=1 # of what is made here: another is made again

say()
{
	printf 'ourimages: %s\n' "$*" >&2
}

digest()
{
	curl -sfI -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/$1/manifests/$2" |
		tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2 }'
}

image()
{
	local name=$1 ref=$REGISTRY/$1 keyfile=$STORAGE/quicklayer-$1 key
	workload "$name"
	key="$FORMAT $(digest "$name" 1) ${CMD[*]}"
	if [ "$(cat "$keyfile" 2>/dev/null)" = "$key" ] && [ -z "${REFRESH:-}" ]; then
		return 0
	fi
	say "recording and pushing $name"
	"$QL" pull --full --no-agent -q "$ref:1"
	# A server is ended once it has started.
	if [ "$STAYS" = 1 ]; then
		timeout -k 5 10 "$QL" record -q "$ref:1" "${CMD[@]}" || true
	else
		"$QL" record -q "$ref:1" "${CMD[@]}"
	fi
	"$QL" index --push "$ref:1"
	"$QL" push -q "$ref:1" "$ref:ql"
	echo "$key" >"$keyfile"
}

STORAGE=$1
shift
[ -d "$STORAGE" ] || bail "usage: ourimages.sh STORAGE NAME..."
export QUICKLAYER_ROOT=$TMP/store
REGISTRY_DIR_KEEP=$STORAGE start_registry ours
for name; do
	image "$name" >&2
done
