#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A layer with many files, as a tar on standard output.

    bigtree.py FILES [SEED]

About 25 files a folder, folders four deep, names and sizes like those of a
distribution's /usr: what a first walk over a large image has to read.  One in
five files has content of its own.  Always the same for the same SEED; of
others the files with content of their own, and their names, are different.
"""
import io
import random
import sys
import tarfile

PER_FOLDER = 25


def main():
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    random.seed(seed)
    out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|",
                       format=tarfile.GNU_FORMAT)
    made = set()

    def folder(path):
        if path in made:
            return
        if "/" in path:
            folder(path.rsplit("/", 1)[0])
        made.add(path)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
        out.addfile(info)

    for n in range(count):
        f = n // PER_FOLDER
        path = "usr/share/group-%02d/package-%03d/part-%d" % (
            f % 40, f // 40, f % 3)
        folder(path)
        info = tarfile.TarInfo("%s/file-%06d.%s" % (
            path, n, random.choice(["py", "so", "txt", "h", "json"])))
        kind = n if n % 5 == 0 else n % 500
        if n % 5 == 0 and seed != 1:
            kind += seed * 10_000_000
        data = (b"%d\n" % kind) * random.Random(kind).randrange(1, 300)
        info.size, info.mode = len(data), random.choice([0o644, 0o755])
        info.mtime = 1_600_000_000 + n
        out.addfile(info, io.BytesIO(data))
    out.close()


main()
