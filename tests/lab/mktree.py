#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A random image of several layers, with every oddity that images have.

    mktree.py SEED DIR [--for umoci|podman] [--entries N] [--layers N]

Writes an OCI layout (tag "t") into DIR, and DIR/ignore.json: for some paths,
the attributes on which the engine named is not to be compared, each for a
reason that stands beside the code below.  Some oddities are left out where
that engine is known to do otherwise than the OCI image-spec says, or cannot
unpack them at all; they are marked with `self.engine`.

The same seed makes the same image.  OCI image-spec 1.0, layer.md.
"""
import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile

import ocilayout
from tarwriter import (BLK, CHR, DIR, FIFO, LINK, REG, SYM, DoesNotFit, Entry,
                       TarWriter)

NS = 10 ** 9
NASTY = [b" ", b"  lead", b"trail ", b"new\nline", b"tab\t", b"quo\"te's",
         b"back\\slash", b"-rf", b"*", b"[a]", b"$HOME", b"\xff\xfe\x80",
         b"caf\xc3\xa9", b"e\xcc\x81", b".hidden", b"...", b".whx", b"wh.",
         b"\x01\x1f\x7f", b"a:b", b"%s%n", b"~", b"#x", b"CON", b"\xe2\x80\xae",
         b"x" * 255, b"\xc3" * 255, b"y" * 100, b"z" * 101, b"PaxHeaders"]
TIMES = [0, 1, -1, -NS, -3 * NS - 5, 86400 * NS, NS // 2, 1700000000 * NS,
         1700000000 * NS + 123456789, 2 ** 31 * NS, 2 ** 32 * NS + 999999999,
         -2 ** 31 * NS]
IDS = [0, 0, 0, 1, 33, 65534, 65535, 65536, 100000, 2097151, 2097152,
       2 ** 31 - 2]
MODES = [0o644, 0o600, 0o755, 0o444, 0, 0o4755, 0o2755, 0o6711, 0o1644, 0o777]
SIZES = [0, 0, 1, 10, 63, 64, 65, 511, 512, 513, 2000, 4095, 4096, 4097, 9000,
         70000]


def cap(permitted):
    """security.capability, revision 2, effective (linux/capability.h)."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


class Node:
    """What stands at a path in the merged tree."""

    def __init__(self, entry, layer):
        self.entry, self.layer = entry, layer
        self.names = 1  # hardlinks, this one among them


