# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the end-to-end stories share: TAP, a temporary root that is gone at the
# end however the story ends, registries and images.  A story begins with
#
#	. "$(dirname "$0")/../lab/lib.sh"
#
# and ends with done_testing.  It then has
#
#   $TMP   a folder of its own; what is mounted below is unmounted at the end
#   $QL    the built program          $LAB   this folder
#
# Programs left running are ended if they were started by lab_start; then the
# functions named in LAB_AT_EXIT are called.

set -uo pipefail

LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
B=$(realpath -m "${B:-$LAB/../../build}")
QL=${QL:-$B/quicklayer}
TMP=$(mktemp -d "${TMPDIR:-/tmp}/quicklayer-test.XXXXXX")
LAB_PIDS=()
LAB_AT_EXIT=()
LAB_TESTS=0
LAB_FAILED=0

# ---- cleaning up ----

# Unmounts all that is mounted below a folder, innermost first.
lab_umount_below()
{
	local dir
	awk -v below="$1/" 'index($5, below) == 1 { print $5 }' \
		/proc/self/mountinfo | tac | while read -r dir; do
		dir=$(printf '%b' "$dir")
		umount "$dir" 2>/dev/null || umount -l "$dir" 2>/dev/null
	done
}

# A program that ended: its number may be another's by now.
lab_forget()
{
	local i
	for i in "${!LAB_PIDS[@]}"; do
		[ "${LAB_PIDS[i]}" != "$1" ] || unset "LAB_PIDS[i]"
	done
}

# Ends a program, firmly after two seconds, and waits for it.
lab_end()
{
	local pid=$1 i
	lab_forget "$pid"
	kill "$pid" 2>/dev/null || return 0
	for i in {1..40}; do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	return 0
}

lab_cleanup()
{
	local status=$? pids i last
	set +e
	trap - EXIT INT TERM HUP
	# Clients before what serves them.
	pids=(${LAB_PIDS[@]+"${LAB_PIDS[@]}"})
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		lab_end "${pids[i]}"
	done
	for last in ${LAB_AT_EXIT[@]+"${LAB_AT_EXIT[@]}"}; do
		"$last"
	done
	lab_umount_below "$TMP"
	rm -rf --one-file-system "$TMP"
	exit "$status"
}
trap lab_cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Starts a program in the background; its pid is in $LAB_PID, its output in
# $TMP/NAME.log.
lab_start()
{
	local name=$1
	shift
	"$@" </dev/null >"$TMP/$name.log" 2>&1 &
	LAB_PID=$!
	LAB_PIDS+=("$LAB_PID")
}

# lab_ready NAME [PID]: waits until the agent of that name, the last program
# started if no pid says otherwise, is ready.  Fails as soon as it has ended.
lab_ready()
{
	local i
	for ((i = 0; i < 60 * 20; i++)); do
		grep -q msg=ready "$TMP/$1.log" && return 0
		kill -0 "${2:-$LAB_PID}" 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}

# ---- TAP ----

note()
{
	printf '%s\n' "$*" | sed 's/^/# /'
}

pass()
{
	LAB_TESTS=$((LAB_TESTS + 1))
	printf 'ok %d - %s\n' "$LAB_TESTS" "$*"
}

fail()
{
	LAB_TESTS=$((LAB_TESTS + 1))
	LAB_FAILED=$((LAB_FAILED + 1))
	printf 'not ok %d - %s\n' "$LAB_TESTS" "$*"
	return 1
}

# ok DESCRIPTION COMMAND...: the command succeeds.  Its output is shown if not.
ok()
{
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		pass "$what"
	else
		fail "$what"
		note "$*: status $?"
		note "$out"
		return 1
	fi
}

# fails DESCRIPTION STATUS COMMAND...: it exits with that status; what it said
# is left in $OUT.
fails()
{
	local what=$1 want=$2 got=0
	shift 2
	OUT=$("$@" 2>&1) || got=$?
	if [ "$got" = "$want" ]; then
		pass "$what"
	else
		fail "$what"
		note "$*: status $got, not $want"
		note "$OUT"
		return 1
	fi
}

# is GOT WANTED DESCRIPTION
is()
{
	if [ "$1" = "$2" ]; then
		pass "$3"
	else
		fail "$3"
		note "got:    $1"
		note "wanted: $2"
		return 1
	fi
}

# like GOT REGEX DESCRIPTION
like()
{
	if [[ $1 =~ $2 ]]; then
		pass "$3"
	else
		fail "$3"
		note "got:          $1"
		note "wanted match: $2"
		return 1
	fi
}

# unlike GOT REGEX DESCRIPTION
unlike()
{
	if [[ $1 =~ $2 ]]; then
		fail "$3"
		note "got:             $1"
		note "wanted no match: $2"
		return 1
	else
		pass "$3"
	fi
}

# skip REASON [COUNT]: for something that this machine cannot do.
skip()
{
	local i
	for ((i = 0; i < ${2:-1}; i++)); do
		LAB_TESTS=$((LAB_TESTS + 1))
		printf 'ok %d # SKIP %s\n' "$LAB_TESTS" "$1"
	done
}

skip_all()
{
	printf '1..0 # SKIP %s\n' "$*"
	exit 0
}

# bail WHY: ends the test, and all others: shows what the programs said last.
bail()
{
	local log
	for log in "$TMP"/*.log; do
		[ -s "$log" ] && note "${log##*/}:" "$(tail -n 5 "$log")"
	done
	printf 'Bail out! %s\n' "$*"
	exit 1
}

