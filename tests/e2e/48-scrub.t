#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The agent reads its store again in the background: at its rate, from where it
# was before a restart, and what it finds damaged is repaired.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
echo "{}" >"$TMP/auth.json"
mkdir -p "$TMP/files"
for i in {1..60}; do
	head -c 200000 /dev/urandom >"$TMP/files/f$i"
done
tar -C "$TMP/files" -cf "$TMP/files.tar" . &&
	make_image "$TMP/oci" t "$TMP/files.tar:gzip" >/dev/null || bail image
start_registry
push_image "oci:$TMP/oci:t" lab:t || bail push
IMAGE=$REGISTRY/lab:t
"$QL" pull -q --full "$IMAGE" >/dev/null || bail pull

# start_agent RATE INTERVAL
start_agent()
{
	cat >"$TMP/agent.yaml" <<-YAML
		root: $TMP/store
		scrub: {rate: $1, interval: $2}
	YAML
	lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent || bail agent
}
scrub()
{
	"$QL" status --json | jq -r ".scrub.$1"
}
# at_least KEY N
at_least()
{
	[ "$(scrub "$1 >= $2")" = true ]
}
now_ms()
{
	echo $(($(date +%s%N) / 1000000))
}
object_of()
{
	sha256sum "$1" | sed 's,^\(..\)\(.\{62\}\).*,objects/\1/\2,'
}
flip()
{
	chmod 644 "$QUICKLAYER_ROOT/$1" &&
		printf x | dd of="$QUICKLAYER_ROOT/$1" bs=1 seek=77777 \
			conv=notrunc status=none
}
# at_rate RATE: over three seconds, within 15 %.
at_rate()
{
	local bytes start took rate
	bytes=$(scrub bytes)
	start=$(now_ms)
	sleep 3
	bytes=$(($(scrub bytes) - bytes))
	took=$(($(now_ms) - start))
	rate=$((bytes * 1000 / took))
	echo "$rate bytes a second of $1"
	[ $((rate * 100)) -ge $(($1 * 85)) ] &&
		[ $((rate * 100)) -le $(($1 * 115)) ]
}

# ---- at its rate ----

start_agent 2MB/s 1h
wait_for 10 at_least bytes 400000 || bail "no scrub"
is "$(scrub running)" true "a scrub goes on"
is "$(scrub pass)" 1 "... the first"
ok "... at its rate" at_rate 2000000

# ---- and after a restart ----

before=$(scrub position)
lab_forget "$AGENT"
kill "$AGENT" && wait "$AGENT" # which may take as long as the disk does
lab_umount_below "$TMP/store"
start_agent 500kB/s 1h
is "$(scrub "position >= $before and .scrub.position < 1")" true \
	"after a restart it is where it was"
is "$(scrub pass)" 1 "... in the same pass"
sed -i 's/rate: [^,]*/rate: unlimited/' "$TMP/agent.yaml"
kill -HUP "$AGENT"
ok "another rate counts at once: it ends" wait_for 20 at_least ended 1
is "$(scrub position)" 1 "... having seen all"
is "$(scrub bad)" 0 "... and found nothing"
lab_end "$AGENT"
lab_umount_below "$TMP/store"

# ---- what it finds ----

start_agent unlimited 1s
first=$(scrub pass)
ok "a pass each interval" wait_for 20 at_least pass $((first + 2))
flip "$(object_of "$TMP/files/f7")"
rm "$QUICKLAYER_ROOT/$(object_of "$TMP/files/f8")"
ok "a damaged file and a missing one are found and repaired" \
	wait_for 30 at_least repaired 2
is "$(sha256sum <"$QUICKLAYER_ROOT/$(object_of "$TMP/files/f7")")" \
	"$(sha256sum <"$TMP/files/f7")" "... here"
ok "... and to be read" cmp "$TMP/files/f8" \
	"$TMP/store/agent/mnt/images/$IMAGE/f8"
is "$(grep -c msg=repaired "$TMP/agent.log")" 2 "... and logged"
like "$("$QL" fsck)" ": 0 errors" "... and nothing is wrong"
lab_end "$AGENT"
lab_umount_below "$TMP/store"

# ---- off ----

start_agent off 1s
is "$(scrub on)" false "it can be off"
read -r bytes <<<"$(scrub bytes)"
sleep 2
is "$(scrub bytes)" "$bytes" "... and reads nothing then"
done_testing
