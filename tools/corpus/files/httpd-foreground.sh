#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Debian's Apache as the container's one program.
set -e
rm -f /usr/local/apache2/logs/httpd.pid
export APACHE_RUN_USER=www-data APACHE_RUN_GROUP=www-data
export APACHE_PID_FILE=/usr/local/apache2/logs/httpd.pid
export APACHE_RUN_DIR=/var/run/apache2 APACHE_LOCK_DIR=/var/lock/apache2
export APACHE_LOG_DIR=/var/log/apache2
mkdir -p "$APACHE_RUN_DIR" "$APACHE_LOCK_DIR"
exec httpd -d /usr/local/apache2/conf -f apache2.conf -DFOREGROUND "$@"