done_testing()
{
	printf '1..%d\n' "$LAB_TESTS"
	[ "$LAB_FAILED" = 0 ]
	exit
}

# Waits up to SECONDS until a command succeeds.
wait_for()
{
	local i
	for ((i = 0; i < $1 * 20; i++)); do
		"${@:2}" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	return 1
}

# ---- registries ----

# A TCP port that nobody listens on at this moment, below those that the kernel
# gives to connections going out.
free_port()
{
	local port
	while :; do
		port=$((RANDOM % 20000 + 12000))
		ss -Hltn "sport = :$port" | grep -q . || break
	done
	echo "$port"
}

# start_registry [NAME [YAML]]: Debian's docker-registry on a loopback port
# with a storage folder of its own; YAML is added to its configuration.  Sets
# $REGISTRY (host:port), $REGISTRY_PID, $REGISTRY_DIR.
# REGISTRY_HOST is another address to listen on, REGISTRY_IN=(COMMAND...) what
# to run it and its first client by, REGISTRY_ACCESS=1 logs requests.
start_registry()
{
	local name=${1:-registry} more=${2:-} port try quiet=true
	local host=${REGISTRY_HOST:-127.0.0.1} in=("${REGISTRY_IN[@]-env}")
	[ -z "${REGISTRY_ACCESS:-}" ] || quiet=false
	REGISTRY_DIR=${REGISTRY_DIR_KEEP:-$TMP/$name}
	mkdir -p "$REGISTRY_DIR"
	for try in 1 2 3; do
		port=$(free_port)
		cat >"$TMP/$name.yml" <<-YAML
			version: 0.1
			log: {level: warn, accesslog: {disabled: $quiet}}
			storage:
			  filesystem: {rootdirectory: "$REGISTRY_DIR"}
			  delete: {enabled: true}
			http:
			  addr: "$host:$port"
			  secret: lab
			$more
		YAML
		# It would take the variable for a setting of its own.
		lab_start "$name" "${in[@]}" env -u REGISTRY_AUTH_FILE \
			docker-registry serve "$TMP/$name.yml"
		REGISTRY_PID=$LAB_PID
		REGISTRY=$host:$port
		# 200, or 401 where it wants to know who asks.
		wait_for 10 "${in[@]}" curl -s "http://$REGISTRY/v2/" &&
			return 0
		kill "$REGISTRY_PID" 2>/dev/null
		note "registry did not start (try $try)"
	done
	bail "docker-registry: $(cat "$TMP/$name.log")"
}

# Of a registry that logs requests: what it has sent of blobs since the last
# mark.
MARK=0
mark()
{
	sleep 0.1
	MARK=$(wc -l <"$TMP/registry.log")
}
sent()
{
	sleep 0.1
	tail -n "+$((MARK + 1))" "$TMP/registry.log" | awk '
		/"GET [^ ]*\/blobs\// && $9 ~ /^20/ { n += $10 } END { print n + 0 }'
}
# The bytes of all layers of lab:TAG.
size()
{
	curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' \
		"http://$REGISTRY/v2/lab/manifests/$1" |
		jq '[.layers[].size] | add'
}

# ---- images ----

# make_image DIR TAG TAR[:HOW]...: an image in an OCI folder (ocilayout.py).
make_image()
{
	python3 "$LAB/ocilayout.py" "$@"
}

# push_image OCI-REFERENCE NAME:TAG [skopeo options]: to $REGISTRY.
push_image()
{
	local from=$1 to=$2
	shift 2
	skopeo --insecure-policy copy --quiet --dest-tls-verify=false "$@" \
		"$from" "docker://$REGISTRY/$to"
}

# lazy_image SMALL: an image of so many small files (small1 …, up to 64 KiB) and
# six large ones (large1 …, 3 MB), which stand in $TMP/files too, in a registry
# of its own, as layers that can come when they are read.  Sets $IMAGE.
lazy_image()
{
	local i
	mkdir -p "$TMP/files"
	for ((i = 1; i <= $1; i++)); do
		head -c $((RANDOM * 2 + 1)) /dev/urandom >"$TMP/files/small$i"
	done
	for i in {1..6}; do
		head -c 3000000 /dev/urandom >"$TMP/files/large$i"
	done
	tar -C "$TMP/files" -cf "$TMP/files.tar" . &&
		make_image "$TMP/oci" t "$TMP/files.tar" >/dev/null ||
		bail "image"
	start_registry
	IMAGE=$REGISTRY/lab:t
	"$QL" push -q "oci:$TMP/oci:t" "$IMAGE" >/dev/null || bail "push"
}

# Podman with a storage and configuration of its own.  Its default limits need
# a privilege that root in a container often lacks, hence default_ulimits.
# LAB_IN=(COMMAND...) is what to run it by.
lab_podman()
{
	if [ ! -e "$TMP/containers.conf" ]; then
		cat >"$TMP/containers.conf" <<-CONF
			[containers]
			default_ulimits = ["nofile=1024:20000", "nproc=16384:16384"]
			[engine]
			runtime = "runc"
			cgroup_manager = "cgroupfs"
			events_logger = "none"
		CONF
		cat >"$TMP/storage.conf" <<-CONF
			[storage]
			driver = "overlay"
			graphroot = "$TMP/podman/root"
			runroot = "$TMP/podman/run"
		CONF
	fi
	CONTAINERS_CONF=$TMP/containers.conf \
		CONTAINERS_STORAGE_CONF=$TMP/storage.conf \
		"${LAB_IN[@]-env}" podman --root "$TMP/podman/root" \
		--runroot "$TMP/podman/run" --storage-driver overlay \
		--log-level error "$@"
}