class Tree:
    def __init__(self, seed, engine):
        self.rng = random.Random(seed)
        self.engine = engine
        self.nodes = {b"": Node(Entry(b"", DIR, 0o755), -1)}
        self.dirs = [b""]
        self.ignore = {}
        self.layer = -1
        self.count = 0
        self.pool = []

    # ---- parts of entries ----

    def skip(self, path, *fields):
        have = self.ignore.setdefault(path.decode("latin-1"), [])
        have.extend(f for f in fields if f not in have)

    def name(self):
        self.count += 1
        if self.rng.random() < 0.08:
            return self.rng.choice(NASTY)
        if self.rng.random() < 0.05:
            return b"%d-%s" % (self.count, b"n" * self.rng.randint(60, 240))
        return b"%s%d" % (self.rng.choice(
            [b"f", b"lib", b"data.", b"x_", b"UPPER", b"m-"]), self.count)

    def content(self):
        """Half the time something that was there before."""
        if self.pool and self.rng.random() < 0.4:
            return self.rng.choice(self.pool)
        size = self.rng.choice(SIZES)
        if self.rng.random() < 0.01:
            size = self.rng.randint(300000, 1500000)
        kind = self.rng.random()
        if kind < 0.1:
            data = b"\0" * size
        elif kind < 0.5:
            data = (b"%d line\n" % self.count * (size // 6 + 1))[:size]
        else:
            data = self.rng.randbytes(size)
        self.pool.append(data)
        return data

    def xattrs(self, kind):
        """user.* is for files and folders alone (xattr(7))."""
        out = {}
        if self.rng.random() > 0.06:
            return out
        if kind in (REG, DIR):
            for _ in range(self.rng.randint(1, 4)):
                # Not empty: Go, in which both engines are written, takes an
                # empty pax record for none.
                out[b"user.k%d" % self.rng.randint(0, 9)] = self.rng.choice(
                    [b"v", b"\0\xff\n=", b"long" * 60,
                     self.rng.randbytes(20)])
        if self.rng.random() < 0.5:
            out[b"trusted.t%d" % self.rng.randint(0, 9)] = b"tv\0x"
        if kind == REG and self.rng.random() < 0.5:
            out[b"security.capability"] = cap(1 << self.rng.randint(0, 30))
        return out

    def mtime(self):
        r = self.rng.random()
        if r < 0.15:
            return self.rng.choice(TIMES)
        whole = self.rng.randint(10 ** 9, 17 * 10 ** 8) * NS
        return whole + (self.rng.randint(0, NS - 1) if r < 0.6 else 0)

    def target(self):
        r = self.rng.random()
        if r < 0.1:
            return b"/".join([b"t" * 200] * 25)[:self.rng.randint(90, 4000)]
        if r < 0.3:
            return self.rng.choice(
                [b".", b"..", b"/", b"../../../../etc", b"/dev/null", b" ",
                 b"dangling", b"\xff\xfe", b"a//b/./c/", b"loop"])
        return b"/" + self.rng.choice(list(self.nodes)) or b"/"

    def fresh(self, kind, path):
        e = Entry(path, kind, self.rng.choice(MODES), self.rng.choice(IDS),
                  self.rng.choice(IDS), self.mtime(), xattrs=self.xattrs(kind))
        if kind == REG:
            e.data = self.content()
        elif kind == SYM:
            e.mode, e.link = 0o777, self.target()
        elif kind == DIR and self.rng.random() < 0.7:
            e.mode = 0o755
        elif kind in (CHR, BLK):
            # 0:0 is overlayfs's whiteout, and no engine keeps it one.
            e.rdev = self.rng.choice([(1, 3), (7, 0), (8, 255), (8, 256),
                                      (250, 70000), (511, 1048575)])
        return e

    # ---- the merged tree ----

    def put(self, entry):
        old = self.nodes.get(entry.name)
        if old and not (old.entry.kind == DIR and entry.kind == DIR):
            self.drop(entry.name)
        if entry.name not in self.nodes and entry.kind == DIR:
            self.dirs.append(entry.name)
        if self.engine == "podman" and entry.mtime_ns < 0:
            # podman makes it the epoch.
            self.skip(entry.name, "mtime")
        self.nodes[entry.name] = Node(entry, self.layer)

    def below(self, path):
        return [p for p in self.nodes if p.startswith(path + b"/")]

    def drop(self, path):
        for p in self.below(path) + [path]:
            node = self.nodes.pop(p)
            self.ignore.pop(p.decode("latin-1"), None)
            if node.entry.kind == DIR:
                self.dirs.remove(p)

    def folder(self):
        return self.rng.choice(self.dirs)

    def some(self, *kinds, below=True, old=False):
        """A path of one of these kinds; old: not of this layer."""
        found = [p for p, n in self.nodes.items() if p and
                 n.entry.kind in kinds and (not old or n.layer < self.layer)
                 and (below or not self.below(p))]
        return self.rng.choice(found) if found else None


class Layer:
    """The entries of one layer, in the order in which they are written."""

    def __init__(self, tree):
        self.tree, self.rng = tree, tree.rng
        self.entries = []
        self.written = {b""}  # paths this layer has an entry for
        self.touched = set()  # paths that nothing more is to be done to
        tree.layer += 1

    def emit(self, entry):
        self.entries.append(entry)

    def put(self, entry):
        self.tree.put(entry)
        self.written.add(entry.name)
        self.emit(entry)

    def parents(self, path):
        """Sometimes as entries, as most tools write them, sometimes not."""
        parts = path.split(b"/")[:-1]
        for i in range(1, len(parts) + 1):
            folder = b"/".join(parts[:i])
            if folder in self.written:
                continue
            self.written.add(folder)
            if self.rng.random() < 0.7:
                node = self.tree.nodes[folder]
                node.entry.name = folder
                self.emit(node.entry)
            else:
                self.implied(folder)

    def implied(self, folder):
        """podman unpacks each layer by itself, and makes the folders that the
        layer does not name with attributes of its own, which then hide those
        of the layer below."""
        if self.tree.engine == "podman":
            self.tree.skip(folder, "mode", "uid", "gid", "mtime", "xattrs")

    def settled(self, path):
        """True if this layer says anything at the path, above or below."""
        return path in self.touched or any(
            path.startswith(t + b"/") or t.startswith(path + b"/")
            for t in self.touched)

    # ---- what a layer does ----

    def new(self, kind, folder=None):
        folder = self.tree.folder() if folder is None else folder
        name = self.tree.name()
        path = folder + b"/" + name if folder else name
        if path in self.tree.nodes or len(path) > 3000 or \
                self.settled(path):
            return None
        self.parents(path)
        self.put(self.tree.fresh(kind, path))
        return path

    def again(self):
        """The same name twice in one layer: the later one stands.  podman's
        tar-split refuses such an archive."""
        if self.tree.engine == "podman":
            return
        path = self.new(self.rng.choice([REG, SYM, FIFO]))
        if path:
            self.put(self.tree.fresh(self.rng.choice([REG, SYM]), path))

    def orphan(self):
        """A file whose folders no layer names: 0755 root, whatever time."""
        base = self.tree.folder()
        if base.count(b"/") > 8:
            return
        parts = [b"no-entry-%d" % self.tree.count, b"deeper"]
        self.tree.count += 1
        path = base
        if self.tree.engine == "umoci":
            # It restores the mtime of the last folder only.
            self.tree.skip(base, "mtime")
        for part in parts:
            path = path + b"/" + part if path else part
            if path in self.tree.nodes or self.settled(path):
                return
            self.parents(path)
            self.tree.put(Entry(path, DIR, 0o755))
            self.written.add(path)
            # There is no mtime to be right about.
            self.tree.skip(path, "mtime")
            if self.setgid_above(path):
                # A real file system has them inherit that.
                self.tree.skip(path, "mode", "gid")
        self.new(REG, path)

    def setgid_above(self, path):
        parts = path.split(b"/")
        return any(self.tree.nodes[b"/".join(parts[:i])].entry.mode & 0o2000
                   for i in range(len(parts)))

    def chain(self):
        """A deep one."""
        path = self.tree.folder()
        for i in range(self.rng.randint(20, 60)):
            path = (path + b"/" if path else b"") + b"d%d" % i
            if path in self.tree.nodes or len(path) > 2500 or \
                    self.settled(path):
                return
            self.parents(path)
            self.put(self.tree.fresh(DIR, path))

    def hardlink(self):
        """To a file, a symlink, a device or a FIFO of this layer.  The link's
        header says what the file's does, as tar writes it."""
        old = [p for p, n in self.tree.nodes.items() if p in self.written and
               n.layer == self.tree.layer and
               n.entry.kind in (REG, SYM, CHR, BLK, FIFO)]
        if self.tree.engine == "umoci" and self.rng.random() < 0.2:
            # podman unpacks each layer by itself and has nothing to link to.
            old = [p for p, n in self.tree.nodes.items()
                   if n.entry.kind == REG]
        if old:
            self.hardlink_to(self.rng.choice(old))

    def hardlink_to(self, path):
        t = self.tree.nodes[path].entry
        folder = self.tree.folder()
        name = (folder + b"/" if folder else b"") + self.tree.name()
        if name in self.tree.nodes or self.settled(name) or \
                len(name) > 3000 or self.settled(path):
            return
        self.parents(name)
        e = Entry(name, LINK, t.mode, t.uid, t.gid, t.mtime_ns,
                  link=path, xattrs=t.xattrs)
        self.emit(e)
        self.written.add(name)
        stand = Entry(name, t.kind, t.mode, t.uid, t.gid, t.mtime_ns, t.data,
                      t.link, t.rdev, t.xattrs)
        self.tree.put(stand)

    def replace(self, was, kinds):
        """Something of a layer below by something else."""
        path = self.tree.some(*was, old=True)
        if not path or self.settled(path) or path in self.written:
            return
        self.parents(path)
        self.tree.drop(path)
        kind = self.rng.choice(kinds)
        self.put(self.tree.fresh(kind, path))
        if kind == DIR:
            for _ in range(self.rng.randint(0, 3)):
                self.new(REG, path)
        self.touched.add(path)

    def attributes(self):
        """A folder of a layer below with other attributes; it keeps what is
        in it."""
        path = self.tree.some(DIR, old=True)
        if path and path not in self.written and not self.settled(path):
            self.parents(path)
            self.put(self.tree.fresh(DIR, path))

    def whiteout(self):
        path = self.tree.some(REG, SYM, DIR, CHR, FIFO, old=True)
        if not path or self.settled(path) or path in self.written or \
                len(path.rsplit(b"/", 1)[-1]) > 255 - 4 or \
                len(self.tree.below(path)) > 300:
            return
        self.parents(path)
        self.tree.drop(path)
        folder, _, name = path.rpartition(b"/")
        self.emit(Entry((folder + b"/" if folder else b"") + b".wh." + name))
        self.touched.add(path)

    def whiteout_nothing(self):
        """Of a name that is in no layer: does nothing.  Overlayfs lists it
        where no layer below has the folder."""
        if self.tree.engine == "podman":
            return
        folder = self.tree.folder()
        name = b"never-%d" % self.tree.count
        path = (folder + b"/" if folder else b"") + b".wh." + name
        if not self.settled(path):
            self.parents(path)
            self.emit(Entry(path))

    def recreate(self):
        """A whiteout and the same name again, in one layer: as if it had been
        opaque.  podman shows what was below a folder so replaced."""
        path = self.tree.some(DIR, REG, old=True)
        if not path or self.settled(path) or path in self.written or \
                len(path.rsplit(b"/", 1)[-1]) > 255 - 4 or \
                len(self.tree.below(path)) > 300:
            return
        kind = REG if self.tree.engine == "podman" else \
            self.rng.choice([REG, DIR])
        self.parents(path)
        self.tree.drop(path)
        folder, _, name = path.rpartition(b"/")
        self.emit(Entry((folder + b"/" if folder else b"") + b".wh." + name))
        self.put(self.tree.fresh(kind, path))
        self.touched.add(path)

    def opaque(self):
        """Hides what layers below have in a folder, not what this one has,
        wherever in the layer the marker stands."""
        path = self.tree.some(DIR, old=True)
        if not path or self.settled(path) or path in self.written or \
                len(self.tree.below(path)) > 300:
            return
        self.parents(path)
        for p in self.tree.below(path):
            if p in self.tree.nodes:
                self.tree.drop(p)
        marker = Entry(path + b"/.wh..wh..opq")
        late = self.rng.random() < 0.4
        if self.rng.random() < 0.8:
            self.put(self.tree.fresh(DIR, path))
        else:
            self.written.add(path)
            self.implied(path)
        if not late:
            self.emit(marker)
        for _ in range(self.rng.randint(0, 4)):
            self.new(self.rng.choice([REG, SYM]), path)
        if self.rng.random() < 0.5:
            folder = self.new(DIR, path)
            if folder:
                self.new(REG, folder)
        if late:
            self.emit(marker)
        self.touched.add(path)

    def fill(self, n):
        acts = [(30, lambda: self.new(REG)), (9, lambda: self.new(DIR)),
                (8, lambda: self.new(SYM)), (1, lambda: self.new(CHR)),
                (1, lambda: self.new(BLK)), (1, lambda: self.new(FIFO)),
                (4, self.hardlink), (1, self.again), (1, self.orphan),
                (.1, self.chain)]
        if self.tree.layer:
            acts += [(2, lambda: self.replace([REG], [REG, SYM, DIR, FIFO])),
                     (.7, lambda: self.replace([DIR], [REG, SYM])),
                     (1, lambda: self.replace([SYM, FIFO], [REG, DIR])),
                     (1, self.attributes), (3, self.whiteout),
                     (.3, self.whiteout_nothing), (.6, self.recreate),
                     (1, self.opaque)]
        weights = [w for w, _ in acts]
        while len(self.entries) < n:
            self.rng.choices(acts, weights)[0][1]()


def spelled(rng, name, kind, style):
    """The ways in which tools spell one name."""
    if not name:
        return b"./"
    out = style + name
    if rng.random() < 0.02 and b"/" in name:
        out = out.replace(b"/", rng.choice([b"//", b"/./"]), 1)
    if kind == DIR and rng.random() < 0.7:
        out += b"/"
    return out


def write_layer(layer, file):
    """Each entry in a dialect that can say it."""
    rng = layer.rng
    tar = TarWriter(file)
    style = rng.choice([b"", b"./"])
    # umoci 0.4 knows no global headers.
    if layer.tree.engine == "podman" and rng.random() < 0.3:
        tar.add_global({b"comment": b"a global header"})
    main = rng.choice(["ustar", "gnu", "pax"])
    for e in layer.entries:
        said = Entry(spelled(rng, e.name, e.kind, style), e.kind, e.mode,
                     e.uid, e.gid, e.mtime_ns, e.data,
                     style + e.link if e.kind == LINK else e.link, e.rdev,
                     e.xattrs)
        first = rng.choice(["ustar", "gnu", "pax"]) \
            if rng.random() < 0.2 else main
        for dialect in (first, "ustar", "gnu", "pax"):
            try:
                tar.add(said, dialect)
                break
            except DoesNotFit:
                continue
    return tar


def sparse_layer(tree, tar):
    """Files with holes, as GNU tar writes them in each of its ways."""
    with tempfile.TemporaryDirectory() as tmp:
        # Old GNU ('S') entries are known to neither umoci nor podman.
        for how in (["pax", "0.0"], ["pax", "0.1"], ["pax", "1.0"]):
            name = b"sparse-%s-%d" % ("-".join(how).encode(), tree.count)
            tree.count += 1
            path = os.path.join(os.fsencode(tmp), name)
            with open(path, "wb") as f:
                f.truncate(tree.rng.randint(1 << 20, 3 << 20))
                for _ in range(tree.rng.randint(0, 12)):
                    f.seek(tree.rng.randint(0, 255) * 4096)
                    f.write(tree.rng.randbytes(tree.rng.randint(1, 9000)))
            os.utime(path, (1, 1600000000))
            opts = ["--format=" + how[0]]
            if len(how) > 1:
                opts += ["--sparse-version=" + how[1],
                         "--pax-option=delete=atime,delete=ctime"]
            done = subprocess.run(
                ["tar", "-b1", "-C", tmp, "--sparse", "--mode=0640",
                 "--owner=7:7", "--group=8:8", *opts, "-cf", "-",
                 os.fsdecode(name)], stdout=subprocess.PIPE, check=True)
            tar.append(done.stdout)


def build(seed, out, engine, entries, n_layers):
    tree = Tree(seed, engine)
    layout = ocilayout.Layout(out)
    n_layers = n_layers or tree.rng.randint(3, 6)
    layers = []
    hows = ["gzip", "plain"]
    # umoci 0.4 knows no zstd.
    if engine == "podman" and shutil.which("zstd"):
        hows.append("zstd")
    for i in range(n_layers):
        layer = Layer(tree)
        if tree.rng.random() < 0.5 and engine == "umoci":
            # podman's mount shows the root folder of its own making.
            root = tree.fresh(DIR, b"")
            root.mode |= 0o700
            layer.put(root)
        layer.fill(entries // n_layers)
        path = os.path.join(out, "layer.tar")
        with open(path, "wb") as f:
            tar = write_layer(layer, f)
            if i == n_layers - 1:
                sparse_layer(tree, tar)
            tar.close()
        layers.append(layout.add_layer(path, tree.rng.choice(hows)))
        os.unlink(path)
    layout.add_image("t", layers)
    with open(os.path.join(out, "ignore.json"), "w") as f:
        json.dump(tree.ignore, f, indent=0)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("seed", type=int)
    p.add_argument("dir")
    p.add_argument("--for", dest="engine", choices=["umoci", "podman"],
                   default="umoci")
    p.add_argument("--entries", type=int, default=3000)
    p.add_argument("--layers", type=int, default=0)
    a = p.parse_args()
    build(a.seed, a.dir, a.engine, a.entries, a.layers)


if __name__ == "__main__":
    main()
