#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The registry is away: what is here goes on being read, what is not fails
# after a set time, nobody hangs who is killed, and when it is back all goes on
# by itself.  So it is where credentials have expired.
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export REGISTRY_AUTH_FILE=$TMP/auth.json QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
mkdir -p "$TMP/files" "$TMP/conf" "$TMP/m"
# bcrypt, which docker-registry wants, by libxcrypt.
perl -e 'print "me:", crypt("secret", q($2b$05$labsaltlabsaltlabsalte)), "\n"' \
	>"$TMP/htpasswd"
echo '{"connect_seconds": 2, "stall_seconds": 2, "retries": 1}' \
	>"$TMP/conf/registries.json"
credentials()
{
	printf '{"auths": {"%s": {"auth": "%s"}}}' "$REGISTRY" \
		"$(printf %s "$1" | base64)" >"$TMP/auth.json.new"
	mv "$TMP/auth.json.new" "$TMP/auth.json"
}

for i in {1..30}; do
	head -c 300000 /dev/urandom >"$TMP/files/f$i"
done
tar -C "$TMP/files" -cf "$TMP/files.tar" . &&
	make_image "$TMP/oci" t "$TMP/files.tar" >/dev/null || bail image
start_registry registry \
	"auth: {htpasswd: {realm: lab, path: \"$TMP/htpasswd\"}}"
credentials me:secret
IMAGE=$REGISTRY/lab:t
"$QL" push -q "oci:$TMP/oci:t" "$IMAGE" >/dev/null || bail push

# The same registry again, at its port.
registry_down()
{
	lab_end "$REGISTRY_PID"
}
registry_up()
{
	lab_start registry env -u REGISTRY_AUTH_FILE docker-registry serve \
		"$TMP/registry.yml"
	REGISTRY_PID=$LAB_PID
	wait_for 10 curl -s "http://$REGISTRY/v2/" || bail "registry"
}
start_agent()
{
	cat >"$TMP/agent.yaml" <<-YAML
		root: $TMP/store
		registries: $TMP/conf
		background_rate: 0
		read_timeout: 2s
	YAML
	# What was freed has other bytes: who uses it yet, is seen.
	lab_start agent env MALLOC_PERTURB_=90 "$B/quicklayerd" \
		--config "$TMP/agent.yaml"
	AGENT=$LAB_PID
	lab_ready agent || bail agent
}
now_ms()
{
	echo $(($(date +%s%N) / 1000000))
}
same()
{
	timeout 30 cmp "$D/$1" "$TMP/files/$1"
}
# reads_eio FILE: it fails by EIO, after the timeout and not much later.
reads_eio()
{
	local start took out
	start=$(now_ms)
	out=$(timeout 30 cat "$D/$1" 2>&1 >/dev/null)
	took=$(($(now_ms) - start))
	[[ $out == *"Input/output error"* ]] && [ "$took" -lt 6000 ] ||
		{
			echo "after $took ms: $out"
			return 1
		}
}

# ---- the registry is away ----

start_agent
D=$TMP/store/agent/mnt/images/$IMAGE
ok "a pull" "$QL" pull -q "$IMAGE"
ok "a file" same f1
ok "... and a part of another" cmp -n 4096 "$D/f2" "$TMP/files/f2"
sleep 1.5 # until it is durable
registry_down
ok "without the registry: what is here is read" same f1
ok "... by others too, as long as one waits" bash -c "
	timeout 20 cat '$D/f3' >/dev/null 2>&1 & pid=\$!
	for i in 1 2 3; do
		timeout 1 cmp '$D/f1' '$TMP/files/f1' || exit 1
		sleep 0.2
	done
	wait \$pid; [ \$? = 1 ]"
ok "what is not fails in time" reads_eio f4
cat "$D/f5" >/dev/null 2>&1 &
reader=$!
sleep 0.5
start=$(now_ms)
kill -9 $reader
wait $reader 2>/dev/null
is $? 137 "who waits can be killed"
took=$(($(now_ms) - start))
[ "$took" -lt 1000 ] && pass "... at once" || fail "... after $took ms"

cat "$D/f5" >/dev/null 2>&1 &
reader=$!
sleep 0.3
kill "$AGENT"
wait "$AGENT"
is $? 0 "an agent ends while somebody waits"
wait $reader
is $? 1 "... who has an error of it"
lab_forget "$AGENT"
lab_umount_below "$TMP/store"
start_agent
ok "a new agent serves without the registry" same f1
ok "... also what was here in part" cmp -n 4096 "$D/f2" "$TMP/files/f2"
ok "... and fails for the rest in time" reads_eio f6
cat "$D/f7" >"$TMP/f7" 2>/dev/null &
reader=$!
sleep 1 # it waits before the registry is back
registry_up
wait $reader
ok "the registry is back: who waited has its bytes" cmp "$TMP/f7" \
	"$TMP/files/f7"
ok "... and so has who failed before" same f4
ok "... and who was killed" same f5

# ---- a mount of its own ----

"$QL" mount --no-agent "$IMAGE" "$TMP/m" || bail mount
D=$TMP/m
ok "... reads what is not here" same f8
sleep 1.5
registry_down
ok "... and what is, without the registry" same f8
cat "$D/f9" >/dev/null 2>&1 &
reader=$!
sleep 0.3
start=$(now_ms)
kill -9 $reader
wait $reader 2>/dev/null
took=$(($(now_ms) - start))
[ "$took" -lt 1000 ] && pass "... its readers can be killed" ||
	fail "... its reader ended after $took ms"
registry_up
ok "... and it goes on by itself" same f9
ok "... and ends" "$QL" umount "$TMP/m"

# ---- credentials ----

lab_end "$AGENT"
lab_umount_below "$TMP/store"
credentials me:expired
start_agent
D=$TMP/store/agent/mnt/images/$IMAGE
ok "with expired credentials, what is here is read" same f1
ok "... and what is not fails in time" reads_eio f10
credentials me:secret
ok "once they are renewed, it is read" same f10
ok "... and all the rest" diff -r "$D/" "$TMP/files"
lab_end "$AGENT"
lab_umount_below "$TMP/store"
ok "nothing in the store is wrong" "$QL" fsck
done_testing
