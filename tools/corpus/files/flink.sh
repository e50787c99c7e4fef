#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Flink's command line.
export FLINK_CONF_DIR="${FLINK_CONF_DIR:-$FLINK_HOME/conf}"
exec java "-Dlog4j.configurationFile=$FLINK_CONF_DIR/log4j-console.properties" \
	-cp "$FLINK_HOME/lib/*" org.apache.flink.client.cli.CliFrontend "$@"
