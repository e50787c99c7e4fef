#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# mmdebstrap's customize hook: sets a root up as Debian's own container images
# are set up, and takes out what differs from one run to the next.
#
#   base-hook.sh ROOT
set -euo pipefail

root=$1
conf=$root/etc/apt/apt.conf.d

printf '#!/bin/sh\n\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
cat >"$conf/docker-clean" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
echo 'Acquire::Languages "none";' >"$conf/docker-no-languages"
echo 'Acquire::GzipIndexes "true";' >"$conf/docker-gzip-indexes"
echo 'Apt::AutoRemove::SuggestsImportant "false";' \
	>"$conf/docker-autoremove-suggests"
rm -f "$root/etc/hostname" "$root/etc/machine-id" \
	"$root/var/lib/dbus/machine-id"
: >"$root/etc/resolv.conf"
find "$root/var/log" "$root/run" -type f -delete
