#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what building, testing and showing Quicklayer needs, on Debian 12
# or newer.  Safe to run again: where nothing is missing it only asks dpkg.
#
#   tools/setup.sh [LEVEL...]     build (the default), test, demo, bench, lint,
#                                 fuzz, cover, all
#
# Packages come from the machine's own APT configuration.  libfuse >= 3.17 and
# libcomposefs, where the distribution has none, are built from Debian's source
# packages (trixie, then sid) into $DEPS (build/deps) as static libraries; a
# sources list of our own is used for that, the machine's stays as it is.
# Where the newer libfuse cannot be had, the distribution's is used, and reads
# go without passthrough.  No service is started or enabled.
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
	[all]="test demo bench lint fuzz cover"
)
# Distributions after Debian 12 have newer clangs.
# shellcheck disable=SC1091
. /etc/os-release 2>/dev/null || VERSION_ID=0
if [ "${VERSION_ID:-99}" != 12 ]; then
	LEVEL[fuzz]="build clang llvm"
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
	services_disable docker-registry podman containerd
}

# fusermount3 wants it, and only a machine that was booted is sure to have it.
mtab_link()
{
	[ -e /etc/mtab ] || [ "$(id -u)" != 0 ] ||
		ln -sf ../proc/self/mounts /etc/mtab
}

# Makes a folder with an APT configuration for Debian's source packages, from
# the mirror that this machine uses for its own release.
sources_prepare()
{
	local dir=$1 site suite key=/usr/share/keyrings/debian-archive-keyring.gpg
	# shellcheck disable=SC2016
	site=$(apt-get indextargets --format '$(CODENAME) $(SITE)' |
		awk -v c="${VERSION_CODENAME:-}" '$1 == c { print $2; exit }')
	[ -n "$site" ] || return 1
	[ -e "$key" ] || packages_install debian-archive-keyring
	case $site in
	https:*) [ -d /etc/ssl/certs ] || packages_install ca-certificates ;;
	esac
	mkdir -p "$dir/lists/partial"
	for suite in trixie sid; do
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
	sources_prepare "$WORK" ||
		die "no Debian mirror with source packages is configured"
	pkg-config --exists "fuse3 >= $FUSE_MIN" || fuse_build "$WORK" ||
		fuse_distribution
	# The static library and its tools, also where a shared one exists.
	composefs_build "$WORK" || die "libcomposefs could not be built"
	deps_key >"$DEPS/.stamp"
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
}

main "$@"
