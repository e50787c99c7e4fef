# SPDX-License-Identifier: Apache-2.0
"""A tar writer that writes each entry in the dialect asked for.

POSIX.1-1988 ustar, GNU tar's (long names as 'L' and 'K' entries, base-256
numbers) and POSIX.1-2001 pax (records for what does not fit, fractions of
seconds, SCHILY.xattr.*), so that one archive can mix them.  Names and values
are bytes; nothing is made portable on the way.
"""
import re

BLOCK = 512
REG, LINK, SYM, CHR, BLK, DIR, FIFO = (b"0", b"1", b"2", b"3", b"4", b"5",
                                       b"6")


class DoesNotFit(Exception):
    """The dialect has no way to say this."""


def octal(value, width):
    if value < 0 or value >= 8 ** (width - 1):
        raise DoesNotFit(value)
    return b"%0*o\0" % (width - 1, value)


def number(value, width):
    """Octal, or GNU's base-256 (two's complement, first bit set)."""
    try:
        return octal(value, width)
    except DoesNotFit:
        raw = bytearray((value & (256 ** width - 1)).to_bytes(width, "big"))
        raw[0] |= 0x80
        return bytes(raw)


def field(value, width):
    if len(value) > width:
        raise DoesNotFit(value)
    return value.ljust(width, b"\0")


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


def record(key, value):
    """One pax record: its own length in front, that length included."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def block(name, kind, *, mode=0, uid=0, gid=0, size=0, mtime=0, link=b"",
          rdev=(0, 0), prefix=b"", gnu=False, uname=b"", gname=b""):
    num = number if gnu else octal
    head = [field(name, 100), octal(mode, 8), num(uid, 8), num(gid, 8),
            num(size, 12), num(mtime, 12), b" " * 8, kind, field(link, 100),
            b"ustar  \0" if gnu else b"ustar\00000", field(uname, 32),
            field(gname, 32), num(rdev[0], 8), num(rdev[1], 8),
            field(prefix, 155)]
    raw = b"".join(head).ljust(BLOCK, b"\0")
    return raw[:148] + b"%06o\0 " % sum(raw) + raw[156:]


def split(name):
    """ustar's (prefix, name)."""
    if len(name) <= 100:
        return b"", name
    for m in re.finditer(b"/", name):
        at = m.start()
        if 0 < at <= 155 and 0 < len(name) - at - 1 <= 100:
            return name[:at], name[at + 1:]
    raise DoesNotFit(name)


class Entry:
    """What a header says.  mtime_ns may be negative; xattrs are {bytes:
    bytes}; data is a regular file's content."""

    def __init__(self, name, kind=REG, mode=0o644, uid=0, gid=0, mtime_ns=0,
                 data=b"", link=b"", rdev=(0, 0), xattrs=None):
        self.name, self.kind, self.mode = name, kind, mode
        self.uid, self.gid, self.mtime_ns = uid, gid, mtime_ns
        self.data, self.link, self.rdev = data, link, rdev
        self.xattrs = xattrs or {}


class TarWriter:
    def __init__(self, file):
        self.file = file

    def add(self, e, dialect):
        """dialect: "ustar", "gnu" or "pax"; DoesNotFit if it cannot."""
        head = getattr(self, "_" + dialect)(e)
        self.file.write(head + (padded(e.data) if e.kind == REG else b""))

    def _args(self, e):
        return dict(mode=e.mode, uid=e.uid, gid=e.gid, rdev=e.rdev,
                    size=len(e.data) if e.kind == REG else 0)

    def _ustar(self, e):
        if e.xattrs or e.mtime_ns % 10 ** 9:
            raise DoesNotFit(e.name)
        prefix, name = split(e.name)
        return block(name, e.kind, prefix=prefix, link=e.link,
                     mtime=e.mtime_ns // 10 ** 9, uname=b"root",
                     gname=b"root", **self._args(e))

    def _gnu(self, e):
        if e.xattrs or e.mtime_ns % 10 ** 9:
            raise DoesNotFit(e.name)
        head = b""
        for kind, text in ((b"K", e.link), (b"L", e.name)):
            if len(text) >= 100:
                head += block(b"././@LongLink", kind, size=len(text) + 1,
                              gnu=True) + padded(text + b"\0")
        return head + block(e.name[:99], e.kind, link=e.link[:99], gnu=True,
                            mtime=e.mtime_ns // 10 ** 9, **self._args(e))

    def _pax(self, e):
        records = b""
        args = self._args(e)
        for key in ("uid", "gid"):
            if args[key] >= 8 ** 7:
                records += record(key.encode(), b"%d" % args[key])
                args[key] = 0
        sec, nsec = divmod(e.mtime_ns, 10 ** 9)
        if nsec or sec < 0:
            sign = b"-" if e.mtime_ns < 0 else b""
            whole, part = divmod(abs(e.mtime_ns), 10 ** 9)
            text = b"%s%d.%09d" % (sign, whole, part)
            records += record(b"mtime", text.rstrip(b"0").rstrip(b"."))
        for key, value in sorted(e.xattrs.items()):
            records += record(b"SCHILY.xattr." + key, value)
        prefix, name = b"", e.name
        try:
            prefix, name = split(e.name)
        except DoesNotFit:
            records += record(b"path", e.name)
            name = e.name[:100]
        link = e.link
        if len(link) > 100:
            records += record(b"linkpath", link)
            link = link[:100]
        head = b""
        if records:
            head = block(b"PaxHeaders/" + name[-80:].replace(b"/", b"_"),
                         b"x", mode=0o644, size=len(records)) + \
                padded(records)
        return head + block(name, e.kind, prefix=prefix, link=link,
                            mtime=max(sec, 0), **args)

    def add_global(self, records):
        """A pax global header: {bytes: bytes}."""
        data = b"".join(record(k, v) for k, v in records.items())
        self.file.write(block(b"pax_global_header", b"g", mode=0o666,
                              size=len(data)) + padded(data))

    def append(self, tar):
        """Another archive's entries; it ends with just two empty blocks."""
        self.file.write(tar[:-2 * BLOCK])

    def close(self):
        self.file.write(b"\0" * (2 * BLOCK))
