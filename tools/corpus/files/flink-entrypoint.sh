#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The parts of a cluster by their names; anything else is a command.
set -e
export FLINK_CONF_DIR="${FLINK_CONF_DIR:-$FLINK_HOME/conf}"
part=org.apache.flink.runtime
case ${1:-help} in
help)
	echo "Usage: (jobmanager|taskmanager|help)"
	exit 0
	;;
jobmanager) class=$part.entrypoint.StandaloneSessionClusterEntrypoint ;;
taskmanager) class=$part.taskexecutor.TaskManagerRunner ;;
*) exec "$@" ;;
esac
shift
[ "$(id -u)" != 0 ] || set -- gosu flink java -cp "$FLINK_HOME/lib/*" \
	"$class" --configDir "$FLINK_CONF_DIR" "$@"
[ "$1" = gosu ] || set -- java -cp "$FLINK_HOME/lib/*" "$class" \
	--configDir "$FLINK_CONF_DIR" "$@"
exec "$@"
