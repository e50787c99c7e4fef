#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes real images from Debian's packages and prints where: an OCI layout.
#
#   mkimage.sh demo       base, python3, an application that replaces and
#                         deletes things from below (about 60 MB gzip)
#   mkimage.sh bench      base, tools, compilers, numpy (300 to 500 MB gzip)
#   mkimage.sh redis      base, a user, redis-server, its configuration
#   mkimage.sh nginx      base, nginx, its configuration
#   mkimage.sh node       base, tools, nodejs and npm, a user, an application
#   mkimage.sh second     90 % of bench's files by content, cut into other
#                         layers, the rest of it new
#
# A layer is made by running commands in a chroot over an overlay mount, and
# the overlay's upper folder becomes a tar with OCI whiteouts, both as
# tools/corpus does it.  Layers are kept in $QL_CACHE (~/.cache/quicklayer)
# under a checksum of their recipe and of all below, so that only the first run
# takes minutes.  Needs root, debootstrap and a Debian mirror in the machine's
# APT configuration.
# Recipes are taken by their names, and expanded in the chroot.
# shellcheck disable=SC2016,SC2034
set -euo pipefail

LAB=$(cd "$(dirname "$0")" && pwd)
CORPUS=$LAB/../../tools/corpus
CACHE=${QL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quicklayer}
SUITE=bookworm
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

say()
{
	printf 'mkimage: %s\n' "$*" >&2
}

# shellcheck disable=SC1091
HOST_SUITE=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
SITE=$(apt-get indextargets --format '$(CODENAME) $(SITE)' |
	awk -v c="$HOST_SUITE" '$1 == c { print $2; exit }')
PROXY=$(apt-config dump Acquire::http::Proxy --format '%v')

# ---- recipes: run inside the chroot, which expands them ----

APT='set -e
get() {
	apt-get -qq update
	apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@"
	apt-get clean
	rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
	rm -f /var/log/alternatives.log /var/cache/ldconfig/aux-cache
}
'
PYTHON=$APT'get python3-minimal libpython3-stdlib libcap2-bin'
# Replaces a file, a folder by a symlink, and a file by a folder; deletes a
# file, and a folder together with what was in it; has a hardlink, a setuid
# program and a file capability.
APP='set -e
mkdir -p /app/data /app/bin
printf "#!/usr/bin/python3\nimport os, sys\nprint(\"hello from\", sys.argv[0])\n" >/app/bin/hello
chmod 755 /app/bin/hello
ln /app/bin/hello /app/bin/hello-again
ln -s bin/hello /app/start
i=0
while [ $i -lt 500 ]; do
	echo "record $i" >/app/data/record-$i.txt
	i=$((i + 1))
done
cp /bin/cat /app/bin/cat-suid && chmod 4755 /app/bin/cat-suid
cp /bin/cat /app/bin/cat-cap && setcap cap_net_raw+ep /app/bin/cat-cap
echo "Quicklayer demo" >/etc/motd
echo "demo layer" >/etc/issue
rm -rf /usr/share/doc /usr/share/man && ln -s /app/data /usr/share/doc
rm -f /etc/debian_version && mkdir /etc/debian_version
rm -rf /usr/share/zoneinfo /var/cache/debconf
rm -rf /usr/share/common-licenses && mkdir /usr/share/common-licenses
echo none >/usr/share/common-licenses/README'
TOOLS=$APT'get ca-certificates curl git netbase tzdata wget gnupg dirmngr \
	mercurial openssh-client subversion procps'
COMPILERS=$APT'get gcc g++ make autoconf automake bzip2 file libbz2-dev \
	libc6-dev libcurl4-openssl-dev libdb-dev libevent-dev libffi-dev \
	libgdbm-dev libglib2.0-dev libgmp-dev libjpeg-dev libkrb5-dev \
	liblzma-dev libncurses-dev libpng-dev libpq-dev libreadline-dev \
	libsqlite3-dev libssl-dev libtool libwebp-dev libxml2-dev libxslt1-dev \
	libyaml-dev patch unzip xz-utils zlib1g-dev'
NUMPY=$APT'get python3 python3-pip python3-numpy python3-dev'
# Layered as the images of these names on public registries are.
REDIS_USER='set -e
groupadd -r -g 999 redis
useradd -r -g redis -u 999 redis'
REDIS=$APT'get redis-server redis-tools gosu ca-certificates tzdata openssl
mkdir -p /data && chown redis:redis /data'
REDIS_CONF='set -e
cat >/usr/local/bin/docker-entrypoint.sh <<SCRIPT
#!/bin/sh
exec "\$@"
SCRIPT
chmod 755 /usr/local/bin/docker-entrypoint.sh'
NGINX=$APT'get nginx libnginx-mod-http-geoip libnginx-mod-http-image-filter \
	libnginx-mod-http-xslt-filter libnginx-mod-stream gettext-base curl \
	ca-certificates'
