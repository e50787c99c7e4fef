#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small root file system with one of everything, as a folder.

    oddtree.py DIR

Needs root (owners, devices, capabilities).  Always the same: names of 255
bytes and of no character set, setuid, devices, a FIFO, hardlinks, symlinks,
xattrs and a file capability, an ACL, times with nanoseconds and before 1970,
empty, small (kept in the image) and large files, and a large directory.
"""
import os
import stat
import struct
import sys

LARGE = 3 * 1024 * 1024 + 17


def write(path, data, mode=0o644):
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


def acl(path):
    """u::rw-, u:1234:rw-, g::---, m::rw-, o::--- (acl(5), version 2)."""
    none = 0xffffffff
    entries = [(1, 6, none), (2, 6, 1234), (4, 0, none), (16, 6, none),
               (32, 0, none)]
    value = struct.pack("<I", 2)
    for entry in entries:
        value += struct.pack("<HHI", *entry)
    os.setxattr(path, b"system.posix_acl_access", value)


def main():
    top = os.fsencode(sys.argv[1])
    os.makedirs(top, exist_ok=True)
    os.chdir(top)
    for d in (b"bin", b"etc", b"data", b"many", b"deep/er/and/deeper", b"aa"):
        os.makedirs(d)
    write(b"etc/empty", b"")
    write(b"etc/small", b"kept in the image\n")
    pattern = bytes(range(256)) * (LARGE // 256 + 1)
    write(b"data/large", pattern[:LARGE])
    write(b"data/page", pattern[:4096])
    os.link(b"data/large", b"data/large-again")
    os.symlink(b"../data/large", b"etc/link")
    os.symlink(b"/nowhere/at/all", b"etc/dangling")
    os.symlink(b"x" * 3000, b"etc/long-link")
    os.mknod(b"data/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(b"data/null", 0o666)
    os.mkfifo(b"data/fifo", 0o640)
    write(b"data/" + b"n" * 255, b"long name")
    write(b"data/\xff\xfe caf\xc3\xa9\n", b"odd name")
    write(b"aa/in", b"not hidden")
    write(b"bin/setuid", b"#!/bin/sh\n", 0o4755)
    write(b"data/owned", b"x" * 100)
    os.chown(b"data/owned", 70000, 80000)
    write(b"data/attrs", b"y" * 100)
    os.setxattr(b"data/attrs", b"user.key", b"value\x00\xff")
    os.setxattr(b"data/attrs", b"trusted.secret", b"s")
    write(b"bin/capable", b"z" * 100, 0o755)
    os.setxattr(b"bin/capable", b"security.capability",
                struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
    write(b"data/acl", b"for 1234 only\n", 0o600)
    acl(b"data/acl")
    for i in range(2000):
        write(b"many/file-%04d" % i, b"%d" % i)
    for path, ns in ((b"etc/small", 1_700_000_000_123_456_789),
                     (b"etc/empty", -5_000_000_001), (b"data/large", 0),
                     (b"deep", 4_000_000_000_000_000_000)):
        os.utime(path, ns=(ns, ns))


main()
