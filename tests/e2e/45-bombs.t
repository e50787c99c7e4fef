#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Layers of a few kilobytes that ask for a petabyte, a gigabyte of memory, or
# for ever: each is refused soon, by name, with bounded memory, and the store
# is as it was.
# shellcheck disable=SC2016
. "$(dirname "$0")/../lab/lib.sh"

export QUICKLAYER_ROOT=$TMP/store REGISTRY_AUTH_FILE=$TMP/none

# bomb NAME: an image of one such layer, $BOMB.
bomb()
{
	python3 "$LAB/mkbomb.py" "$1" >"$TMP/$1.tar" || bail "mkbomb.py $1"
	make_image "$TMP/oci" "$1" "$TMP/$1.tar:zstd" >/dev/null ||
		bail "make_image $1"
	rm -f "$TMP/$1.tar"
	BOMB=oci:$TMP/oci:$1
}

# refused NAME MESSAGE: within 30 s and 1 GiB.
refused()
{
	bomb "$1"
	fails "$1" 1 timeout 30 bash -c \
		'ulimit -d 1048576; exec "$0" pull "$1"' "$QL" "$BOMB"
	like "$OUT" "$2" "$1: says why"
	is "$(find "$QUICKLAYER_ROOT"/{objects,layers,images,partial} -type f |
		wc -l)" 0 "$1: leaves nothing"
}

refused size "1125[0-9]{12} bytes are needed"
refused sparse "1125[0-9]{12} bytes are needed"
refused xattrs "more than 320 MiB of metadata"
refused links "more than 320 MiB of metadata"
refused entries "more than 1048576 entries"

bomb backwards
ok "200,000 names in the worst order are no bomb" \
	timeout 30 "$QL" pull "$BOMB"
is "$("$QL" ls "$BOMB" | wc -l)" 200000 "and all are there"
ok "nothing in the store is wrong" "$QL" fsck
done_testing
