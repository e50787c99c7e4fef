#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Several images, and a budget that has no room for all: what is asked for comes
# again, what is pinned, mounted or being pulled loses nothing, and what nothing
# is left of is gone by name.  The store is sound after each step.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (device nodes, owners, mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET

# IMAGES of two layers with some megabytes each, the lower one the same.
REGISTRY_ACCESS=1 start_registry
IMAGES=(a b c d e)
for ((i = 0; i < ${#IMAGES[@]}; i++)); do
	image=${IMAGES[i]}
	python3 - "$TMP/$image" "$i" <<-'PY' || bail "image"
		import os, random, sys
		path, seed = sys.argv[1], int(sys.argv[2])
		for layer, name, seed in ((0, "base", 99), (1, "app", seed)):
		    r = random.Random(seed)
		    d = "%s.tree%d/%s" % (path, layer, name)
		    os.makedirs(d)
		    for n in range(40):
		        with open("%s/f%d" % (d, n), "wb") as f:
		            f.write(r.randbytes(r.choice([100, 5000, 300000])))
	PY
	for layer in 0 1; do
		tar -C "$TMP/$image.tree$layer" --sort=name --mtime=@0 \
			--owner=0 --group=0 -cf "$TMP/$image.$layer.tar" . ||
			bail "tar"
	done
	python3 - "$TMP/$image" <<-'PY' || bail "layout"
		import gzip, hashlib, json, os, sys
		path = sys.argv[1]
		os.makedirs(path + "/blobs/sha256")
		def put(data):
		    d = hashlib.sha256(data).hexdigest()
		    with open(path + "/blobs/sha256/" + d, "wb") as f:
		        f.write(data)
		    return {"digest": "sha256:" + d, "size": len(data)}
		layers, ids = [], []
		for n in (0, 1):
		    tar = open("%s.%d.tar" % (path, n), "rb").read()
		    ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
		    t = "application/vnd.oci.image.layer.v1.tar+gzip"
		    layers.append({"mediaType": t, **put(gzip.compress(tar, 1, mtime=0))})
		config = put(json.dumps({"architecture": "amd64", "os": "linux",
		    "rootfs": {"type": "layers", "diff_ids": ids}}).encode())
		m = put(json.dumps({"schemaVersion": 2,
		    "mediaType": "application/vnd.oci.image.manifest.v1+json",
		    "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
		               **config}, "layers": layers}).encode())
		json.dump({"imageLayoutVersion": "1.0.0"}, open(path + "/oci-layout", "w"))
		json.dump({"schemaVersion": 2, "manifests": [{
		    "mediaType": "application/vnd.oci.image.manifest.v1+json", **m,
		    "annotations": {"org.opencontainers.image.ref.name": "t"}}]},
		    open(path + "/index.json", "w"))
	PY
	push_image "oci:$TMP/$image:t" "$image:t" || bail "push"
	mkdir "$TMP/$image.want"
	cp -r "$TMP/$image.tree0/." "$TMP/$image.tree1/." "$TMP/$image.want/"
done

# same IMAGE: a mount of it shows what it should.
same()
{
	local status
	mkdir -p "$TMP/m"
	"$QL" mount --no-agent "$REGISTRY/$1:t" "$TMP/m" || return 1
	diff -r "$TMP/m" "$TMP/$1.want"
	status=$?
	"$QL" umount "$TMP/m" && return "$status"
}

# All of it is here: nothing would have to come.
here()
{
	"$QL" status --json "$REGISTRY/$1:t" |
		jq -e '.files > 0 and .files == .files_here + .files_packed' \
			>/dev/null
}

# How often the layer was asked for that all have.
base_fetched()
{
	grep -c "\"GET [^ ]*/blobs/$BASE " "$TMP/registry.log"
}

used()
{
	du -s -B1 "$TMP/store" | cut -f1
}

BASE=$(curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
	"http://$REGISTRY/v2/a/manifests/t" | jq -r '.layers[0].digest')

# ---- how much an image takes ----

QUICKLAYER_ROOT=$TMP/one "$QL" pull -q --full "$REGISTRY/a:t" >/dev/null ||
	bail "pull"
ONE=$(du -s -B1 "$TMP/one/objects" | cut -f1)
BUDGET=$((ONE * 3 / 2 + (7 << 20)))
note "an image takes $ONE bytes, the budget is $BUDGET"
ok "a budget is set" "$QL" gc --no-agent --budget "$BUDGET"

# ---- one after the other ----

for round in 1 2; do
	for image in "${IMAGES[@]}"; do
		ok "$round: $image is pulled" \
			"$QL" pull -q --full "$REGISTRY/$image:t"
		ok "$round: all of $image can be read" same "$image"
		[ "$(used)" -le "$BUDGET" ] && pass "the budget holds" ||
			fail "the store takes $(used) of $BUDGET bytes"
		ok "the store is sound" "$QL" fsck
	done
done

# Once for the measure, once here: it outlives all that stands on it.
is "$(base_fetched)" 2 "the layer that all stand on was fetched once"
evictions=$("$QL" status --json | python3 -c \
	'import json, sys; print(json.load(sys.stdin)["cache"]["evictions"])')
[ "${evictions:-0}" -ge 4 ] && pass "layers went for it" ||
	fail "$evictions layers went"

# ---- what is held ----

ok "a is pulled" "$QL" pull -q --full "$REGISTRY/a:t"
ok "a is pinned" "$QL" pin "$REGISTRY/a:t"
ok "b is pulled" "$QL" pull -q --full "$REGISTRY/b:t"
mkdir -p "$TMP/b.mnt"
ok "b is mounted" "$QL" mount --no-agent "$REGISTRY/b:t" "$TMP/b.mnt"
ok "a is all here" here a
for how in "a pin" "a promise"; do
	for image in c d e; do
		# There may be no room for it; but those two lose nothing.
		"$QL" pull -q --full "$REGISTRY/$image:t" >"$TMP/log" 2>&1 ||
			like "$(cat "$TMP/log")" "no space left" \
				"why $image does not come"
		ok "a, which $how holds, is all here" here a
		ok "b, which a mount holds, is all here" here b
		ok "b is still whole" diff -r "$TMP/b.mnt" "$TMP/b.want"
		ok "the store is sound" "$QL" fsck
	done
	ok "a is still whole" same a
	ok "a is held no more" "$QL" unpin "$REGISTRY/a:t"
	# Nobody takes room between the two.
	[ "$how" = "a promise" ] ||
		ok "a is promised" "$QL" pin --for 1h "$REGISTRY/a:t"
done
"$QL" umount "$TMP/b.mnt"

# ---- several at once ----

for round in 1 2 3; do
	pids=()
	for image in a c e; do
		"$QL" pull -q --full "$REGISTRY/$image:t" \
			>"$TMP/$image.log" 2>&1 &
		pids+=($!)
		LAB_PIDS+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
		lab_forget "$pid"
	done
	for image in a c e; do
		# What it did not bring is named, or can be read.
		if [ -s "$TMP/$image.log" ] &&
			grep -q "no space left" "$TMP/$image.log"; then
			pass "$round: $image found no room beside the others"
		else
			ok "$round: all of $image can be read" same "$image"
		fi
	done
	ok "$round: the store is sound" "$QL" fsck
	[ "$(used)" -le "$BUDGET" ] && pass "$round: the budget holds" ||
		fail "the store takes $(used) of $BUDGET bytes"
done

# ---- what nothing is left of ----

fails "all that may goes" 1 "$QL" gc --no-agent --free "$BUDGET"
is "$("$QL" images -q 2>/dev/null | wc -l)" 0 "no image is left"
ok "the store is sound" "$QL" fsck
is "$(find "$TMP/store"/{objects,images,layers,packed} -type f | wc -l)" 0 \
	"and no file"
ok "a comes again" "$QL" pull -q --full "$REGISTRY/a:t"
ok "all of a can be read" same a
done_testing
