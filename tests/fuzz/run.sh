#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs one libFuzzer program for FUZZ_TIME seconds from its saved corpus.  What
# it finds that is new goes into $B; a crash is kept there and named, to be
# copied into tests/fuzz/corpus/ together with the fix.
set -euo pipefail

program=$1
name=$(basename "$program" .fuzzer)
name=${name#fuzz-}
work=${B:-build}/corpus/$name
seeds=tests/fuzz/corpus/$name
mkdir -p "$work"
dirs=("$work")
[ ! -d "$seeds" ] || dirs+=("$seeds")
echo "fuzz $name: ${FUZZ_TIME:-20} s"
"$program" -max_total_time="${FUZZ_TIME:-20}" -rss_limit_mb=1024 -timeout=10 \
	-print_final_stats=1 -artifact_prefix="$work.crash-" "${dirs[@]}" \
	>"$work.log" 2>&1 || {
	tail -40 "$work.log"
	echo "fuzz $name: FAILED, input kept as $work.crash-*"
	exit 1
}
grep -E 'number_of_executed_units|peak_rss' "$work.log" || :
