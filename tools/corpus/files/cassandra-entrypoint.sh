#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The server runs as cassandra.
set -e
case ${1:-} in
-*) set -- cassandra "$@" ;;
esac
if [ "${1:-}" = cassandra ] && [ "$(id -u)" = 0 ]; then
	find "$CASSANDRA_CONF" /var/lib/cassandra /var/log/cassandra \
		\! -user cassandra -exec chown cassandra '{}' +
	exec gosu cassandra "$0" "$@"
fi
exec "$@"
