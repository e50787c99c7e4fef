#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Registries that spoil what is read lazily, tables that lie and start blobs
# that are damaged: never a wrong byte, and where there is a way there is a
# right one.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
busybox=$(command -v busybox) || skip_all "needs busybox"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/files/bin" "$TMP/conf" "$TMP/extra"
echo '{"connect_seconds": 2, "stall_seconds": 2, "retries": 2}' \
	>"$TMP/conf/registries.json"

cp "$busybox" "$TMP/files/bin/busybox"
for i in {1..20}; do
	head -c $((i * 3000)) /dev/urandom >"$TMP/files/small$i"
done
for i in 1 2 3; do
	head -c 600000 /dev/urandom >"$TMP/files/large$i"
done
tar -C "$TMP/files" -cf "$TMP/files.tar" . || bail tar
make_image "$TMP/oci" t "$TMP/files.tar:gzip" >/dev/null &&
	make_image --config '{"Labels": {"a": "b"}}' "$TMP/oci" other \
		"$TMP/files.tar:gzip" >/dev/null || bail image
start_registry
push_image "oci:$TMP/oci:t" lab:gzip || bail push
(
	export QUICKLAYER_ROOT=$TMP/whole
	"$QL" pull -q --full "$REGISTRY/lab:gzip" &&
		"$QL" record -q "$REGISTRY/lab:gzip" /bin/busybox cat \
			/small3 /large1 /small9 &&
		"$QL" push -q "$REGISTRY/lab:gzip" "$REGISTRY/lab:start" &&
		for t in t other; do
			"$QL" push -q --format estargz "oci:$TMP/oci:$t" \
				"$REGISTRY/lab:estargz-$t" || exit
		done &&
		push_image "oci:$TMP/oci:other" lab:gzip-other &&
		"$QL" index --json --push "$REGISTRY/lab:gzip" \
			>"$TMP/index-gzip" || exit
	# By a node that knows no version of it, and reads it whole.
	export QUICKLAYER_ROOT=$TMP/other
	"$QL" pull -q --full "$REGISTRY/lab:estargz-other" &&
		"$QL" index --json --push "$REGISTRY/lab:estargz-other" \
			>"$TMP/index-estargz-other"
) >/dev/null 2>"$TMP/err" || bail "push: $(cat "$TMP/err")"
lab_start proxy python3 "$LAB/badproxy.py" "$REGISTRY" lab "$TMP/extra" \
	"$TMP/port" "$TMP/log"
wait_for 10 test -s "$TMP/port" || bail "badproxy: $(cat "$TMP/proxy.log")"
BAD=127.0.0.1:$(cat "$TMP/port")

# An agent with an empty store.
fresh()
{
	if [ -n "${AGENT:-}" ]; then
		lab_end "$AGENT"
		lab_umount_below "$TMP/store"
	fi
	rm -rf "$TMP/store"
	cat >"$TMP/agent.yaml" <<-YAML
		root: $TMP/store
		registries: $TMP/conf
		background_rate: 0
		read_timeout: ${TIMEOUT:-15s}
	YAML
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent || bail agent
}
fill()
{
	"$QL" status --json | jq ".fill.$1"
}
# good WRONG TAG DESCRIPTION: all is read, and right.
good()
{
	D=$TMP/store/agent/mnt/images/$BAD/$1:$2
	rm -f "$TMP/extra/spoil"
	ok "$3: a pull" "$QL" pull -q "$BAD/$1:$2" &&
		touch "$TMP/extra/spoil" &&
		ok "... every byte is right" diff -r \
			-x .no.prefetch.landmark -x stargz.index.json \
			"$D/" "$TMP/files"
}

# ---- the registry ----

TIMEOUT=15s
fresh
good ok start "nothing wrong"
is "$(fill bad_chunks)" 0 "... and nothing is counted as such"
fresh
good whole start "Range is answered with the whole"
fresh
good flip-once start "each range has a wrong bit, once"
[ "$(fill bad_chunks)" -gt 0 ] && pass "... which is counted" ||
	fail "... $(fill bad_chunks) wrong chunks are counted"
fresh
good flip-once estargz-t "the same, of an eStargz"
fresh
good half start "half of each range comes, once"
fresh
good busy start "429 with Retry-After"
fresh
good slow start "a slow one"
fresh
ok "a token that is good for a second: a pull" "$QL" pull -q "$BAD/token:start"
D=$TMP/store/agent/mnt/images/$BAD/token:start
sleep 1.2
ok "... it has expired" cmp "$D/small1" "$TMP/files/small1"
sleep 1.2
ok "... and again" diff -r "$D/" "$TMP/files"

# ---- start blobs ----

fresh
good damaged-head estargz-t "no start blob"
fresh
good damaged-head start "a start blob with a damaged head"
fresh
good damaged-hot start "a start blob with damaged parts"
fresh
good annotation start "an annotation that is none"

# ---- indexes ----

blob=$(jq -r .digest "$TMP/index-estargz-other")
curl -sf "http://$REGISTRY/v2/lab/blobs/$blob" >"$TMP/blob" || bail blob
python3 "$LAB/lie.py" "$TMP/blob" "$(jq .head_size "$TMP/index-estargz-other")" \
	"$TMP/extra" || bail lie.py
fresh
ok "an image with tables of its own" "$QL" pull -q "$BAD/ok:estargz-t"
good lied-known estargz-other "an index that lies, where layers have tables"
[ "$(fill bad_chunks)" -gt 0 ] && pass "... was seen through" ||
	fail "... nobody looked at it"

rm "$TMP/extra"/*
blob=$(jq -r .digest "$TMP/index-gzip")
curl -sf "http://$REGISTRY/v2/lab/blobs/$blob" >"$TMP/blob" || bail blob
python3 "$LAB/lie.py" "$TMP/blob" "$(jq .head_size "$TMP/index-gzip")" \
	"$TMP/extra" || bail lie.py
fresh
good lied gzip-other "an index of another image is not used"
TIMEOUT=1s fresh
ok "an index that lies about places: a pull" "$QL" pull -q "$BAD/lied:gzip"
D=$TMP/store/agent/mnt/images/$BAD/lied:gzip
for f in small1 small20 large2; do
	fails "... $f cannot be read" 2 cmp "$D/$f" "$TMP/files/$f"
	like "$OUT" "Input/output error" "... which is no wrong byte"
done

# ---- traces ----

TIMEOUT=15s fresh
"$QL" pull -q "$BAD/ok:start" >/dev/null || bail pull
printf 'quicklayer-trace 1\n0 0 /small2\n0 0 /gone\n4096 10 /large3\n' \
	>"$TMP/trace"
ok "a trace that names what is not there" \
	"$QL" prefetch --trace "$TMP/trace" "$BAD/ok:start"
ok "nothing in the store is wrong" "$QL" fsck
lab_end "$AGENT"
lab_umount_below "$TMP/store"
done_testing
