# SPDX-License-Identifier: Apache-2.0
"""Files that no two builds make alike, made alike.

  /etc/shadow   the day of a password's last change becomes that of the build
  cacerts       a Java keystore says when each certificate came in; JDK,
                sun/security/provider/JavaKeyStore: magic, version, count, then
                tag, alias, milliseconds, type and certificate of each, and
                SHA-1 over the password, a phrase and all that
"""
import glob
import hashlib
import os
import struct

from recipe import Error

JKS = struct.Struct(">III")
JKS_MAGIC, TRUSTED = 0xFEEDFEED, 2
PASSWORD = "changeit"       # every cacerts has it


def shadow(top, epoch):
    for name in ("etc/shadow", "etc/shadow-"):
        path = os.path.join(top, name)
        if not os.path.isfile(path):
            continue
        with open(path) as f:
            lines = [line.split(":") for line in f]
        for fields in lines:
            if len(fields) > 2 and fields[2]:
                fields[2] = str(epoch // 86400)
        with open(path, "w") as f:
            f.writelines(":".join(fields) for fields in lines)


def sized(data, at, form):
    """What stands after its length: it, and where it ends."""
    n = struct.Struct(form)
    end = at + n.size + n.unpack_from(data, at)[0]
    return data[at:end], end


def keystore(data, epoch):
    """A keystore with its entries by name, and all of one time."""
    magic, version, count = JKS.unpack_from(data)
    if magic != JKS_MAGIC or version != 2:
        raise Error("cacerts is no Java keystore of version 2")
    entries, at = [], JKS.size
    for _ in range(count):
        if struct.unpack_from(">I", data, at)[0] != TRUSTED:
            raise Error("cacerts has more than certificates")
        alias, at = sized(data, at + 4, ">H")
        kind, at = sized(data, at + 8, ">H")
        certificate, at = sized(data, at, ">I")
        entries.append(struct.pack(">I", TRUSTED) + alias +
                       struct.pack(">Q", epoch * 1000) + kind + certificate)
    body = JKS.pack(magic, version, count) + b"".join(sorted(entries))
    secret = PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite"
    if hashlib.sha1(secret + data[:at]).digest() != data[at:]:
        raise Error("cacerts has a password of its own")
    return body + hashlib.sha1(secret + body).digest()


def cacerts(top, epoch):
    for path in glob.glob(os.path.join(glob.escape(top),
                                       "etc/ssl/certs/java/cacerts")):
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(keystore(data, epoch))


def make(top, epoch):
    shadow(top, epoch)
    cacerts(top, epoch)
