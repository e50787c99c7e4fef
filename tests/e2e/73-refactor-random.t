#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Random images (lab/mktree.py) made to share what they have alike: umoci
# unpacks each of them, old and new, to the same tree.  A set is three images
# that have little in common and one that is the first with a file more.
#
#   QL_SEEDS        how many (6)        QL_SEED_FIRST   from which on (1)
#   QL_KEEP=DIR     keeps the dumps that differ
. "$(dirname "$0")/../lab/lib.sh"
. "$(dirname "$0")/../lab/refactor.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners)"
export QUICKLAYER_ROOT=$TMP/store
first=${QL_SEED_FIRST:-1}
last=$((first + ${QL_SEEDS:-6} - 1))
FORMATS=(zstd:chunked gzip estargz)
MAX=(20 3 1 2)

mkdir "$TMP/more"
echo more >"$TMP/more/one-file-more"
tar -C "$TMP/more" --owner=0 --group=0 -cf "$TMP/more.tar" one-file-more

# images SEED: into $TMP/a … $TMP/d.
images()
{
	local name n=0
	for name in a b c; do
		python3 "$LAB/mktree.py" $(($1 + n)) "$TMP/$name" --for umoci \
			--entries 500 || return 1
		n=$((n + 1000))
	done
	cp -r "$TMP/a" "$TMP/d"
	tars "$TMP/d" t "$TMP/d/layer" &&
		make_image "$TMP/d" t "${TARS[@]}" "$TMP/more.tar" >/dev/null
}

# same NAME: old and new are one tree.
same()
{
	local old=$TMP/old.dump new=$TMP/new.dump
	tree "$TMP/$1" t --ignore "$TMP/$1/ignore.json" >"$old" || return 1
	tree "$TMP/new" "$1-t" --ignore "$TMP/$1/ignore.json" >"$new.all" ||
		return 1
	without_stargz <"$new.all" >"$new"
	ENTRIES=$((ENTRIES + $(wc -l <"$old")))
	diff -u --label old --label new "$old" "$new" >"$TMP/diff" && return 0
	note "$1: $(head -c 4000 "$TMP/diff")"
	[ -z "${QL_KEEP:-}" ] || {
		mkdir -p "$QL_KEEP"
		cp "$old" "$QL_KEEP/$SEED-$1.old"
		cp "$new" "$QL_KEEP/$SEED-$1.new"
	}
	return 1
}

# one SEED
one()
{
	local name format=${FORMATS[$1 % 3]} max=${MAX[$1 % 4]} bad=0
	ENTRIES=0
	images "$1" || return 1
	HOW="$format, $max layers"
	"$QL" refactor -q --format "$format" --max-layers "$max" \
		--to "oci:$TMP/new" "oci:$TMP/a:t" "oci:$TMP/b:t" \
		"oci:$TMP/c:t" "oci:$TMP/d:t" >"$TMP/log" 2>&1 || {
		note "$(cat "$TMP/log")"
		return 1
	}
	for name in a b c d; do
		same "$name" || bad=1
		[ "$(layout_manifest "$TMP/new" "$name-t" |
			jq '.layers | length')" -le "$max" ] || {
			note "$name: too many layers"
			bad=1
		}
	done
	return "$bad"
}

for ((SEED = first; SEED <= last; SEED++)); do
	if one "$SEED"; then
		pass "seed $SEED: 4 images, $ENTRIES entries ($HOW)"
	else
		fail "seed $SEED (${HOW:-})"
	fi
	rm -rf "$TMP"/{a,b,c,d,new,store}
done
done_testing
