#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Options, and what is no command, are node's.
set -e
if [ "${1#-}" != "${1:-}" ] || ! command -v "${1:-node}" >/dev/null; then
	set -- node "$@"
fi
exec "$@"
