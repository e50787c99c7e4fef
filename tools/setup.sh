#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building, testing and showing Quicklayer needs, on Debian 12
# or newer.  Safe to run again: where nothing is missing it only asks dpkg.
#
#   tools/setup.sh [LEVEL...]     build (the default), test, demo, bench, lint,
#                                 fuzz, cover, kube, all
#
# Packages come from the machine's own APT configuration.  libfuse >= 3.17 and
# libcomposefs, where the distribution has none, are built from Debian's source
# packages (trixie, then sid) into $DEPS (build/deps) as static libraries; a
# sources list of our own is used for that, the machine's stays as it is.
# Where the newer libfuse cannot be had, the distribution's is used, and reads
# go without passthrough.  No service is started or enabled.
#
# kube: an etcd, and Kubernetes' API server and scheduler for tests, built once
# from Debian 12's source package (4 to 10 minutes on 2 processors) into
# kube/VERSION below ${QL_CACHE:-${XDG_CACHE_HOME:-~/.cache}/quicklayer}.
set -euo pipefail
cd "$(dirname "$0")/.."

DEPS=$(realpath -m "${DEPS:-build/deps}")
FUSE_MIN=3.17
export DEBIAN_FRONTEND=noninteractive

declare -A LEVEL=(
	[build]="gcc make libc6-dev pkg-config libcurl4-openssl-dev libssl-dev
		liblmdb-dev libzstd-dev zlib1g-dev libisal-dev libjansson-dev
		libyaml-dev libmicrohttpd-dev libgnutls28-dev fuse3 meson ninja-build"
	[test]="build libcmocka-dev perl python3 docker-registry podman umoci
		skopeo runc crun containerd jq attr acl libcap2-bin zstd curl
		openssl strace iproute2 procps time util-linux tar
		xz-utils debootstrap ca-certificates apache2-utils xxd
		busybox-static diffutils stargz-snapshotter mmdebstrap libarchive-tools"
	[demo]="build docker-registry skopeo umoci debootstrap crun jq curl
		procps tar gzip ca-certificates"
	[bench]="test fio hyperfine erofs-utils"
	[lint]="build clang-format clang-tidy cppcheck shellcheck mandoc python3
		libcmocka-dev"
	[fuzz]="build clang-14 libclang-rt-14-dev llvm-14"
	[cover]="test gcovr"
	[kube]="build etcd-server golang-go rsync jq curl openssl xxd dpkg-dev
		golang-github-modern-go-reflect2-dev"
	[all]="test demo bench lint fuzz cover kube"
)
# Distributions after Debian 12 have newer clangs.
# shellcheck disable=SC1091
. /etc/os-release 2>/dev/null || VERSION_ID=0
if [ "${VERSION_ID:-99}" != 12 ]; then
	LEVEL[fuzz]="build clang llvm"
	LEVEL[kube]=build
fi
# The two busyboxes of Debian exclude each other; a machine's own one stays.
if command -v busybox >/dev/null; then
	LEVEL[test]=${LEVEL[test]/busybox-static/}
fi

say()
{
	printf 'setup: %s\n' "$*" >&2
}

die()
{
	say "$*"
	exit 1
}

# The packages of the levels given, those of the levels within them too.
packages_of()
{
	local word
	for word; do
		if [ -n "${LEVEL[$word]:-}" ]; then
			# shellcheck disable=SC2086
			packages_of ${LEVEL[$word]}
		else
			echo "$word"
		fi
	done
}

# Those of the packages given that are not installed.
missing_of()
{
	dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
		awk '$1 == "installed" { print $2 }' | sort -u |
		comm -13 - <(printf '%s\n' "$@" | sort -u)
}

POLICY=/usr/sbin/policy-rc.d
WORK=
# Also undoes what a killed run left.
policy_restore()
{
	if [ -e "$POLICY.quicklayer-had" ]; then
		mv -f "$POLICY.quicklayer-had" "$POLICY"
	elif [ -e "$POLICY.quicklayer-none" ]; then
		rm -f "$POLICY" "$POLICY.quicklayer-none"
	fi
}

