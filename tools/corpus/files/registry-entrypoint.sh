#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A configuration alone is one to serve.
set -e
case ${1:-} in
*.yaml | *.yml) set -- registry serve "$@" ;;
serve | garbage-collect | help | -*) set -- registry "$@" ;;
esac
exec "$@"
