#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The server, or one of its tools by class: cassandra --tool CLASS ARG...
class=org.apache.cassandra.service.CassandraDaemon
if [ "${1:-}" = --tool ]; then
	class=$2
	shift 2
fi
exec java -cp "$CASSANDRA_CONF:$CASSANDRA_HOME/lib/*" \
	-Dcassandra.storagedir=/var/lib/cassandra "$class" "$@"
