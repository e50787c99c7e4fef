#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What fills an image is killed at any moment: no wrong byte is ever read, what
# the catalogue claims of files that came in part is there, and the next server
# goes on from it.  Even rounds kill the agent, odd ones a mount's own server.
#
#   QL_KILLS   rounds (10)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
rounds=${QL_KILLS:-10}

mkdir -p "$TMP/m"
lazy_image 60
QUICKLAYER_ROOT=$TMP/whole "$QL" pull -q --full "$IMAGE" >/dev/null || bail pull

# Starts the server of this round; sets SERVER (its pid) and D (the image).
serve()
{
	if [ $((round % 2)) = 0 ]; then
		printf 'root: %s\nbackground_rate: %s\n' "$TMP/store" \
			"$((round % 4 ? 0 : 1))MB" >"$TMP/agent.yaml"
		: >"$TMP/agent.log"
		lab_start agent "$B/quicklayerd" --config "$TMP/agent.yaml"
		D=$TMP/store/agent/mnt/images/$IMAGE
		lab_ready agent
	else
		lab_start server "$QL" mount --no-agent --foreground "$IMAGE" \
			"$TMP/m"
		D=$TMP/m
		wait_for 10 test -e "$TMP/m/large1"
	fi
	SERVER=$LAB_PID
}
# Reads files at random, here and there, and says what is wrong.
reader()
{
	python3 - "$D" "$TMP/files" "$1" <<-'PY'
		import os, random, sys
		here, true, seed = sys.argv[1:]
		r = random.Random(int(seed))
		names = sorted(os.listdir(true))
		while True:
		    name = r.choice(names)
		    n = r.choice([1, 4096, 100000, 4000000])
		    with open(true + "/" + name, "rb") as f:
		        at = r.randrange(os.fstat(f.fileno()).st_size)
		        f.seek(at)
		        want = f.read(n)
		    try:
		        with open(here + "/" + name, "rb", buffering=0) as f:
		            f.seek(at)
		            have = b""
		            while len(have) < len(want):
		                piece = f.read(len(want) - len(have))
		                if not piece:
		                    break
		                have += piece
		    except OSError:
		        break  # the server is gone
		    if have != want:
		        print("%s is wrong at %d" % (name, at))
		        break
	PY
}

parts=0
for ((round = 1; round <= rounds; round++)); do
	rm -rf "$TMP/store"
	"$QL" pull --no-agent -q "$IMAGE" >/dev/null || bail "pull"
	trouble=
	moments=()
	for ((i = 0; i < 1 + (round % 3 == 0); i++)); do
		serve || bail "serve: $(cat "$TMP"/{agent,server}.log 2>/dev/null)"
		readers=()
		seeds=(1 2 3)
		ms=$((RANDOM % 2500 + 20))
		# Once, so that a file has certainly come in part.
		if [ "$round" = 1 ]; then
			seeds=()
			ms=1500
			cmp -n 4096 "$D/large1" "$TMP/files/large1" ||
				trouble+="large1; "
		fi
		for seed in ${seeds[@]+"${seeds[@]}"}; do
			reader $((round * 100 + i * 10 + seed)) \
				>"$TMP/reader.$seed" 2>&1 &
			LAB_PIDS+=($!)
			readers[seed]=$!
		done
		moments+=("$ms")
		sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
		{
			kill -9 "$SERVER"
			wait "$SERVER" ${readers[@]+"${readers[@]}"}
		} 2>/dev/null
		for pid in "$SERVER" ${readers[@]+"${readers[@]}"}; do
			lab_forget "$pid"
		done
		umount -l "$TMP/m" 2>/dev/null
		lab_umount_below "$TMP/store"
		trouble+=$(cat "$TMP"/reader.* 2>/dev/null)
		"$B/tests/lab/partials" "$TMP/store" "$TMP/whole" \
			>"$TMP/parts" 2>&1 || trouble+="$(cat "$TMP/parts"); "
		grep -q '^0 bytes' "$TMP/parts" || parts=$((parts + 1))
		"$QL" fsck >"$TMP/fsck" 2>&1 ||
			trouble+="fsck: $(cat "$TMP/fsck"); "
	done
	serve || bail "serve again"
	diff -r "$D/" "$TMP/files" >"$TMP/diff" 2>&1 ||
		trouble+="$(head -3 "$TMP/diff")"
	lab_end "$SERVER"
	lab_umount_below "$TMP/store"
	"$QL" fsck >"$TMP/fsck" 2>&1 || trouble+="fsck: $(cat "$TMP/fsck"); "
	is "$trouble" "" "round $round: killed after ${moments[*]} ms"
done
[ "$parts" -gt 0 ] && pass "$parts kills left files in part" ||
	fail "no kill left a file in part"
done_testing
