#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts commands on many nodes at once, and says when each had come where it
was to come.

    fleet.py [--seen REGEX] [--stays] [--timeout S] [--logs DIR] [--stat FILE]

stdin has a line for each: NAME, a tab, a shell command.  With --seen, a command
has come there when a line of its output matches; without, when it ends with
status 0.  With --stays it is then told to end (a server); else it must end by
itself, with status 0.

stdout has a line for each, as soon as it is there: NAME, seconds from the start
of the first, "ok"; or what went wrong instead.  What a command printed is in
DIR/NAME.out.  FILE gets a JSON line of what the machine's CPUs did until the
last came: seconds, shares of idle, and of stolen.
"""
import argparse
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time


def cpu():
    """Jiffies of all CPUs: (all, idle, stolen)."""
    with open("/proc/stat") as f:
        n = [int(x) for x in f.readline().split()[1:9]]
    return sum(n), n[3] + n[4], n[7]


class Member:
    def __init__(self, name, command, opts):
        self.name = name
        self.opts = opts
        self.came = None
        self.told = False  # of its line
        self.rest = b""
        self.out = open(os.path.join(opts.logs, name + ".out"), "wb")
        self.process = subprocess.Popen(
            ["bash", "-c", command], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True)

    def read(self):
        """Whether there may be more."""
        data = os.read(self.process.stdout.fileno(), 65536)
        now = time.monotonic()
        self.out.write(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        if self.opts.seen and self.came is None and any(
                self.opts.seen.search(s.decode("utf-8", "replace"))
                for s in lines):
            self.came = now
            if self.opts.stays:
                self.signal(signal.SIGTERM)
        return bool(data)

    def signal(self, n):
        try:
            os.killpg(self.process.pid, n)
        except ProcessLookupError:
            pass

    def end(self):
        """Its output is at its end."""
        self.out.close()
        try:
            status = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            status = self.process.wait()
        if not self.opts.seen and status == 0:
            self.came = time.monotonic()
        return status

    def line(self, start, what):
        seconds = "-" if self.came is None else f"{self.came - start:.3f}"
        print(self.name, seconds, what, sep="\t", flush=True)
        self.told = True


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--seen", type=re.compile)
    p.add_argument("--stays", action="store_true")
    p.add_argument("--timeout", type=float, default=600)
    p.add_argument("--logs", required=True)
    p.add_argument("--stat")
    return p.parse_args()


def main():
    opts = options()
    commands = [s.rstrip("\n").split("\t", 1) for s in sys.stdin]
    os.makedirs(opts.logs, exist_ok=True)
    before, start = cpu(), time.monotonic()
    selector = selectors.DefaultSelector()
    fleet = [Member(*c, opts) for c in commands]
    for m in fleet:
        selector.register(m.process.stdout, selectors.EVENT_READ, m)
    failed = 0
    waiting, after, last = len(fleet), None, start
    while selector.get_map():
        left = start + opts.timeout - time.monotonic()
        for key, _ in selector.select(max(left, 0)) if left > 0 else ():
            m = key.data
            had, more = m.came, m.read()
            if not more:
                selector.unregister(m.process.stdout)
                status = m.end()
                good = status == 0 or (opts.stays and m.came)
                if not good or m.came is None:
                    failed += 1
                    m.line(start, f"status {status}" +
                           ("" if m.came else ", never came there"))
                elif not m.told:
                    m.line(start, "ok")
            if (had is None and m.came is not None) or (
                    not more and m.came is None):
                waiting -= 1
                if waiting == 0:
                    after, last = cpu(), time.monotonic()
        if left <= 0:
            for key in list(selector.get_map().values()):
                m = key.data
                m.signal(signal.SIGKILL)
                m.process.wait()
                m.line(start, "timed out")
                failed += 1
            break
    after = after or cpu()
    if opts.stat:
        every = max(after[0] - before[0], 1)
        with open(opts.stat, "w") as f:
            json.dump({"seconds": round(last - start, 3),
                       "idle": round((after[1] - before[1]) / every, 3),
                       "stolen": round((after[2] - before[2]) / every, 3)}, f)
            f.write("\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