at_exit()
{
	policy_restore
	[ -z "$WORK" ] || rm -rf "$WORK"
}
trap at_exit EXIT

# Keeps the services of packages being installed from starting.
policy_forbid()
{
	policy_restore
	if [ -e "$POLICY" ]; then
		mv "$POLICY" "$POLICY.quicklayer-had"
	else
		touch "$POLICY.quicklayer-none"
	fi
	printf '#!/bin/sh\nexit 101\n' >"$POLICY"
	chmod 755 "$POLICY"
}

# ... and from being started at the next boot.
services_disable()
{
	local pkg unit
	command -v systemctl >/dev/null || return 0
	for pkg; do
		for unit in $(dpkg-query -L "$pkg" 2>/dev/null | sed -n \
			's,^\(/usr\)\?/lib/systemd/system/\([^@/]*\.\(service\|socket\|timer\)\)$,\2,p'); do
			systemctl disable --quiet "$unit" 2>/dev/null || :
		done
	done
}

# Installs packages, refreshing APT's lists only if they do not know them.
packages_install()
{
	local opts=(-qq -y --no-install-recommends -o Dpkg::Use-Pty=0)
	[ "$(id -u)" = 0 ] ||
		die "missing packages; as root: apt-get install $*"
	say "installing: $*"
	policy_forbid
	if ! apt-get "${opts[@]}" install "$@" >/dev/null 2>&1; then
		apt-get -qq update >&2
		apt-get "${opts[@]}" install "$@" >&2
	fi
	policy_restore
	services_disable docker-registry podman containerd etcd-server
}

# fusermount3 wants it, and only a machine that was booted is sure to have it.
mtab_link()
{
	[ -e /etc/mtab ] || [ "$(id -u)" != 0 ] ||
		ln -sf ../proc/self/mounts /etc/mtab
}

# sources_prepare DIR SUITE...: makes a folder with an APT configuration for
# Debian's source packages, from the mirror that this machine uses for its own
# release.
sources_prepare()
{
	local dir=$1 site suite key=/usr/share/keyrings/debian-archive-keyring.gpg
	shift
	# shellcheck disable=SC2016
	site=$(apt-get indextargets --format '$(CODENAME) $(SITE)' |
		awk -v c="${VERSION_CODENAME:-}" '$1 == c { print $2; exit }')
	[ -n "$site" ] || return 1
	[ -e "$key" ] || packages_install debian-archive-keyring
	case $site in
	https:*) [ -d /etc/ssl/certs ] || packages_install ca-certificates ;;
	esac
	mkdir -p "$dir/lists/partial"
	for suite; do
		echo "deb-src [signed-by=$key] $site $suite main"
	done >"$dir/sources.list"
	SOURCES=(-o "Dir::Etc::sourcelist=$dir/sources.list"
		-o "Dir::Etc::sourceparts=-" -o "Dir::State::Lists=$dir/lists"
		-o "APT::Sandbox::User=root" -qq)
	# A mirror that stands still, as in a lab, has lists that are signed but
	# past their date.
	apt-get "${SOURCES[@]}" update >&2 || {
		say "trying again without looking at the lists' dates"
		SOURCES+=(-o "Acquire::Check-Valid-Until=false")
		apt-get "${SOURCES[@]}" update >&2
	}
}

# Fetches and unpacks a source package; prints its folder.
source_get()
{
	local dir=$1 name=$2
	command -v dpkg-source >/dev/null || packages_install dpkg-dev >&2
	mkdir -p "$dir/$name"
	(cd "$dir/$name" && apt-get "${SOURCES[@]}" source "$name" >/dev/null)
	find "$dir/$name" -mindepth 1 -maxdepth 1 -type d | head -1
}

