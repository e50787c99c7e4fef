#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Options alone are memcached's.
set -e
case ${1:-} in
-*) set -- memcached "$@" ;;
esac
exec "$@"
