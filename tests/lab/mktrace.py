#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a trace of pulls at one site in the format of the IBM registry traces
(Anwar et al., "Improving Docker Registry Design based on Production Workload
Analysis", FAST'18), one request a line, on stdout.

From that paper: four fifths of the requests are pulls; popularity of
repositories and layers is skewed (Zipf); most layers are small (two thirds
below 1 MB, four fifths below 10 MB); requests follow the day; a manifest's GET
is followed by those of its layers.  From Zhao et al., "Large-Scale Analysis of
the Docker Hub Dataset", CLUSTER'19: a median of 8 layers an image; few layers,
those of the official bases, are shared by many images, most by none.  Sizes of
bases are the corpus's (layersizes.tsv), and so are half of the others'.

Assumed, since neither says it for one site: a repository gets a new version
after --update days in the mean (exponential), which keeps a geometric number
of its own layers; bases get theirs every 30 days, and a repository moves to
its base's newest with every second version; 85 % of the pulls are of the
newest version, the others of the last five; each day a share --drift of the
repositories trade places in popularity.
"""
import argparse
import bisect
import hashlib
import itertools
import json
import math
import os
import random
import sys
import time

DAY = 86400
START = 1497916800  # 2017-06-20, the first day of the published traces
HERE = os.path.dirname(os.path.realpath(__file__))


def corpus():
    """Stacks of layer sizes, the lowest first."""
    with open(os.path.join(HERE, "layersizes.tsv")) as f:
        return [[int(n) for n in line.split("\t")[1].split()]
                for line in f if not line.startswith("#")]


class Sizes:
    """Of a layer that is a repository's own."""

    def __init__(self, rng, stacks):
        self.rng = rng
        self.real = [n for s in stacks for n in s[1:]]

    def draw(self):
        if self.rng.random() < 0.5:
            n = self.rng.choice(self.real) * self.rng.uniform(0.5, 1.5)
        else:  # its median and quantiles are FAST'18's, fig. 4
            n = self.rng.lognormvariate(math.log(250e3), 2.6)
        return int(min(max(n, 100), 1 << 30))


class Namer:
    def __init__(self, seed):
        self.seed, self.n = seed, 0

    def layer(self, size):
        self.n += 1
        text = "%d %d" % (self.seed, self.n)
        return hashlib.sha256(text.encode()).hexdigest(), size


class Base:
    """An official image: a stack whose versions share nothing below the layer
    that changed."""

    def __init__(self, rng, namer, sizes):
        self.namer, self.rng = namer, rng
        self.layers = [namer.layer(n) for n in sizes]

    def update(self):
        keep = 0 if self.rng.random() < 0.7 else \
            self.rng.randrange(len(self.layers))
        self.layers = self.layers[:keep] + [
            self.namer.layer(max(100, int(n * self.rng.uniform(0.9, 1.1))))
            for _, n in self.layers[keep:]]


class Repository:
    def __init__(self, rng, namer, sizes, number, bases):
        self.rng, self.namer, self.sizes = rng, namer, sizes
        self.name = "org%d/app%d" % (number % 97, number)
        self.base = rng.choices(
            bases, [1 / (k + 1) for k in range(len(bases))])[0] \
            if bases else None
        self.below = list(self.base.layers) if self.base else []
        own = 1 + min(30, int(rng.lognormvariate(math.log(4), 0.7)))
        self.own = [namer.layer(sizes.draw()) for _ in range(own)]
        self.versions = []
        self.publish()

    def publish(self):
        text = "".join(d for d, _ in self.below + self.own)
        self.versions.append((hashlib.sha256(text.encode()).hexdigest(),
                              self.below + self.own))
        del self.versions[:-6]

    def update(self):
        if self.base and self.rng.random() < 0.5 and \
                self.below != self.base.layers:
            self.below = list(self.base.layers)
            keep = 0
        else:  # the uppermost change most often
            changed = 1
            while changed < len(self.own) and self.rng.random() < 0.6:
                changed += 1
            keep = len(self.own) - changed
        self.own = self.own[:keep] + [
            self.namer.layer(max(100, int(n * self.rng.uniform(0.8, 1.25))))
            for _, n in self.own[keep:]]
        self.publish()

    def pick(self):
        if self.rng.random() < 0.85 or len(self.versions) == 1:
            return self.versions[-1]
        return self.rng.choice(self.versions[:-1])


def moments(rng, n, days):
    """Times of pulls: three times as many at the day's height as at night, and
    fewer at weekends."""
    out = []
    while len(out) < n:
        t = rng.uniform(0, days * DAY)
        weight = 0.5 + 0.25 * (1 - math.cos(2 * math.pi * (t / DAY - 0.1)))
        if int(t / DAY + 1) % 7 in (4, 5):
            weight *= 0.6
        if rng.random() < weight:
            out.append(t)
    return sorted(out)


def stamp(t):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START + int(t)))
    return "%s.%03dZ" % (whole, int(t * 1000) % 1000)