# Its modules are there and not loaded, as in that image.
NGINX_CONF='set -e
rm -f /etc/nginx/modules-enabled/*
mkdir -p /docker-entrypoint.d /usr/share/nginx/html
ln -sf /dev/stdout /var/log/nginx/access.log
ln -sf /dev/stderr /var/log/nginx/error.log
echo "<html><body>Welcome to nginx!</body></html>" \
	>/usr/share/nginx/html/index.html'
NODE=$APT'get nodejs npm'
NODE_APP='set -e
groupadd -g 1000 node
useradd -u 1000 -g node -s /bin/bash -m node
mkdir -p /home/node/app
echo "console.log(1)" >/home/node/app/index.js
chown -R node:node /home/node/app'

# ---- layers ----

layer_pack()
{
	local dir=$1 file=$2
	python3 -B "$CORPUS/pack.py" "$dir" "$file.tar"
	gzip -n <"$file.tar" >"$file.part"
	mv "$file.part" "$file"
	rm "$file.tar"
}

# Runs a script in a mount namespace of its own.  In a chroot that is no mount
# point the namespace cannot be made private; so each script unmounts what it
# mounted as well.
apart()
{
	local how=private
	unshare -m true 2>/dev/null || how=unchanged
	unshare -m --propagation "$how" bash -ec "$@"
}

# layer_make KEY COMMANDS LOWER...: LOWER are folders of layers, lowest first.
layer_make()
{
	local dir=$CACHE/layers/$1 commands=$2 lower="" l
	shift 2
	[ ! -e "$dir/layer.tar.gz" ] || return 0
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir"
	for l; do
		lower=$l${lower:+:$lower}
	done
	STEP_BINDS='/etc/resolv.conf /etc/resolv.conf ro' \
		"$CORPUS/step.sh" "$dir" "$lower" "$commands" LC_ALL=C \
		DEBIAN_FRONTEND=noninteractive HOME=/root \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin >"$dir/log" 2>&1 || {
		tail -20 "$dir/log" >&2
		say "a layer could not be made"
		exit 1
	}
	layer_pack "$dir/diff" "$dir/layer.tar.gz"
	rm -rf "$dir/work"
	rmdir "$dir/root"
}

base_make()
{
	local dir=$CACHE/layers/$1
	[ ! -e "$dir/layer.tar.gz" ] || return 0
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir"
	debootstrap --variant=minbase "$SUITE" "$dir/diff" "$SITE" \
		</dev/null >"$dir/log" 2>&1 || {
		tail -20 "$dir/log" >&2
		say "debootstrap failed"
		exit 1
	}
	rm -rf "$dir"/diff/var/cache/apt/archives/*.deb \
		"$dir"/diff/var/lib/apt/lists/* "$dir"/diff/var/log/*.log \
		"$dir"/diff/dev/*
	: >"$dir/diff/etc/resolv.conf"
	[ -z "$PROXY" ] || echo "Acquire::http::Proxy \"$PROXY\";" \
		>"$dir/diff/etc/apt/apt.conf.d/proxy"
	layer_pack "$dir/diff" "$dir/layer.tar.gz"
}

# image_make NAME RECIPE...: sets $KEY and $LOWERS (its layers' folders).
image_make()
{
	local name=$1 key lowers=() layers=() recipe
	shift
	mkdir -p "$CACHE/layers"
	exec 8>"$CACHE/lock"
	flock 8
	key=$(printf '%s' "base $SUITE $(dpkg --print-architecture) 1" |
		sha256sum | cut -c1-16)
	say "layer $key: debootstrap $SUITE"
	base_make "$key"
	lowers=("$CACHE/layers/$key/diff")
	layers=("$CACHE/layers/$key/layer.tar.gz")
	for recipe; do
		key=$(printf '%s\n' "$key" "${!recipe}" | sha256sum |
			cut -c1-16)
		say "layer $key: $recipe"
		layer_make "$key" "${!recipe}" "${lowers[@]}"
		lowers+=("$CACHE/layers/$key/diff")
		layers+=("$CACHE/layers/$key/layer.tar.gz")
	done
	if [ "$(cat "$CACHE/$name/key" 2>/dev/null)" != "$key" ]; then
		rm -rf "${CACHE:?}/$name"
		mkdir -p "$CACHE/$name"
		python3 "$LAB/ocilayout.py" "$CACHE/$name/oci" "$name" \
			"${layers[@]}" >"$CACHE/$name/digest"
		echo "$key" >"$CACHE/$name/key"
	fi
	LOWERS=("${lowers[@]}")
	KEY=$key
}

# The bench image's files again, cut into three other layers, one in ten of
# them with other content.
second_make()
{
	local dir=$CACHE/second lower="" l
	image_make bench TOOLS COMPILERS NUMPY
	KEY="$KEY $(sha256sum "$LAB/mksecond.py" | cut -c1-16)"
	[ "$(cat "$dir/key" 2>/dev/null)" != "$KEY" ] || return 0
	say "second image"
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir/root"
	for l in "${LOWERS[@]}"; do
		lower=$l${lower:+:$lower}
	done
	apart '
		trap "umount \"$2/root\"" EXIT
		mount -t overlay -o "lowerdir=$1" overlay "$2/root"
		python3 "$3/mksecond.py" "$2/root" "$2" >"$2/unique-bytes"
	' second "$lower" "$dir" "$LAB"
	python3 "$LAB/ocilayout.py" "$dir/oci" second \
		"$dir"/{a,b,c}.tar:gzip >"$dir/digest"
	rm -rf "$dir"/{a,b,c}.tar
	rmdir "$dir/root"
	echo "$KEY" >"$dir/key"
}

[ "$(id -u)" = 0 ] || {
	say "needs root (debootstrap, overlay mounts)"
	exit 1
}
case ${1:-} in
demo) image_make demo PYTHON APP ;;
bench) image_make bench TOOLS COMPILERS NUMPY ;;
redis) image_make redis REDIS_USER REDIS REDIS_CONF ;;
nginx) image_make nginx NGINX NGINX_CONF ;;
node) image_make node TOOLS NODE NODE_APP ;;
second) second_make ;;
*)
	say "usage: mkimage.sh demo|bench|redis|nginx|node|second"
	exit 2
	;;
esac
echo "oci:$CACHE/$1/oci:$1"
