#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Random images (lab/mktree.py) look through our mount exactly as independent
# implementations unpack them: umoci (one folder, layer upon layer) and podman
# (overlayfs over one folder a layer).  Each gets images of its own, which
# leave out what it is known to do otherwise than the OCI image-spec says.
#
#   QL_SEEDS        how many (6)        QL_SEED_FIRST   from which on (1)
#   QL_KEEP=DIR     keeps the dumps that differ
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
export QUICKLAYER_ROOT=$TMP/store
first=${QL_SEED_FIRST:-1}
last=$((first + ${QL_SEEDS:-6} - 1))

# What umoci makes of it; sets $THEIRS.
unpack_umoci()
{
	umoci unpack --image "$1:t" "$TMP/bundle" >"$TMP/umoci.log" 2>&1 || {
		note "$(tail -3 "$TMP/umoci.log")"
		return 1
	}
	THEIRS=$TMP/bundle/rootfs
	DUMP=()
}

# A whited-out name still counts as a link of a file in a lower layer, and the
# root folder is podman's own.
unpack_podman()
{
	ID=$(cd "$TMP" && lab_podman pull -q "oci:${1##*/}:t") || return 1
	THEIRS=$(lab_podman image mount "$ID") || return 1
	DUMP=(--no-root --no-nlink)
}

clean_umoci()
{
	rm -rf "$TMP/bundle"
}

clean_podman()
{
	lab_podman image umount "$ID" >/dev/null
	lab_podman rmi -f "$ID" >/dev/null
}

dump()
{
	python3 "$LAB/dumptree.py" "$1" --ignore "$IMG/ignore.json" \
		${DUMP[@]+"${DUMP[@]}"}
}

compare()
{
	local name=$1
	"$QL" mount "oci:$IMG:t" "$TMP/mnt" || return 1
	dump "$TMP/mnt" >"$TMP/ours" || return 1
	dump "$THEIRS" >"$TMP/theirs" || return 1
	"$QL" umount "$TMP/mnt" || return 1
	diff -u --label "$ENGINE" --label quicklayer "$TMP/theirs" \
		"$TMP/ours" >"$TMP/diff" && return 0
	note "$(head -c 4000 "$TMP/diff")"
	note "$(grep -c '^[-+][^-+]' "$TMP/diff") lines differ"
	[ -z "${QL_KEEP:-}" ] || {
		mkdir -p "$QL_KEEP"
		cp "$TMP/ours" "$QL_KEEP/$name.ours"
		cp "$TMP/theirs" "$QL_KEEP/$name.theirs"
	}
	return 1
}

# one SEED ENGINE
one()
{
	local name=$ENGINE-$1
	IMG=$TMP/$name
	python3 "$LAB/mktree.py" "$1" "$IMG" --for "$ENGINE" || return 1
	"unpack_$ENGINE" "$IMG" || return 1
	"$QL" pull "oci:$IMG:t" >"$TMP/pull.log" 2>&1 || {
		note "$(cat "$TMP/pull.log")"
		return 1
	}
	compare "$name" || return 1
	ENTRIES=$(wc -l <"$TMP/ours")
}

mkdir -p "$TMP/mnt"
for ((seed = first; seed <= last; seed++)); do
	for ENGINE in umoci podman; do
		if one "$seed"; then
			pass "seed $seed: $ENTRIES entries as $ENGINE has them"
		else
			fail "seed $seed: as $ENGINE has it"
			lab_umount_below "$TMP/mnt"
			"$QL" umount "$TMP/mnt" 2>/dev/null
		fi
		"clean_$ENGINE" "$seed"
		rm -rf "$IMG"
	done
done
ok "the store of all these images has no fault" "$QL" fsck
done_testing
