#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a folder's tree as text, one line an entry, to be compared by diff.

    dumptree.py ROOT [--ignore FILE] [--no-root] [--no-nlink]

Everything that a container could see: type, mode, owner, size, mtime to the
nanosecond, symlink targets, device numbers, xattrs, a checksum of the content,
and which names are one file (hardlinks, named by the first of them).  Names
are bytes, shown as Python shows them.  --ignore leaves attributes of some
paths out ({path: [attribute]}, mktree.py).
"""
import argparse
import hashlib
import json
import os
import stat

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link",
         stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket"}
# What a file system or a mount of one shows of its own accord.
NOT_OURS = (b"trusted.overlay.", b"user.overlay.", b"system.", b"security.selinux")


def walk(root):
    """Paths below root, the root itself first, in byte order."""
    stack = [b""]
    while stack:
        path = stack.pop()
        yield path
        full = os.path.join(root, path) if path else root
        if stat.S_ISDIR(os.lstat(full).st_mode):
            names = sorted(os.listdir(full), reverse=True)
            stack.extend(path + b"/" + n if path else n for n in names)


def checksum(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 18), b""):
            h.update(block)
    return h.hexdigest()


def xattrs(path):
    out = []
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        raw = os.fsencode(name)
        if not raw.startswith(NOT_OURS):
            out.append("%s=%s" % (name, os.getxattr(
                path, name, follow_symlinks=False).hex()))
    return ",".join(out) or "-"


def describe(full, st, nlink):
    kind = stat.S_IFMT(st.st_mode)
    d = {"type": TYPES.get(kind, "?"), "mode": "%04o" % (st.st_mode & 0o7777),
         "uid": st.st_uid, "gid": st.st_gid, "mtime": st.st_mtime_ns}
    if kind != stat.S_IFDIR:
        d["size"] = st.st_size
        if nlink:
            d["nlink"] = st.st_nlink
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        d["rdev"] = "%d:%d" % (os.major(st.st_rdev), os.minor(st.st_rdev))
    if kind == stat.S_IFLNK:
        d["target"] = repr(os.readlink(full))[1:]
    if kind == stat.S_IFREG:
        d["sha256"] = checksum(full)
    d["xattrs"] = xattrs(full)
    return d


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("root", type=os.fsencode)
    p.add_argument("--ignore")
    p.add_argument("--no-root", action="store_true")
    p.add_argument("--no-nlink", action="store_true")
    a = p.parse_args()
    ignore = {}
    if a.ignore:
        with open(a.ignore) as f:
            ignore = json.load(f)
    first = {}
    for path in walk(a.root):
        if a.no_root and not path:
            continue
        full = os.path.join(a.root, path) if path else a.root
        st = os.lstat(full)
        d = describe(full, st, not a.no_nlink)
        if not stat.S_ISDIR(st.st_mode):
            same = first.setdefault((st.st_dev, st.st_ino), path)
            if same != path:
                d["same-as"] = repr(same)[1:]
        for field in ignore.get(path.decode("latin-1"), []):
            d.pop(field, None)
        print(repr(path)[1:], " ".join("%s=%s" % kv for kv in d.items()))


if __name__ == "__main__":
    main()
