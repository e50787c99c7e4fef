#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes an image into an OCI layout folder from ready-made layer tars.

    ocilayout.py DIR TAG [--docker] [--arch A] [--config JSON] LAYER...

LAYER is FILE or FILE:gzip, FILE:zstd, FILE:plain (the default: what the file
is, a compressed one as it stands).  The folder may hold other images; an index
entry of the same tag is replaced.  Prints the manifest's digest.

OCI image-spec 1.0: image-layout, manifest, config; with --docker the media
types of Docker's schema 2 (which OCI tools take from such a folder as well).
"""
import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Hashing:
    """A file that remembers the digest and length of what is written."""

    def __init__(self, file=None):
        self.file, self.hash, self.size = file, hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)
        if self.file:
            self.file.write(data)
        return len(data)

    def flush(self):
        pass

    @property
    def digest(self):
        return "sha256:" + self.hash.hexdigest()


class Layout:
    def __init__(self, path):
        self.path = path
        self.blobs = os.path.join(path, "blobs", "sha256")
        os.makedirs(self.blobs, exist_ok=True)
        with open(os.path.join(path, "oci-layout"), "w") as f:
            json.dump({"imageLayoutVersion": "1.0.0"}, f)

    def put(self, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.blobs, digest), "wb") as f:
            f.write(data)
        return "sha256:" + digest, len(data)

    def put_json(self, value):
        return self.put(json.dumps(value, sort_keys=True).encode())

    def _compress(self, tar, out, how):
        """Copies tar to out, compressed; returns the tar's digest."""
        plain = Hashing()
        if how == "zstd":
            with tempfile.TemporaryFile() as tmp:
                p = subprocess.Popen(["zstd", "-q", "-c"],
                                     stdin=subprocess.PIPE, stdout=tmp)
                for block in iter(lambda: tar.read(1 << 20), b""):
                    plain.write(block)
                    p.stdin.write(block)
                p.stdin.close()
                if p.wait():
                    sys.exit("ocilayout: zstd failed")
                tmp.seek(0)
                shutil.copyfileobj(tmp, out)
            return plain.digest
        sink = out if how == "plain" else gzip.GzipFile(
            fileobj=out, mode="wb", compresslevel=6, mtime=0)
        for block in iter(lambda: tar.read(1 << 20), b""):
            plain.write(block)
            sink.write(block)
        if sink is not out:
            sink.close()
        return plain.digest

    def _decompressed_digest(self, path, how):
        tool = {"gzip": "gzip", "zstd": "zstd"}[how]
        plain = Hashing()
        p = subprocess.Popen([tool, "-dc", path], stdout=subprocess.PIPE)
        for block in iter(lambda: p.stdout.read(1 << 20), b""):
            plain.write(block)
        if p.wait():
            sys.exit("ocilayout: %s -d failed" % tool)
        return plain.digest

    def add_layer(self, path, how=None):
        """Returns (digest, size, diff ID, how)."""
        with open(path, "rb") as f:
            magic = f.read(4)
        is_a = MAGIC.get(magic[:2], MAGIC.get(magic, "plain"))
        tmp = os.path.join(self.path, ".layer-%d" % os.getpid())
        with open(path, "rb") as tar, open(tmp, "wb") as file:
            out = Hashing(file)
            if is_a != "plain":
                how, diff_id = is_a, self._decompressed_digest(path, is_a)
                shutil.copyfileobj(tar, out, 1 << 20)
            else:
                how = how or "plain"
                diff_id = self._compress(tar, out, how)
        os.rename(tmp, os.path.join(self.blobs, out.digest[7:]))
        return out.digest, out.size, diff_id, how

    def add_image(self, tag, layers, config=None, arch=None, docker=False):
        """layers: what add_layer() returned.  Returns the digest."""
        arch = arch or ARCH.get(platform.machine(), platform.machine())
        conf = {"architecture": arch, "os": "linux",
                "created": "2024-01-01T00:00:00Z",
                "config": config or {"Env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
                    ":/sbin:/bin"], "Cmd": ["/bin/sh"]},
                "rootfs": {"type": "layers",
                           "diff_ids": [la[2] for la in layers]},
                "history": [{"created_by": "layer %d" % i}
                            for i in range(len(layers))]}
        if docker:
            kinds = {"gzip": "image.rootfs.diff.tar.gzip",
                     "zstd": "image.rootfs.diff.tar.zstd",
                     "plain": "image.rootfs.diff.tar"}
            kind = {k: DOCKER + v for k, v in kinds.items()}
            manifest_type = DOCKER + "distribution.manifest.v2+json"
            config_type = DOCKER + "container.image.v1+json"
        else:
            kind = {"gzip": OCI + "layer.v1.tar+gzip",
                    "zstd": OCI + "layer.v1.tar+zstd",
                    "plain": OCI + "layer.v1.tar"}
            manifest_type = OCI + "manifest.v1+json"
            config_type = OCI + "config.v1+json"
        digest, size = self.put_json(conf)
        manifest = {"schemaVersion": 2, "mediaType": manifest_type,
                    "config": {"mediaType": config_type, "digest": digest,
                               "size": size},
                    "layers": [{"mediaType": kind[la[3]], "digest": la[0],
                                "size": la[1]} for la in layers]}
        digest, size = self.put_json(manifest)
        self._index(tag, {"mediaType": manifest_type, "digest": digest,
                          "size": size, "platform": {
                              "architecture": arch, "os": "linux"}})
        return digest

    def _index(self, tag, entry):
        ref = "org.opencontainers.image.ref.name"
        path = os.path.join(self.path, "index.json")
        index = {"schemaVersion": 2, "manifests": []}
        if os.path.exists(path):
            with open(path) as f:
                index = json.load(f)
        entry["annotations"] = {ref: tag}
        index["manifests"] = [m for m in index["manifests"] if
                              m.get("annotations", {}).get(ref) != tag]
        index["manifests"].append(entry)
        with open(path, "w") as f:
            json.dump(index, f)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("dir")
    p.add_argument("tag")
    p.add_argument("layers", nargs="*", metavar="LAYER[:HOW]")
    p.add_argument("--docker", action="store_true")
    p.add_argument("--arch")
    p.add_argument("--config", type=json.loads)
    a = p.parse_args()
    layout = Layout(a.dir)
    layers = []
    for spec in a.layers:
        path, _, how = spec.rpartition(":")
        if how not in ("gzip", "zstd", "plain"):
            path, how = spec, None
        layers.append(layout.add_layer(path, how))
    print(layout.add_image(a.tag, layers, a.config, a.arch, a.docker))


if __name__ == "__main__":
    main()
