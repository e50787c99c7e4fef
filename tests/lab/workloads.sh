#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What benches start: an image of mkimage.sh, a command in it, and the line of
# its output by which it is known to have started.  Sourced.
#
#	workload NAME    sets IMAGE, CMD, SEEN (a regex), STAYS (1: it is a
#	                 server, and runs until it is told to end)

# shellcheck disable=SC2034
workload()
{
	IMAGE=$1 STAYS=0
	case $1 in
	python)
		IMAGE=bench
		CMD=(python3 -c 'print(1)')
		SEEN='^1$'
		;;
	redis)
		CMD=(redis-server --save '')
		STAYS=1
		SEEN='Ready to accept connections'
		;;
	node)
		CMD=(node -e 'console.log(1)')
		SEEN='^1$'
		;;
	nginx)
		CMD=(nginx -t)
		SEEN='test is successful'
		;;
	*)
		bail "no such workload: $1"
		;;
	esac
}
