#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What went over the links of sites (sites.sh) while something was deployed.

    linkplot.py sample OUT NETNS...   reads the counters of all devices of these
                                      namespaces each 20 ms until it is ended;
                                      OUT gets lines "seconds namespace device
                                      received sent", where something changed
    linkplot.py plot SAMPLES [TITLE]  an SVG on stdout: a row for each device,
                                      a node's as the node sees it

The namespaces are the sites' routers: "wan" is the uplink, "nN" node N's link,
whose counters on this end are the other way around.
"""
import collections
import ctypes
import os
import sys
import time
from xml.sax.saxutils import escape

PERIOD = 0.02
CLONE_NEWNET = 0x40000000
WIDTH, ROW, LEFT, TOP = 900, 44, 130, 50
DOWN, UP = "#1f77b4", "#d62728"


def counters_of(netns):
    """/proc/net/dev of a namespace: it stays that of who opened it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, \
            open("/run/netns/" + netns) as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), netns)
        fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY)
        if libc.setns(home.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    return fd


def sample(out, names):
    files = [(n, counters_of(n)) for n in names]
    last, start = {}, time.monotonic()
    with open(out, "w", buffering=1 << 16) as f:
        turn = 0
        while os.getppid() != 1:
            now = time.monotonic() - start
            for name, fd in files:
                for line in os.pread(fd, 65536, 0).splitlines()[2:]:
                    dev, _, rest = line.partition(b":")
                    n = rest.split()
                    key, value = (name, dev.strip()), (n[0], n[8])
                    if last.get(key) != value:
                        last[key] = value
                        f.write("%.3f %s %s %d %d\n" % (
                            now, name, dev.strip().decode(),
                            int(n[0]), int(n[8])))
            f.flush()
            turn += 1
            time.sleep(max(0, start + turn * PERIOD - time.monotonic()))


def read(path):
    """{(namespace, device): [(seconds, down, up)]}"""
    rows = collections.defaultdict(list)
    with open(path) as f:
        for line in f:
            t, name, dev, received, sent = line.split()
            if dev not in ("lo", "lan"):
                n = int(received), int(sent)
                rows[name, dev].append(
                    (float(t), *(n if dev == "wan" else n[::-1])))
    return rows


def rates(points, step, end):
    """[(down, up)] in bytes a second, of each step."""
    bins = [[0, 0] for _ in range(int(end / step) + 1)]
    for (_, d0, u0), (t, d1, u1) in zip(points, points[1:]):
        b = bins[min(int(t / step), len(bins) - 1)]
        b[0] += d1 - d0
        b[1] += u1 - u0
    return [(d / step, u / step) for d, u in bins]


def area(values, x, y, wide, high, sign, color):
    points = [f"{x:.1f},{y:.1f}"]
    for i, v in enumerate(values):
        for j in (i, i + 1):
            points.append(f"{x + j * wide:.1f},{y - sign * v * high:.1f}")
    points.append(f"{x + len(values) * wide:.1f},{y:.1f}")
    return f'<polygon points="{" ".join(points)}" fill="{color}"/>'


def plot(path, title):
    rows = read(path)
    names = sorted({name for name, _ in rows})
    moving = [p[0] for v in rows.values() for p, q in zip(v[1:], v)
              if p[1] + p[2] - q[1] - q[2] > 3000]
    begin, end = (min(moving), max(moving)) if moving else (0, 1)
    begin = max(begin - 0.1, 0)
    length = end - begin + 0.1
    step = max(PERIOD, length / 250)
    plotted = []
    for key in sorted(rows, key=lambda k: (k[0], k[1] != "wan", k[1])):
        points = [(t - begin, d, u) for t, d, u in rows[key]]
        before = [p for p in points if p[0] < 0][-1:]
        plotted.append((key, rates(
            [(0, *p[1:]) for p in before] + [p for p in points if p[0] >= 0],
            step, length), points[-1][1] - (before or points)[0][1],
            points[-1][2] - (before or points)[0][2]))
    height = TOP + ROW * len(plotted) + 40
    wide = (WIDTH - LEFT - 130) / (length / step + 1)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
           f'<text x="{LEFT}" y="38"><tspan fill="{DOWN}">down</tspan>, '
           f'<tspan fill="{UP}">up</tspan>; full height of a row: its most, '
           "Mbit/s at the right</text>"]
    for i, ((name, dev), values, down, up) in enumerate(plotted):
        y = TOP + ROW * i + ROW * 0.62
        most = max([max(v) for v in values] + [1])
        high = ROW * 0.55 / most
        site = "site " + str(names.index(name) + 1)
        label = site + (" uplink" if dev == "wan" else f" node {dev[1:]}")
        weight = "bold" if dev == "wan" else "normal"
        svg += [f'<text x="8" y="{y:.1f}" font-weight="{weight}">'
                f'{escape(label)}</text>',
                area([v[0] for v in values], LEFT, y, wide, high, 1, DOWN),
                area([v[1] for v in values], LEFT, y, wide, high * 0.6, -1,
                     UP),
                f'<text x="{WIDTH - 122}" y="{y - 6:.1f}">'
                f"{most * 8 / 1e6:.0f} Mbit/s</text>",
                f'<text x="{WIDTH - 122}" y="{y + 8:.1f}">'
                f"{down / 1e6:.1f} / {up / 1e6:.1f} MB</text>"]
    y = height - 30
    for k in range(6):
        x = LEFT + (WIDTH - LEFT - 130) * k / 5
        svg += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{y}" '
                'stroke="#ccc" stroke-width="0.5"/>',
                f'<text x="{x - 8:.1f}" y="{y + 14}">'
                f"{length * k / 5:.2f} s</text>"]
    print("\n".join(svg + ["</svg>"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["sample"] and len(sys.argv) > 3:
        sample(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["plot"] and len(sys.argv) in (3, 4):
        plot(sys.argv[2], (sys.argv + [sys.argv[2]])[3])
    else:
        sys.exit(__doc__)
