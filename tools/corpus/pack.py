# SPDX-License-Identifier: Apache-2.0
"""An overlay's upper folder as the tar of a layer, the same each time.

A package's files keep the times that the package gives them.  What was made
while the layer was made (its time is not before the step began) gets the
image's own time, as builders do that honour SOURCE_DATE_EPOCH; what no two
runs make alike (logs, caches that hold inode numbers) goes.  Both happen in
the folder itself, as layers above copy from it.

Entries are as Docker writes them: sorted, no leading "./", times of whole
seconds, numeric owners, whiteouts as OCI image-spec layer.md has them.

    pack.py DIR TAR     packs alone, for other builders
"""
import glob
import os
import stat
import sys
import tarfile

import steady

GENERATED = (
    "var/log/dpkg.log", "var/log/alternatives.log", "var/log/bootstrap.log",
    "var/log/apt/*", "var/log/fontconfig.log", "var/cache/apt/*.bin",
    "var/cache/ldconfig/aux-cache", "var/cache/fontconfig/*",
    "var/lib/dbus/machine-id", "etc/machine-id", "etc/.pwd.lock",
    "usr/share/fonts/**/.uuid", "usr/lib/jvm/*/lib/server/*.jsa",
    "root/.wget-hsts", "root/.npm")
OPAQUE = "trusted.overlay.opaque"
KEPT_XATTRS = ("security.capability", "user.")


def is_whiteout(st):
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def generated(top):
    for pattern in GENERATED:
        yield from glob.glob(os.path.join(glob.escape(top), pattern),
                             recursive=True)
    # What Python compiles differs by how often it used which object.
    for d, dirs, _ in os.walk(top):
        if "__pycache__" in dirs:
            yield os.path.join(d, "__pycache__")


def remove_generated(top):
    for path in list(generated(top)):
        if os.path.isdir(path) and not os.path.islink(path):
            for d, dirs, files in os.walk(path, topdown=False):
                for name in files:
                    os.unlink(os.path.join(d, name))
                for name in dirs:
                    os.rmdir(os.path.join(d, name))
            os.rmdir(path)
        elif os.path.lexists(path) and not is_whiteout(os.lstat(path)):
            os.unlink(path)     # if not gone by another name


def clamp(top, started, epoch):
    """Sets the time of all that is not older than `started` to `epoch`."""
    for d, dirs, files in os.walk(top, topdown=False):
        for path in [os.path.join(d, name) for name in dirs + files] + [d]:
            if os.lstat(path).st_mtime >= started:
                os.utime(path, (epoch, epoch), follow_symlinks=False)


def normalize(top, started, epoch):
    remove_generated(top)
    steady.make(top, epoch)
    clamp(top, started, epoch)


def xattrs(path):
    return {"SCHILY.xattr." + name:
            os.getxattr(path, name, follow_symlinks=False)
            .decode("utf-8", "surrogateescape")
            for name in sorted(os.listxattr(path, follow_symlinks=False))
            if name.startswith(KEPT_XATTRS)}


def is_opaque(path):
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


class Layer:
    """Writes the entries of one upper folder into a tar."""

    def __init__(self, top, tar):
        self.top, self.tar, self.links = top, tar, {}

    def whiteout(self, name, st):
        info = tarfile.TarInfo(name)
        info.mtime = int(st.st_mtime)
        self.tar.addfile(info)

    def entry(self, name, path, st):
        info = tarfile.TarInfo(name)
        info.mode, info.mtime = stat.S_IMODE(st.st_mode), int(st.st_mtime)
        info.uid, info.gid = st.st_uid, st.st_gid
        info.pax_headers = xattrs(path)
        if stat.S_ISDIR(st.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(st.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
        elif stat.S_ISFIFO(st.st_mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            info.type = (tarfile.CHRTYPE if stat.S_ISCHR(st.st_mode)
                         else tarfile.BLKTYPE)
            info.devmajor = os.major(st.st_rdev)
            info.devminor = os.minor(st.st_rdev)
        elif (st.st_dev, st.st_ino) in self.links:
            info.type = tarfile.LNKTYPE
            info.linkname = self.links[st.st_dev, st.st_ino]
            info.pax_headers = {}
        elif stat.S_ISREG(st.st_mode):
            if st.st_nlink > 1:
                self.links[st.st_dev, st.st_ino] = name
            info.size = st.st_size
            with open(path, "rb") as f:
                return self.tar.addfile(info, f)
        else:
            return None     # a socket, which no layer can hold
        return self.tar.addfile(info)

    def folder(self, folder):
        for name in sorted(os.listdir(os.path.join(self.top, folder))):
            rel = os.path.join(folder, name)
            path = os.path.join(self.top, rel)
            st = os.lstat(path)
            if is_whiteout(st):
                self.whiteout(os.path.join(folder, ".wh." + name), st)
                continue
            self.entry(rel, path, st)
            if stat.S_ISDIR(st.st_mode):
                if is_opaque(path):
                    self.whiteout(os.path.join(rel, ".wh..wh..opq"), st)
                self.folder(rel)


def pack(top, file):
    """Writes `top` as an uncompressed tar; an empty one where it is empty."""
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT, encoding="utf-8",
                      errors="surrogateescape") as tar:
        Layer(top, tar).folder("")


if __name__ == "__main__":
    pack(sys.argv[1], sys.argv[2])
