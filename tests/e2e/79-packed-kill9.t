#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Packing that is killed at any moment: what is recorded is right and the rest
# comes again into the same place, nothing is left when the image goes, and the
# account is what is on the disk.
#
#   QL_KILLS   rounds (6)
. "$(dirname "$0")/../lab/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "needs root (mounts)"
[ -c /dev/fuse ] || skip_all "needs /dev/fuse"
export QUICKLAYER_ROOT=$TMP/store
unset QUICKLAYER_SOCKET
rounds=${QL_KILLS:-6}
BUDGET=$((100 << 20))
mkdir -p "$TMP/m" "$TMP/want"

python3 - "$TMP/want" <<-'PY' || bail files
	import random, sys
	r = random.Random(799)
	words = [r.randbytes(6).hex() for i in range(3000)]
	for i in range(200):
	    n = r.choice([200, 5000, 60000]) if i % 40 else 3000000
	    with open("%s/f%d" % (sys.argv[1], i), "wb") as f:
	        f.write(" ".join(r.choices(words, k=n // 13)).encode())
	with open(sys.argv[1] + "/noise", "wb") as f:
	    f.write(r.randbytes(3000000))
PY
tar -C "$TMP/want" --owner=0 --group=0 -cf "$TMP/image.tar" . || bail tar
make_image "$TMP/oci" t "$TMP/image.tar:gzip" >/dev/null || bail make_image
start_registry
for format in zstd:chunked estargz; do
	"$QL" push -q --format "$format" "oci:$TMP/oci:t" \
		"$REGISTRY/lab:${format/:/-}" >/dev/null || bail "push"
done

limits()
{
	"$B/tests/lab/limits" "$TMP/store" "$@"
}
# The account, exactly or (more) not less than there is.
account()
{
	local counted used disk
	read -r counted used _ < <(limits)
	disk=$(du -sx -B1 "$TMP/store" | cut -f1)
	[ "$used" = "$disk" ] || echo "counted $used, du says $disk;"
	[ "$counted" -ge $((used - 65536)) ] ||
		echo "it said $counted, and there are $used;"
	[ "$1" = more ] || [ "$counted" -le $((used + 65536)) ] ||
		echo "it said $counted, and there are but $used;"
}
sound()
{
	"$QL" fsck >"$TMP/log" 2>&1 || echo "fsck $1: $(cat "$TMP/log");"
}
packed()
{
	du -sx -B1 "$TMP/store/packed" | cut -f1
}
# Of a store that packed it undisturbed.
declare -A FULL
check() # IMAGE
{
	local n
	account more
	sound "after the kill"
	"$QL" gc --no-agent >"$TMP/log" 2>&1 || echo "gc: $(cat "$TMP/log");"
	# What it had taken counts until the next look.
	limits >/dev/null
	account exactly
	sound "after gc"
	"$QL" pull -q --no-agent --full "$1" >/dev/null 2>"$TMP/log" ||
		echo "pull: $(cat "$TMP/log");"
	n=$(packed)
	[ "$n" -le $((FULL[$1] * 102 / 100 + 65536)) ] ||
		echo "packed takes $n bytes, and would ${FULL[$1]};"
	"$QL" mount --no-agent "$1" "$TMP/m" &&
		diff -r -x '*landmark' -x stargz.index.json "$TMP/m" \
			"$TMP/want" >"$TMP/log" 2>&1 ||
		echo "it reads otherwise: $(head -3 "$TMP/log");"
	"$QL" umount "$TMP/m"
	sound "at the end"
	"$QL" rmi "$1" >/dev/null 2>"$TMP/log" || echo "rmi: $(cat "$TMP/log");"
	n=$(find "$TMP/store"/{objects,packed,layers,images} -type f | wc -l)
	[ "$n" = 0 ] || echo "$n files are left without it;"
	# What came while all was counted may count twice until the next look.
	account more
}

IMAGES=("$REGISTRY/lab:zstd-chunked" "$REGISTRY/lab:estargz")
for image in "${IMAGES[@]}"; do
	rm -rf "$TMP/store"
	limits $BUDGET 0 >/dev/null || bail limits
	"$QL" pull -q --no-agent --full "$image" >/dev/null || bail pull
	FULL[$image]=$(packed)
done
within=400 killed=0
for ((round = 1; round <= rounds; round++)); do
	image=${IMAGES[round % 2]}
	rm -rf "$TMP/store"
	limits $BUDGET 0 >/dev/null || bail limits
	case $((round % 3)) in
	0) "$QL" pull -q --no-agent "$image" >/dev/null || bail pull ;;
	esac
	case $((round % 3)) in
	0) "$QL" prefetch "$image" >/dev/null 2>&1 & ;;
	*) "$QL" pull -q --no-agent --full "$image" >/dev/null 2>&1 & ;;
	esac
	pid=$!
	ms=$((RANDOM % within + 1))
	sleep "$(printf '0.%03d' $ms)"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	if [ $? = 137 ]; then
		killed=$((killed + 1))
	elif [ $within -gt 50 ]; then
		within=$((within * 3 / 4)) # it was faster
	fi
	is "$(check "$image")" "" "$round: after $ms ms"
done
[ $((killed * 3)) -ge "$rounds" ] && pass "$killed of $rounds were killed" ||
	fail "$killed of $rounds were killed"
done_testing
