#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mksecond.py ROOT OUT: the tree below ROOT as three tars OUT/{a,b,c}.tar.

Files are dealt to the three by a checksum of their paths, so that no layer is
like one that ROOT came from.  One regular file in ten gets other content of the
same length: every tenth in the order of their sizes, so that it is one in ten
of the bytes as well.  Prints how many bytes are new.
"""
import hashlib
import io
import os
import stat
import sys
import tarfile


def walk(root):
    """(path, its lstat), folders before what is in them."""
    for folder, dirs, files in os.walk(root):
        dirs.sort()
        links = [d for d in dirs if os.path.islink(os.path.join(folder, d))]
        for name in [""] + sorted(files + links):
            path = os.path.join(folder, name) if name else folder
            yield path, os.lstat(path)


def other_content(seed, size):
    blocks = (size + 31) // 32
    return b"".join(hashlib.sha256(seed + b"%d" % i).digest()
                    for i in range(blocks))[:size]


def main():
    root, out = sys.argv[1:]
    tars = [tarfile.open(os.path.join(out, n + ".tar"), "w",
                         format=tarfile.PAX_FORMAT) for n in "abc"]
    entries = list(walk(root))
    files = sorted((st.st_size, path) for path, st in entries
                   if stat.S_ISREG(st.st_mode) and st.st_size)
    changed = {path for _, path in files[5::10]}
    new = 0
    for path, st in entries:
        rel = os.path.relpath(path, root)
        seed = hashlib.sha256(os.fsencode(rel)).digest()
        # Folders go to all three: tar makes parents otherwise.
        for t in tars if stat.S_ISDIR(st.st_mode) else [tars[seed[0] % 3]]:
            info = t.gettarinfo(path, "./" + rel)
            if info.islnk():
                info.type, info.linkname = tarfile.REGTYPE, ""
                info.size = st.st_size
            if not stat.S_ISREG(st.st_mode):
                t.addfile(info)
            elif path in changed:
                new += st.st_size
                t.addfile(info, io.BytesIO(other_content(seed, st.st_size)))
            else:
                with open(path, "rb") as f:
                    t.addfile(info, f)
    for t in tars:
        t.close()
    print(new)


if __name__ == "__main__":
    main()
