#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Debian's Apache as the container's one program.
set -e
# shellcheck disable=SC1091
. "$APACHE_CONFDIR/envvars"
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR"
rm -f "$APACHE_PID_FILE"
exec apache2 -DFOREGROUND "$@"
