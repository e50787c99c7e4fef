#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Options alone are PHP's; Apache gets WordPress when its folder is empty.
set -e
case ${1:-} in
-*) set -- php "$@" ;;
apache2*)
	if [ -d /usr/src/wordpress ] && [ ! -e index.php ]; then
		cp -a /usr/src/wordpress/. .
		mv wp-config-docker.php wp-config.php
	fi
	;;
esac
exec "$@"
