#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mksecond.py ROOT OUT: the tree below ROOT as three tars OUT/{a,b,c}.tar.

Files are dealt to the three by a checksum of their paths, so that no layer is
like one that ROOT came from; one regular file in ten (by count and by bytes)
gets other content of the same length.  Prints how many bytes are new.
"""
import hashlib
import io
import os
import stat
import sys
import tarfile


def main():
    root, out = sys.argv[1:]
    tars = [tarfile.open(os.path.join(out, n + ".tar"), "w",
                         format=tarfile.PAX_FORMAT) for n in "abc"]
    total = new = 0
    for folder, dirs, files in os.walk(root):
        dirs.sort()
        for name in sorted(files + [d for d in dirs if os.path.islink(
                os.path.join(folder, d))]) + [""]:
            path = os.path.join(folder, name) if name else folder
            st = os.lstat(path)
            rel = os.path.relpath(path, root)
            seed = hashlib.sha256(os.fsencode(rel)).digest()
            # Folders go to all three: tar makes parents otherwise.
            for t in tars if not name else [tars[seed[0] % 3]]:
                info = t.gettarinfo(path, "./" + rel)
                if info.islnk():
                    info.type, info.linkname = tarfile.REGTYPE, ""
                    info.size = st.st_size
                if not stat.S_ISREG(st.st_mode):
                    t.addfile(info)
                    continue
                total += st.st_size
                # By bytes, not by luck: whichever is behind its share.
                if new + st.st_size <= total // 10:
                    new += st.st_size
                    blocks = (st.st_size + 31) // 32
                    data = b"".join(
                        hashlib.sha256(seed + b"%d" % i).digest()
                        for i in range(blocks))[:st.st_size]
                    t.addfile(info, io.BytesIO(data))
                else:
                    with open(path, "rb") as f:
                        t.addfile(info, f)
    for t in tars:
        t.close()
    print(new)


if __name__ == "__main__":
    main()
