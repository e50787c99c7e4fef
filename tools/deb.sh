#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes a Debian package in $B of what `make install` installs.  What it
# depends on is asked of dpkg-shlibdeps, where the machine has it.
set -euo pipefail
cd "$(dirname "$0")/.."

B=${B:-build}
VERSION=${VERSION:?}
ARCH=$(dpkg --print-architecture)
ROOT=$B/deb
OUT=$B/quicklayer_${VERSION}_$ARCH.deb

rm -rf "$ROOT"
mkdir -p "$ROOT/DEBIAN" "$ROOT/usr/share/doc/quicklayer"
${MAKE:-make} --no-print-directory B="$B" DESTDIR="$ROOT" PREFIX=/usr install
programs=("$ROOT/usr/bin/quicklayer" "$ROOT/usr/sbin/quicklayerd"
	"$ROOT/usr/sbin/quicklayer-scheduler")
strip --strip-unneeded "${programs[@]}"
find "$ROOT/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || :
cp LICENSE "$ROOT/usr/share/doc/quicklayer/copyright"

depends="libc6, libcurl4, libyaml-0-2, libmicrohttpd12, libgnutls30"
if command -v dpkg-shlibdeps >/dev/null; then
	work=$(mktemp -d)
	mkdir "$work/debian"
	printf 'Source: quicklayer\n' >"$work/debian/control"
	mapfile -t programs < <(realpath "${programs[@]}")
	depends=$(cd "$work" && dpkg-shlibdeps -O "${programs[@]}" 2>/dev/null |
		sed -n 's/^shlibs:Depends=//p')
	rm -rf "$work"
fi

cat >"$ROOT/DEBIAN/control" <<EOT
Package: quicklayer
Version: $VERSION
Architecture: $ARCH
Maintainer: Quicklayer developers <quicklayer@localhost>
Installed-Size: $(du -sk "$ROOT/usr" | cut -f1)
Depends: $depends, fuse3
Recommends: crun | runc, ca-certificates
Section: admin
Priority: optional
Description: start containers fast from a content-addressed store
 Pulls OCI and Docker images into a store in which each file is kept once,
 mounts their merged root by FUSE, and runs containers on it.  An agent serves
 all of a node's images in one mount, with an API on a socket; a scheduler
 deploys images to many nodes at once.
EOT
dpkg-deb --root-owner-group --build "$ROOT" "$OUT" >/dev/null
rm -rf "$ROOT"
echo "$OUT"
