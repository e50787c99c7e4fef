#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An archive on standard output that is small and asks for much.

    mkbomb.py size       a file that says it has a PiB
    mkbomb.py sparse     a sparse file of a PiB with a byte in it
    mkbomb.py xattrs     a GiB of extended attributes
    mkbomb.py links      half a GiB of one link's targets, each in place of the last
    mkbomb.py entries    a few more entries than any layer may have
    mkbomb.py backwards  200,000 names of one folder, last first (this is none)
"""
import sys
import tarfile

PIB = 1 << 50


def names(numbers):
    """Headers of empty files; made by hand, tarfile takes a minute."""
    blank = tarfile.TarInfo("f" * 8).tobuf()
    at = 148  # of the checksum, which is of the header with blanks there
    rest = sum(blank[8:at]) + 8 * 32 + sum(blank[at + 8:])
    for n in numbers:
        name = b"f%07d" % n
        total = b"%06o\0 " % (sum(name) + rest)
        yield name + blank[8:at] + total + blank[at + 8:]


def headers(kind):
    if kind == "size":
        info = tarfile.TarInfo("large")
        info.size = PIB
        yield info.tobuf(tarfile.GNU_FORMAT)
        for _ in range(64):
            yield bytes(1 << 20)
    elif kind == "sparse":
        info = tarfile.TarInfo("sparse")
        info.size = 1
        info.pax_headers = {
            "GNU.sparse.map": "%d,1" % (PIB - 1),
            "GNU.sparse.size": str(PIB),
        }
        yield info.tobuf(tarfile.PAX_FORMAT) + b"x" + bytes(511)
    elif kind == "xattrs":
        for i in range(1 << 15):
            info = tarfile.TarInfo("f%d" % i)
            info.pax_headers = {"SCHILY.xattr.user.x": "x" * (1 << 15)}
            yield info.tobuf(tarfile.PAX_FORMAT)
    elif kind == "links":
        info = tarfile.TarInfo("link")
        info.type = tarfile.LNKTYPE
        info.linkname = "x/" * 2000
        header = info.tobuf(tarfile.PAX_FORMAT)
        for _ in range(1 << 17):
            yield header
    elif kind == "entries":
        yield from names(range((1 << 20) + 2))
    else:
        yield from names(range(200000, 0, -1))


for data in headers(sys.argv[1]):
    sys.stdout.buffer.write(data)
sys.stdout.buffer.write(bytes(1024))
