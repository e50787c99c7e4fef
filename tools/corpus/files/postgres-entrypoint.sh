#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Options alone are the server's.  The server runs as postgres, on a cluster
# that is made when there is none.
set -e
case ${1:-} in
-*) set -- postgres "$@" ;;
esac
for word; do
	case $word in
	--help | --version | -V) exec "$@" ;;
	esac
done
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /var/run/postgresql
	chown -R postgres:postgres "$PGDATA" /var/run/postgresql
	exec gosu postgres "$0" "$@"
fi
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
	printf '%s\n' "${POSTGRES_PASSWORD:?is not set}" >"$PGDATA.pw"
	initdb --username="${POSTGRES_USER:-postgres}" --pwfile="$PGDATA.pw"
	rm "$PGDATA.pw"
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi
exec "$@"
