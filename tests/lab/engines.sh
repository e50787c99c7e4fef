#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The engines that benches compare with, each with a store of its own that is
# wiped at will; cold starts; and numbers.  Sourced after lib.sh.
#
#	containerd_wipe, containerd_end    lab_ctr ARGUMENT...
#	stargz_wipe, stargz_end            containerd with stargz-snapshotter
#	podman_wipe                        lab_podman ARGUMENT... (lib.sh)
#	cold FILE...    spread    ratio A B    now_ms
#
# LAB_IN=(COMMAND...) is what they run by, as for lab_podman.

CONTAINERD_PID='' STARGZ_PID=''

# ---- containerd ----

lab_ctr()
{
	"${LAB_IN[@]-env}" ctr -a "$TMP/containerd/sock" "$@"
}

containerd_end()
{
	[ -z "$CONTAINERD_PID" ] || lab_end "$CONTAINERD_PID"
	CONTAINERD_PID=
	lab_umount_below "$TMP/containerd"
	rm -rf "$TMP/containerd"
}

# containerd_wipe [TOML]: a containerd with nothing in its store.
containerd_wipe()
{
	containerd_end
	mkdir -p "$TMP/containerd"
	cat >"$TMP/containerd.toml" <<-TOML
		version = 2
		root = "$TMP/containerd/root"
		state = "$TMP/containerd/state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		  address = "$TMP/containerd/sock"
		${1:-}
	TOML
	lab_start containerd "${LAB_IN[@]-env}" \
		containerd -c "$TMP/containerd.toml"
	CONTAINERD_PID=$LAB_PID
	wait_for 10 lab_ctr version ||
		bail "containerd: $(tail -3 "$TMP/containerd.log")"
}

# ---- stargz-snapshotter (peers.sh builds it) ----

stargz_end()
{
	containerd_end
	[ -z "$STARGZ_PID" ] || lab_end "$STARGZ_PID"
	STARGZ_PID=
	lab_umount_below "$TMP/stargz"
	rm -rf "$TMP/stargz"
}

# stargz_wipe PROGRAM REGISTRY: nothing in its store, all settings as they are
# by default; the registry speaks plain HTTP.
stargz_wipe()
{
	stargz_end
	mkdir -p "$TMP/stargz"
	cat >"$TMP/stargz.toml" <<-TOML
		[[resolver.host."$2".mirrors]]
		host = "$2"
		insecure = true
	TOML
	lab_start stargz "${LAB_IN[@]-env}" "$1" --root "$TMP/stargz" \
		--address "$TMP/stargz/sock" --config "$TMP/stargz.toml"
	STARGZ_PID=$LAB_PID
	wait_for 10 test -S "$TMP/stargz/sock" ||
		bail "stargz-snapshotter: $(tail -3 "$TMP/stargz.log")"
	containerd_wipe "
[proxy_plugins.stargz]
  type = \"snapshot\"
  address = \"$TMP/stargz/sock\""
}

# ---- podman ----

podman_wipe()
{
	lab_umount_below "$TMP/podman"
	rm -rf "$TMP/podman"
}

# ---- measuring ----

now_ms()
{
	local t=${EPOCHREALTIME/[.,]/}
	echo $((t / 1000))
}

# Drops what the kernel has cached, and reads the registry's blobs, the engines'
# programs and the files given again: clients' disks are cold, the registry is
# not what is measured.  $COLD says so where the kernel would not.
# shellcheck disable=SC2034
cold()
{
	local program
	sync
	echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || COLD="(caches not dropped)"
	find "$REGISTRY_DIR" -type f -exec cat {} + >/dev/null
	for program in podman conmon ctr ctr-remote containerd \
		containerd-shim-runc-v2 runc crun nsenter; do
		program=$(command -v "$program") && cat "$program" >/dev/null
	done
	[ $# = 0 ] || cat "$@" >/dev/null
	for program in podman ctr "$QL"; do
		"$program" --version >/dev/null 2>&1
	done
}

# Numbers on stdin: "median (min - max)".
spread()
{
	sort -n | awk '{ v[NR] = $1 }
		END {
			m = v[int((NR + 1) / 2)]
			if (NR % 2 == 0)
				m = (m + v[NR / 2 + 1]) / 2
			printf "%g (%g - %g)\n", m, v[1], v[NR]
		}'
}

ratio()
{
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f\n", a / b }'
}
