#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A tree that GNU tar packs, in each of its formats, looks through our mount as
# it was.  This pins what umoci and podman do otherwise and the random images
# therefore leave out: old GNU sparse entries, empty xattrs, a whiteout and the
# same name again in one layer, and a duplicate name.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
export QUICKLAYER_ROOT=$TMP/store
mkdir -p "$TMP/src" "$TMP/mnt"
python3 "$LAB/oddtree.py" "$TMP/src" || bail oddtree
truncate -s 5M "$TMP/src/holes"
for at in 0 300 301 900 1279; do
	printf 'data at %d' "$at" | dd of="$TMP/src/holes" bs=4096 seek="$at" \
		conv=notrunc status=none
done
truncate -s 3M "$TMP/src/all-hole"
touch "$TMP/src/with-empty-xattr"
setfattr -n user.empty "$TMP/src/with-empty-xattr" ||
	note "this file system has no user xattrs"

# dump DIR [FILTER]: the formats differ in what of a time they can say.
dump()
{
	python3 "$LAB/dumptree.py" "$1" | eval "${2:-cat}"
}

# The mount of an image of these tars is like a folder.
# looks WHAT FOLDER FILTER TAR...
looks()
{
	local what=$1 folder=$2 filter=$3
	shift 3
	make_image "$TMP/img" "$what" "$@" >/dev/null || bail make_image
	"$QL" pull "oci:$TMP/img:$what" >"$TMP/log" 2>&1 || {
		fail "$what"
		note "$(cat "$TMP/log")"
		return 1
	}
	"$QL" mount "oci:$TMP/img:$what" "$TMP/mnt" || bail mount
	dump "$folder" "$filter" >"$TMP/want"
	dump "$TMP/mnt" "$filter" >"$TMP/got"
	"$QL" umount "$TMP/mnt" || bail umount
	ok "$what" diff "$TMP/want" "$TMP/got"
}

seconds="sed -E 's/(mtime=-?[0-9]+)[0-9]{9} /\\1 /; s/xattrs=.*( same-as=|\$)/\\1/'"
# Before 1970 a fraction is cut off downwards by one and not by the other.
seconds+=" | sed -E 's/mtime=-[0-9]+ //'"

for version in 0.0 0.1 1.0; do
	tar -C "$TMP/src" --format=pax --sparse --sparse-version=$version \
		--xattrs --xattrs-include='*' -cf "$TMP/pax.tar" .
	looks "pax, sparse $version" "$TMP/src" cat "$TMP/pax.tar"
done
tar -C "$TMP/src" --format=gnu --sparse -cf "$TMP/gnu.tar" .
looks "gnu, sparse" "$TMP/src" "$seconds" "$TMP/gnu.tar"
tar -C "$TMP/src" --format=oldgnu --sparse -cf "$TMP/old.tar" .
looks "oldgnu, sparse" "$TMP/src" "$seconds" "$TMP/old.tar"

# A folder that is whited out and made anew by one layer has nothing of below.
mkdir -p "$TMP/a/dir/deep" "$TMP/b/dir" "$TMP/want-dir"
echo below >"$TMP/a/dir/below"
echo below >"$TMP/a/dir/deep/below"
echo above >"$TMP/b/dir/above"
: >"$TMP/b/.wh.dir"
for order in "dir .wh.dir" ".wh.dir dir"; do
	tar -C "$TMP/a" -cf "$TMP/a.tar" .
	# shellcheck disable=SC2086
	tar -C "$TMP/b" -cf "$TMP/b.tar" $order
	rm -rf "$TMP/want-dir"
	mkdir "$TMP/want-dir"
	cp -a "$TMP/b/dir" "$TMP/want-dir/"
	touch -r "$TMP/a" "$TMP/want-dir"
	looks "whiteout and anew: $order" "$TMP/want-dir" "$seconds" \
		"$TMP/a.tar" "$TMP/b.tar"
done

# The later of two entries of one name stands.
mkdir "$TMP/c"
echo first >"$TMP/c/name"
tar -C "$TMP/c" -cf "$TMP/c.tar" ./name
echo second >"$TMP/c/name"
tar -C "$TMP/c" -rf "$TMP/c.tar" . ./name
looks "the same name twice" "$TMP/c" "$seconds" "$TMP/c.tar"
done_testing
