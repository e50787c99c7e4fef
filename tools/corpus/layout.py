# SPDX-License-Identifier: Apache-2.0
"""OCI layouts: umoci writes images' layers and configurations; here are the
copying of images between layouts and the removal of what no tag reaches.

OCI image-spec 1.0, image-layout.md.
"""
import json
import os
import shutil

from recipe import argv
from run import run, write_whole

REF = "org.opencontainers.image.ref.name"
FLAGS = {"USER": "--config.user", "WORKDIR": "--config.workingdir",
         "STOPSIGNAL": "--config.stopsignal"}
LISTS = {"ENV": "--config.env", "LABEL": "--config.label",
         "EXPOSE": "--config.exposedports", "VOLUME": "--config.volume"}


class Layout:
    def __init__(self, path):
        self.path = path
        os.makedirs(os.path.join(path, "blobs", "sha256"), exist_ok=True)
        if not os.path.exists(os.path.join(path, "oci-layout")):
            write_whole(os.path.join(path, "oci-layout"),
                        '{"imageLayoutVersion":"1.0.0"}')
        if not os.path.exists(os.path.join(path, "index.json")):
            self.save([])

    def blob(self, digest):
        return os.path.join(self.path, "blobs", *digest.split(":"))

    def read(self, digest):
        with open(self.blob(digest)) as f:
            return json.load(f)

    def index(self):
        with open(os.path.join(self.path, "index.json")) as f:
            return json.load(f).get("manifests") or []

    def save(self, manifests):
        write_whole(os.path.join(self.path, "index.json"), json.dumps(
            {"schemaVersion": 2, "manifests": manifests}))

    def find(self, tag):
        """The descriptor that a tag is of, or None."""
        for m in self.index():
            if m.get("annotations", {}).get(REF) == tag:
                return m
        return None

    def tags(self):
        return {m.get("annotations", {}).get(REF) for m in self.index()}

    def reached(self, descriptor):
        """The digests of a manifest and all that it names, lowest first."""
        manifest = self.read(descriptor["digest"])
        return ([layer["digest"] for layer in manifest["layers"]] +
                [manifest["config"]["digest"], descriptor["digest"]])

    def take(self, other, tag, name, link=True):
        """Copies an image out of another layout, and names it."""
        found = dict(other.find(tag))
        for digest in other.reached(found):
            if os.path.exists(self.blob(digest)):
                continue
            part = self.blob(digest) + ".part"
            if os.path.exists(part):
                os.unlink(part)
            if link:
                os.link(other.blob(digest), part)
            else:
                shutil.copyfile(other.blob(digest), part)
            os.rename(part, self.blob(digest))
        found["annotations"] = {REF: name}
        self.save([m for m in self.index()
                   if m.get("annotations", {}).get(REF) != name] + [found])

    def collect(self):
        """Removes the blobs that no image has."""
        used = {d for m in self.index() for d in self.reached(m)}
        for name in os.listdir(os.path.join(self.path, "blobs", "sha256")):
            if "sha256:" + name not in used:
                os.unlink(self.blob("sha256:" + name))


def config_flags(ins, words):
    """umoci-config's options for one instruction."""
    if ins.word in FLAGS:
        return [FLAGS[ins.word], ins.rest]
    if ins.word in LISTS:
        return [w for word in words for w in (LISTS[ins.word], word)]
    flag = "--config." + ins.word.lower()
    flags = [w for word in argv(ins.rest) for w in (flag, word)]
    # As in Docker, an entrypoint of one's own has no command from below.
    return (["--clear", "config.cmd"] if ins.word == "ENTRYPOINT" else []) + \
        ["--clear", "config." + ins.word.lower()] + flags


class Writer:
    """An image being written, with a tag after each instruction."""

    def __init__(self, path, when):
        self.layout, self.when = Layout(path), when

    def flags(self, old, new, history):
        return ["--image", "%s:%s" % (self.layout.path, old), "--tag", new] + (
            ["--history.created", self.when, "--history.created_by", history]
            if history else ["--no-history"])

    def begin(self, tag):
        run(["umoci", "new", "--image", "%s:%s" % (self.layout.path, tag)])

    def layer(self, old, new, tar, ins):
        run(["umoci", "raw", "add-layer"] +
            self.flags(old, new, ins.history()) + [tar])

    def config(self, old, new, ins, words, history):
        run(["umoci", "config", "--created", self.when] +
            self.flags(old, new, ins.history() if history else None) +
            config_flags(ins, words))
