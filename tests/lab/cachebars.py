#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cachebars.py CELLS LARGE: what bench-cache.sh measured, against its bars.
CELLS has a line for each links, trace, budget and policy; LARGE is of the
trace with 100,000 layers.  Exits 1 if a bar is missed."""
import collections
import json
import sys

OTHERS = ["lru", "lfu", "gdsf", "arc", "s3fifo", "sieve", "wtinylfu"]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def read(path):
    """{links: {policy: {(trace, budget): (byte hits, objects, saved)}}}"""
    cells = collections.defaultdict(lambda: collections.defaultdict(dict))
    with open(path) as f:
        for line in f:
            v = line.rstrip("\n").split("\t")
            trace = v[1][:-6] if v[1].endswith("-peers") else v[1]
            cells[v[0]][v[3]][trace, v[2]] = [float(x) for x in v[4:]]
    return cells


def table(alone, peers):
    print("%-14s %8s %7s %7s %12s %9s" % (
        "policy", "bytes", "x LRU", "gap", "saved", "ns"))
    lru = mean(v[0] for v in alone["lru"].values())
    best = mean(v[0] for v in alone["belady"].values())
    for policy, values in alone.items():
        m = mean(v[0] for v in values.values())
        print("%-14s %7.2f%% %7.3f %6.1f%% %10.0f s %9.0f" % (
            policy, 100 * m, m / lru, 100 * (m - lru) / (best - lru),
            mean(v[2] for v in peers[policy].values()),
            mean(v[5] for v in values.values())))


def by_budget(alone):
    print("\nbyte hit ratio by budget")
    names = OTHERS + ["ours", "belady"]
    print("".join("%10s" % n for n in ["2-40 %"] + names))
    for b in "01234":
        print("%10s" % ("2 5 10 20 40".split()[int(b)] + " %") + "".join(
            "%9.2f%%" % (100 * mean(v[0] for (_, k), v in alone[n].items()
                                    if k == b)) for n in names))


def main():
    cells = read(sys.argv[1])
    alone, peers = cells["100"], cells["100,400,33%"]
    with open(sys.argv[2]) as f:
        large = json.load(f)["results"]
    table(alone, peers)
    by_budget(alone)

    means = {p: mean(v[0] for v in alone[p].values()) for p in alone}
    other = max(OTHERS, key=lambda p: means[p])
    lost = mean(max(alone[p][k][0] for p in OTHERS) > 1.01 * v[0]
                for k, v in alone["ours"].items())
    gap = (means["ours"] - means["lru"]) / (means["belady"] - means["lru"])
    saved = mean(v[2] for v in peers["ours"].values()) / \
        mean(v[2] for v in peers["gdsf"].values())
    ns = max(r["decision_ns"] for r in large)
    size = max(r["memory"] / r["tracked"] for r in large)
    tracked = max(r["tracked"] for r in large)
    bars = [
        ("byte hit ratio over LRU's", means["ours"] / means["lru"], 1.10, 1),
        ("byte hit ratio over the best other's (%s)" % other,
         means["ours"] / means[other], 1.05, 1),
        ("cells lost to the best other there by > 1 %, per cent",
         100 * lost, 5, -1),
        ("gap from LRU to the bound that is closed, per cent", 100 * gap, 40,
         1),
        ("time saved over GDSF's", saved, 1.0, 1),
        ("ns a decision, %d layers tracked" % tracked, ns, 1000, -1),
        ("bytes a layer", size, 200, -1),
    ]
    print()
    missed = 0
    for what, value, bar, sign in bars:
        met = sign * value >= sign * bar
        missed += not met
        print("%-58s %8.3f  bar %s %g: %s" % (
            what, value, ">=" if sign > 0 else "<=", bar,
            "met" if met else "MISSED"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