class Writer:
    def __init__(self, rng, out):
        self.rng, self.out = rng, out

    def line(self, t, method, uri, written, client, status=200):
        self.out.write(json.dumps({
            "host": "registry", "http.request.duration":
            round(0.02 + written / 12.5e6, 4),
            "http.request.method": method,
            "http.request.remoteaddr": client, "http.request.uri": uri,
            "http.response.status": status,
            "http.response.written": written, "timestamp": stamp(t)}) + "\n")

    def pull(self, t, repo, version, client):
        self.line(t, "GET", "v2/%s/manifests/%s" % (repo.name, version[0]),
                  400 + 120 * len(version[1]), client)
        for digest, size in version[1]:
            t += 0.001
            self.line(t, "GET", "v2/%s/blobs/%s" % (repo.name, digest), size,
                      client)

    def other(self, t, repo, client):
        """What is no pull: a look whether something is there, or a push."""
        digest, size = repo.versions[-1][1][-1]
        if self.rng.random() < 0.6:
            self.line(t, "HEAD", "v2/%s/blobs/%s" % (repo.name, digest), 0,
                      client)
        else:
            self.line(t, "PUT", "v2/%s/blobs/uploads/%s" %
                      (repo.name, digest), size, client, 201)


def arguments():
    p = argparse.ArgumentParser(prog="mktrace.py", description=__doc__)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--pulls", type=int, default=15000)
    p.add_argument("--days", type=float, default=30)
    p.add_argument("--repositories", type=int, default=300)
    p.add_argument("--skew", type=float, default=0.9,
                   help="Zipf's exponent (%(default)s)")
    p.add_argument("--drift", type=float, default=0.02,
                   help="share of repositories that trade places a day "
                        "(%(default)s)")
    p.add_argument("--update", type=float, default=10,
                   help="days between a repository's versions (%(default)s)")
    p.add_argument("--sharing", type=float, default=0.8,
                   help="share of repositories on official bases "
                        "(%(default)s)")
    return p.parse_args()


class World:
    def __init__(self, a):
        self.a, self.rng = a, random.Random(a.seed)
        namer, stacks = Namer(a.seed), corpus()
        sizes = Sizes(self.rng, stacks)
        self.bases = [Base(self.rng, namer, s) for s in
                      self.rng.sample(stacks, len(stacks))]
        self.repos = [Repository(
            self.rng, namer, sizes, k,
            self.bases if self.rng.random() < a.sharing else None)
            for k in range(a.repositories)]
        self.rng.shuffle(self.repos)
        self.cumulative = list(itertools.accumulate(
            1 / (k + 1) ** a.skew for k in range(a.repositories)))
        self.day = 0
        self.due = [(self.rng.expovariate(1 / a.update), r)
                    for r in self.repos] + \
                   [(self.rng.expovariate(1 / 30), b) for b in self.bases]
        self.due.sort(key=lambda d: d[0])

    def popular(self):
        x = self.rng.random() * self.cumulative[-1]
        return self.repos[bisect.bisect(self.cumulative, x)]

    def go_on(self, t):
        """To this moment: drift by the day, versions when they are due."""
        while self.day < t / DAY:
            self.day += 1
            for _ in range(round(self.a.drift * len(self.repos) / 2)):
                i, j = self.rng.sample(range(len(self.repos)), 2)
                self.repos[i], self.repos[j] = self.repos[j], self.repos[i]
        while self.due[0][0] * DAY < t:
            when, what = self.due.pop(0)
            what.update()
            mean = 30 if isinstance(what, Base) else self.a.update
            bisect.insort(self.due,
                          (when + self.rng.expovariate(1 / mean), what),
                          key=lambda d: d[0])

    def write(self, out):
        w = Writer(self.rng, out)
        for t in moments(self.rng, self.a.pulls, self.a.days):
            self.go_on(t)
            repo = self.popular()
            version = repo.pick()
            client = "client%d" % self.rng.randrange(200)
            w.pull(t, repo, version, client)
            for _ in range(len(version[1]) + 1):
                if self.rng.random() < 0.25:
                    w.other(t, self.popular(), client)


if __name__ == "__main__":
    try:
        World(arguments()).write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)
