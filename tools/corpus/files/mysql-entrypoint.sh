#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Options alone are the server's.  The server runs as mysql, on a data folder
# that is made when there is none.
set -e
server=mysqld
! command -v mariadbd >/dev/null || server=mariadbd
case ${1:-} in
-*) set -- "$server" "$@" ;;
esac
for word; do
	case $word in
	--help | --version | -V) exec "$@" ;;
	esac
done
if [ "$1" = "$server" ] && [ "$(id -u)" = 0 ]; then
	chown mysql:mysql /var/lib/mysql /var/run/mysqld
	exec gosu mysql "$0" "$@"
fi
if [ "$1" = "$server" ] && [ ! -d /var/lib/mysql/mysql ]; then
	if [ "$server" = mariadbd ]; then
		mysql_install_db --datadir=/var/lib/mysql \
			--skip-test-db >/dev/null
	else
		mysqld --initialize-insecure --datadir=/var/lib/mysql
	fi
	for script in /docker-entrypoint-initdb.d/*.sql; do
		[ ! -e "$script" ] || set -- "$@" "--init-file=$script"
	done
fi
exec "$@"