# Builds a meson project and puts what it installs into $DEPS.
meson_build()
{
	local src=$1
	shift
	(
		cd "$src" &&
			meson setup quicklayer-build --prefix="$DEPS" \
				--libdir=lib --buildtype=release \
				-Ddefault_library=static -Db_staticpic=true \
				"$@" &&
			meson compile -C quicklayer-build &&
			DESTDIR=$src/quicklayer-stage meson install \
				--no-rebuild -C quicklayer-build &&
			mkdir -p "$DEPS" &&
			cp -a --remove-destination \
				"$src/quicklayer-stage$DEPS/." "$DEPS/"
	) >"$src.log" 2>&1 || {
		tail -20 "$src.log" >&2
		return 1
	}
}

# Its helper stays the distribution's, which alone is setuid root.
fuse_build()
{
	local src
	say "building libfuse from Debian's source package"
	src=$(source_get "$1" fuse3) && [ -n "$src" ] &&
		meson_build "$src" -Dbindir=/usr/bin -Dutils=false \
			-Dexamples=false -Dtests=false -Denable-io-uring=false
}

composefs_build()
{
	local src
	say "building libcomposefs from Debian's source package"
	src=$(source_get "$1" composefs) && [ -n "$src" ] &&
		sed -i -e 's/both_libraries(/static_library(/' \
			-e '/^ *\(so\)\?version *:/d' \
			"$src/libcomposefs/meson.build" &&
		meson_build "$src" -Dman=disabled -Dfuse=disabled
}

# What is in $DEPS was made by this recipe on this release.
deps_key()
{
	{
		declare -f meson_build fuse_build composefs_build
		echo "$FUSE_MIN ${ID:-} ${VERSION_ID:-} $(uname -m) $DEPS"
	} | sha256sum
}

deps_ready()
{
	[ -e "$DEPS/.stamp" ] && [ -x "$DEPS/bin/mkcomposefs" ] &&
		[ "$(cat "$DEPS/.stamp")" = "$(deps_key)" ]
}

fuse_distribution()
{
	say "taking the distribution's libfuse, without passthrough"
	packages_install libfuse3-dev
}

# The newest version of a package that APT could install.
version_known()
{
	apt-cache madison "$1" 2>/dev/null | awk '{ print $3 }' | sort -V |
		tail -1
}

deps_build()
{
	local known
	deps_ready && return
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/quicklayer-setup.XXXXXX")
	known=$(version_known libfuse3-dev)
	if ! pkg-config --exists "fuse3 >= $FUSE_MIN" && [ -n "$known" ] &&
		dpkg --compare-versions "$known" ge "$FUSE_MIN"; then
		packages_install libfuse3-dev
	fi
	sources_prepare "$WORK" trixie sid ||
		die "no Debian mirror with source packages is configured"
	pkg-config --exists "fuse3 >= $FUSE_MIN" || fuse_build "$WORK" ||
		fuse_distribution
	# The static library and its tools, also where a shared one exists.
	composefs_build "$WORK" || die "libcomposefs could not be built"
	deps_key >"$DEPS/.stamp"
}

# ---- kube ----

KUBE_VERSION=1.20.2
KUBE_DIR=${QL_CACHE:-${XDG_CACHE_HOME:-${HOME:-~}/.cache}/quicklayer}/kube/$KUBE_VERSION
KUBE_PROGRAMS="kube-apiserver kube-scheduler"

# What is in $KUBE_DIR was made by this recipe.
kube_key()
{
	{
		declare -f kube_compile
		uname -m
	} | sha256sum
}

kube_ready()
{
	local program
	[ "$(cat "$KUBE_DIR/.stamp" 2>/dev/null)" = "$(kube_key)" ] || return 1
	for program in $KUBE_PROGRAMS; do
		[ -x "$KUBE_DIR/$program" ] || return 1
	done
}

