#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How much of a filesystem is used at most, looked at every 10 ms:

    watch-used.py FOLDER BASE FILE

FILE gets "BYTES LEAST-FREE LOOKS", anew whenever one of the first two changes,
and when SIGTERM ends it.  BYTES are those used beyond BASE.
"""
import os
import signal
import sys
import time

folder, base, out = sys.argv[1:]
base = int(base)


def look():
    v = os.statvfs(folder)
    return ((v.f_blocks - v.f_bfree) * v.f_frsize, v.f_bavail * v.f_frsize)


def say():
    with open(out + ".new", "w") as f:
        print(most, least, looks, file=f)
    os.rename(out + ".new", out)


def end(_number, _frame):
    say()
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
least = look()[1]
most, looks = 0, 0
say()
while True:
    used, free = look()
    looks += 1
    if used - base > most or free < least:
        most, least = max(most, used - base), min(least, free)
        say()
    time.sleep(0.01)
