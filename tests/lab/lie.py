#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a start blob into one that lies about where everything is.

    lie.py BLOB HEADSIZE OUTDIR

Every file's content is said to be a byte before where it is; all digests are
right.  Writes the blob and an index that refers to it (referrers.json) into
OUTDIR.  The grammar: fetch/startwrite.c.
"""
import hashlib
import json
import os
import struct
import subprocess
import sys

blob, head_size, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with open(blob, "rb") as f:
    data = f.read()
head = subprocess.run(["zstd", "-qdc"], input=data[:head_size], check=True,
                      stdout=subprocess.PIPE).stdout
sizes = struct.unpack("<QQQQ", head[8:40])
at = 40 + sizes[0] + sizes[1]
places = head[at:at + sizes[2]]


class Reader:
    def __init__(self):
        self.pos = 0

    def num(self):
        value = shift = 0
        while True:
            b = places[self.pos]
            self.pos += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    def skip(self, n):
        self.pos += n


def put(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


r = Reader()
for _ in range(r.num()):  # blobs
    r.skip(32)
    r.num()
    r.num()
    for _ in range(r.num()):  # spans
        r.num()
        r.num()
        r.num()
        if r.num() & 8:
            r.num()
for _ in range(r.num()):  # files
    if r.num() == 0:
        continue
    r.num()
    r.num()
    begin = r.pos
    z = r.num()
    raw = z >> 1 if not z & 1 else -(z + 1 >> 1)
    raw -= 1
    assert raw >= 0
    places = places[:begin] + put(raw << 1) + places[r.pos:]
    break
plain = (head[:8] + struct.pack("<QQQQ", sizes[0], sizes[1], len(places),
                                sizes[3]) +
         head[40:at] + places + head[at + sizes[2]:])
name = os.path.join(out, "head")
with open(name, "wb") as f:
    f.write(plain)
packed = subprocess.run(["zstd", "-qc", name], check=True,
                        stdout=subprocess.PIPE).stdout
os.unlink(name)
lie = packed + data[head_size:]
digest = hashlib.sha256(lie).hexdigest()
with open(os.path.join(out, digest), "wb") as f:
    f.write(lie)
KIND = "application/vnd.quicklayer.start.v1"
with open(os.path.join(out, "referrers.json"), "w") as f:
    json.dump({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:" + hashlib.sha256(b"x").hexdigest(),
            "size": 1, "artifactType": KIND,
            "annotations": {"io.quicklayer.start": "sha256:%s %d %d sha256:%s" %
                            (digest, len(lie), len(packed),
                             hashlib.sha256(packed).hexdigest())}}]}, f)