# The package's own make, with the distribution's Go and nothing of the
# caller's: plain "go build" knows neither the vendored modules nor what is
# generated.  The vendored reflect2 (1.0.1) knows maps as Go before 1.18 had
# them, and writing one as JSON would end the program; the distribution's (1.0.2)
# takes its place.
kube_compile()
{
	local src=$1 what="" program
	local reflect=github.com/modern-go/reflect2
	rm "$src/vendor/$reflect/"*.go &&
		cp "/usr/share/gocode/src/$reflect/"*.go \
			"$src/vendor/$reflect/" || return
	rm -f "$src/vendor/$reflect/"*_test.go
	for program in $KUBE_PROGRAMS; do
		what+=" cmd/$program"
	done
	mkdir -p "$src/.go/src/k8s.io" "$WORK/home"
	ln -sfn ../../.. "$src/.go/src/k8s.io/kubernetes"
	(
		cd "$src" && nice env -i GOPATH="$src/.go" CGO_ENABLED=0 \
			HOME="$WORK/home" TMPDIR="$WORK" \
			PATH=/usr/lib/go/bin:/usr/bin:/bin make WHAT="${what# }"
	) >"$src.log" 2>&1 || {
		tail -20 "$src.log" >&2
		return 1
	}
}

kube_build()
{
	local src program began=$SECONDS
	mkdir -p "$KUBE_DIR"
	exec 8>"$KUBE_DIR/.lock"
	flock 8
	kube_ready && return
	if [ "${VERSION_ID:-}" != 12 ]; then
		# Newer source packages hold kubectl alone, and newer Gos do
		# not take this one's modules.
		say "no Kubernetes for tests but on Debian 12"
		return
	fi
	[ -n "$WORK" ] ||
		WORK=$(mktemp -d "${TMPDIR:-/tmp}/quicklayer-setup.XXXXXX")
	say "building Kubernetes from Debian's source package"
	mkdir "$WORK/kube"
	sources_prepare "$WORK/kube" bookworm ||
		die "no Debian mirror with source packages is configured"
	src=$(source_get "$WORK/kube" kubernetes) && [ -n "$src" ] ||
		die "no source package kubernetes"
	case $src in
	*"$KUBE_VERSION"*) ;;
	*) die "$KUBE_VERSION is wanted, and there is ${src##*/}" ;;
	esac
	kube_compile "$src" || die "Kubernetes could not be built"
	for program in $KUBE_PROGRAMS; do
		# Whoever finds it by its name finds all of it.
		install -m 755 "$src/_output/bin/$program" \
			"$KUBE_DIR/$program.$$"
		mv "$KUBE_DIR/$program.$$" "$KUBE_DIR/$program"
	done
	kube_key >"$KUBE_DIR/.stamp"
	say "built in $((SECONDS - began)) s"
}

# Whether a level is among those given, or within them.
level_within()
{
	local level=$1 word
	shift
	for word; do
		[ "$word" != "$level" ] || return 0
		# shellcheck disable=SC2086
		[ -z "${LEVEL[$word]:-}" ] ||
			! level_within "$level" ${LEVEL[$word]} || return 0
	done
	return 1
}

main()
{
	local level wanted missing
	[ $# -gt 0 ] || set -- build
	for level; do
		[ -n "${LEVEL[$level]:-}" ] || die "no such level: $level" \
			"(there are: ${!LEVEL[*]})"
	done
	command -v dpkg-query >/dev/null ||
		die "this is for Debian; the packages are named in $0"
	mapfile -t wanted < <(packages_of "$@" | sort -u)
	mkdir -p "$DEPS"
	exec 9>"$DEPS/.lock"
	flock 9
	mapfile -t missing < <(missing_of "${wanted[@]}")
	[ ${#missing[@]} = 0 ] || packages_install "${missing[@]}"
	mtab_link
	unset PKG_CONFIG_PATH # what the machine has, not what was built
	deps_build
	[ ! tools/setup.sh -nt "$DEPS/.stamp" ] || touch "$DEPS/.stamp"
	# Others need not wait for minutes.
	flock -u 9
	if level_within kube "$@"; then
		kube_build
	fi
}

main "$@"
