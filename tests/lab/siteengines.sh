#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The engines of benches of many nodes (sites.sh), each node with a store and a
# daemon of its own.  Sourced after lib.sh, sites.sh, engines.sh.
#
#	WHO_ready    daemons on $MEMBERS ("SITE.NODE"...), with empty stores
#	WHO_run M REF COMMAND...    a shell command that pulls and runs
#	WHO_pull M REF              one that pulls all of it
#	WHO_end      daemons and stores are gone
#
# WHO: quicklayer (nodes ask each other), alone (quicklayer without peers),
# containerd, podman.

declare -A NODE_CONTAINERD=()

# member M: sets S, N, ROOT, IN of "SITE.NODE", for all to use.
# shellcheck disable=SC2034
member()
{
	S=${1%.*} N=${1#*.}
	ROOT=$(node_root "$S" "$N")
	site_in "$S" "$N"
}

quoted()
{
	printf '%q ' "$@"
}

# ---- quicklayer ----

ql_nodes()
{
	local m
	for m in $MEMBERS; do
		member "$m"
		node_agent "$S" "$N"
	done
	for m in $MEMBERS; do
		node_ready "${m%.*}" "${m#*.}"
	done
	# What they tell each other once, before the clock runs.
	[ "$PEERS" = 0 ] || sleep 2
}

ql_line()
{
	local m=$1
	shift
	member "$m"
	quoted exec env "QUICKLAYER_ROOT=$ROOT/store" \
		REGISTRY_AUTH_FILE="$TMP/none" "${IN[@]}" "$QL" "$@"
}

ql_end()
{
	local s n
	[ -z "${LOGS:-}" ] || {
		mkdir -p "$LOGS"
		cp "$TMP"/agent.*.log "$TMP/$SITES_LOG.log" "$LOGS" 2>/dev/null
	}
	for ((s = 1; s <= SITES_N; s++)); do
		for ((n = 1; n <= SITES_PER; n++)); do
			node_wipe "$s" "$n"
		done
	done
}

ql_run()
{
	local m=$1
	shift
	ql_line "$m" run --plain-http -q "$@"
}

ql_pull()
{
	ql_line "$1" pull --full --plain-http -q "$2"
}

quicklayer_ready() { PEERS=1 ql_nodes; }
quicklayer_run() { ql_run "$@"; }
quicklayer_pull() { ql_pull "$@"; }
quicklayer_end() { ql_end; }
alone_ready() { PEERS=0 ql_nodes; }
alone_run() { ql_run "$@"; }
alone_pull() { ql_pull "$@"; }
alone_end() { ql_end; }

# ---- containerd ----

containerd_ready()
{
	local m
	for m in $MEMBERS; do
		member "$m"
		mkdir -p "$ROOT"
		cat >"$ROOT/containerd.toml" <<-TOML
			version = 2
			root = "$ROOT/root"
			state = "$ROOT/state"
			disabled_plugins = ["io.containerd.grpc.v1.cri"]
			[grpc]
			  address = "$ROOT/sock"
		TOML
		lab_start "containerd.$m" "${IN[@]}" \
			containerd -c "$ROOT/containerd.toml"
		NODE_CONTAINERD[$m]=$LAB_PID
	done
	for m in $MEMBERS; do
		member "$m"
		wait_for 20 ctr -a "$ROOT/sock" version ||
			bail "containerd $m: $(tail -3 "$TMP/containerd.$m.log")"
	done
}

# ctr fetches by itself, hence in the node's namespace.
containerd_pull()
{
	member "$1"
	quoted "${IN[@]}" ctr -a "$ROOT/sock" images pull --plain-http "$2"
}

containerd_run()
{
	local m=$1 ref=$2
	shift 2
	containerd_pull "$m" "$ref"
	member "$m"
	printf '>%q 2>&1 && exec ' "$ROOT/pull.log"
	quoted "${IN[@]}" ctr -a "$ROOT/sock" run --rm --net-host "$ref" \
		"bench-$$-$m-$RANDOM" "$@"
}

containerd_end()
{
	local m
	for m in "${!NODE_CONTAINERD[@]}"; do
		lab_end "${NODE_CONTAINERD[$m]}"
		node_wipe "${m%.*}" "${m#*.}"
	done
	NODE_CONTAINERD=()
}
LAB_AT_EXIT+=(containerd_end)

# ---- podman ----

podman_ready()
{
	local m
	for m in $MEMBERS; do
		member "$m"
		mkdir -p "$ROOT"
		# Locks in files: shared memory would be all nodes' own.
		cat >"$ROOT/containers.conf" <<-CONF
			[containers]
			default_ulimits = ["nofile=1024:20000", "nproc=16384:16384"]
			[engine]
			runtime = "runc"
			cgroup_manager = "cgroupfs"
			events_logger = "none"
			lock_type = "file"
			tmp_dir = "$ROOT/tmp"
		CONF
		cat >"$ROOT/storage.conf" <<-CONF
			[storage]
			driver = "overlay"
			graphroot = "$ROOT/root"
			runroot = "$ROOT/run"
		CONF
	done
}

podman_line()
{
	local m=$1
	shift
	member "$m"
	quoted exec env "CONTAINERS_CONF=$ROOT/containers.conf" \
		"CONTAINERS_STORAGE_CONF=$ROOT/storage.conf" "${IN[@]}" \
		podman --root "$ROOT/root" --runroot "$ROOT/run" \
		--tmpdir "$ROOT/tmp" --storage-driver overlay \
		--log-level error "$@"
}

podman_run()
{
	local m=$1
	shift
	podman_line "$m" run --rm -q --tls-verify=false --network host "$@"
}

podman_pull()
{
	podman_line "$1" pull -q --tls-verify=false "$2"
}

podman_end()
{
	ql_end
}
