#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The server and its tools run as rabbitmq, who alone may read the cookie.
set -e
case ${1:-} in
rabbitmq*)
	if [ "$(id -u)" = 0 ]; then
		find "$RABBITMQ_DATA_DIR" \! -user rabbitmq \
			-exec chown rabbitmq '{}' +
		exec gosu rabbitmq "$0" "$@"
	fi
	;;
esac
exec "$@"
