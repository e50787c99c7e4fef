# SPDX-License-Identifier: Apache-2.0
"""Builds a recipe: its instructions one after the other, each one's outcome
kept under a key of itself and of all before it.

  steps/KEY/diff     what the step changed, the lower folder of later ones
  work/NAME/oci      the image so far, a tag for each step
  oci                finished images and bases, by name
  done/NAME.json     key, digest and layers of what is in oci

An interrupted build goes on after the last step that has both its folder and
its tag.  Folders of images that nothing is built on go when these are done.
"""
import json
import os
import platform
import shlex
import time

import pack
from layout import Layout, Writer
from recipe import (Error, FILES, LAYERS, Recipe, copy_words, digest,
                    run_words)
from run import Locked, remove, run, say, write_whole

VERSION = "corpus 3"
HERE = os.path.dirname(os.path.abspath(__file__))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STEADY = ["DEBIAN_FRONTEND=noninteractive", "PERL_HASH_SEED=0",
          "PYTHONHASHSEED=0", "HOME=/root", "LC_ALL=C"]


class Image:
    """A recipe with the keys of its steps, and what its steps run with."""

    def __init__(self, builder, recipe, base):
        self.builder, self.recipe, self.base = builder, recipe, base
        self.env = dict(base.env) if base else {}
        self.user = base.user if base else ""
        self.workdir = base.workdir if base else "/"
        self.state = base.state if base else None
        self.lowers = list(base.lowers) if base else []
        key = digest(VERSION, platform.machine(), recipe.epoch,
                     base.key if base else "")
        self.keys, self.first = [], key
        for ins in recipe.steps:
            if ins.word == "DEBIAN":
                self.state = ins.rest.split()[0]
            key = digest(key, str(ins), *self.inputs(ins))
            self.keys.append(key)
        self.key = key

    def inputs(self, ins):
        """What a step's outcome comes of, other than its own words."""
        if ins.word in ("APT", "DEBIAN"):
            yield self.builder.packages.id(self.state)
        if ins.word == "ROOT":
            yield self.builder.fetches.key(*self.fetch(ins.rest))
        if ins.word == "RUN" and run_words(ins)[0]:
            yield self.builder.fetches.key(*self.fetch(run_words(ins)[0]))
        if ins.word == "DEBIAN":
            with open(os.path.join(HERE, "base-hook.sh"), "rb") as f:
                yield f.read()
        if ins.word == "COPY":
            name, source, _, _ = copy_words(ins)
            if name:
                yield self.builder.fetches.key(*self.fetch(name))
            else:
                with open(os.path.join(FILES, source), "rb") as f:
                    yield f.read()

    def fetch(self, name):
        if name not in self.recipe.fetches:
            raise Error("%s: nothing is fetched as %s"
                        % (self.recipe.name, name))
        return self.recipe.fetches[name]

    def expand(self, text):
        for name in sorted(self.env, key=len, reverse=True):
            text = text.replace("$" + name, self.env[name])
        return text

    def words(self, ins):
        """The words of a configuring instruction, $NAME of ENV replaced."""
        if ins.rest.startswith("["):
            return json.loads(ins.rest)
        return [self.expand(w) for w in shlex.split(ins.rest)]

    def note(self, ins):
        """Remembers what later steps run with."""
        if ins.word == "ENV":
            for word in self.words(ins):
                name, _, value = word.partition("=")
                self.env[name] = value
        elif ins.word == "USER":
            self.user = ins.rest
        elif ins.word == "WORKDIR":
            self.workdir = ins.rest


class Step:
    """One instruction that changes files."""

    def __init__(self, image, ins, key):
        self.image, self.ins, self.builder = image, ins, image.builder
        self.top = os.path.join(self.builder.cache, "steps", key)
        self.key, self.log = key, os.path.join(self.top, "log")
        self.binds = []

    def done(self):
        return os.path.exists(os.path.join(self.top, "done"))

    def make(self):
        """Leaves the changes in diff; the tar of them is returned."""
        remove(self.top)
        os.makedirs(self.top)
        diff = os.path.join(self.top, "diff")
        # The kernel's clock for files is a little behind.
        started = time.time() - 2
        if self.ins.word == "DEBIAN":
            self.builder.packages.bootstrap(
                self.image.state, "slim" in self.ins.rest.split(), diff,
                self.log)
        elif self.ins.word == "ROOT":
            tree = self.builder.fetches.get(*self.image.fetch(self.ins.rest))
            run(["cp", "-a", tree, diff], self.log)
            if not os.path.lexists(diff + "/bin/sh"):
                # The next step's shell, which then makes the other links.
                os.symlink("busybox", diff + "/bin/sh")
        else:
            self.chroot(getattr(self, "command_" + self.ins.word.lower())())
        pack.normalize(diff, started, self.image.recipe.epoch)
        tar = os.path.join(self.top, "layer.tar")
        pack.pack(diff, tar)
        for name in ("work", "root"):
            remove(os.path.join(self.top, name))
        return tar

    def finish(self):
        os.unlink(os.path.join(self.top, "layer.tar"))
        open(os.path.join(self.top, "done"), "w").close()

    def chroot(self, command):
        steps = os.path.join(self.builder.cache, "steps")
        lower = ":".join(k + "/diff" for k in reversed(self.image.lowers))
        env = dict(os.environ, STEP_BINDS="\n".join(self.binds))
        if self.ins.word == "RUN" and self.image.user:
            env["STEP_USER"] = self.image.user
        inside = dict([word.split("=", 1) for word in STEADY], PATH=PATH)
        inside.update(self.image.env)
        run([os.path.join(HERE, "step.sh"), self.key, lower,
             "cd %s\n%s" % (shlex.quote(self.image.workdir), command)] +
            ["%s=%s" % item for item in sorted(inside.items())],
            self.log, env=env, cwd=steps)

    def command_run(self):
        name, command = run_words(self.ins)
        if name:
            tree = self.builder.fetches.get(*self.image.fetch(name))
            self.binds = ["%s /mnt ro" % tree]
        return command

    def command_apt(self):
        self.binds = self.builder.packages.binds(self.image.state, self.top)
        return self.builder.packages.install_command(self.ins.rest)

    def command_workdir(self):
        return "cd / && mkdir -p " + shlex.quote(self.ins.rest)

    def command_copy(self):
        name, source, target, mode = copy_words(self.ins)
        target = self.image.expand(target)
        tree = (self.builder.fetches.get(*self.image.fetch(name)) if name
                else FILES)
        self.binds = ["%s /mnt ro" % tree]
        path = shlex.quote(os.path.normpath("/mnt/" + source))
        into = target.endswith("/")
        where = shlex.quote(target)
        lines = ["set -e", "mkdir -p " + (where if into else
                                          '"$(dirname %s)"' % where)]
        # Files of ours have the times of a checkout; those are not kept.
        keep = "-a" if name else "-r"
        lines.append("cp %s %s %s %s" % (keep, "" if into else "-T", path,
                                         where))
        if mode:
            lines.append("chmod %s %s" % (mode, where + (
                os.path.basename(source) if into else "")))
        return "\n".join(lines)


class Builder:
    def __init__(self, cache, packages, fetches):
        self.cache, self.packages, self.fetches = cache, packages, fetches
        for name in ("steps", "work", "done"):
            os.makedirs(os.path.join(cache, name), exist_ok=True)
        self.oci = Layout(os.path.join(cache, "oci"))
        self.bases = set()

    def done_path(self, name):
        return os.path.join(self.cache, "done", name + ".json")

    def done(self, name):
        """What is known of a finished image, or None."""
        try:
            with open(self.done_path(name)) as f:
                return json.load(f)
        except (OSError, ValueError):
            return None

    def image(self, name, images):
        """The image of a recipe that stands on others, built before."""
        recipe = Recipe(name)
        if recipe.base and images.get(recipe.base) is None:
            raise Error("its base, %s, was not built" % recipe.base)
        return Image(self, recipe, images.get(recipe.base))

    def ready(self, image):
        name = image.recipe.name
        found, tag = self.done(name), self.oci.find(name)
        return found and tag and found["key"] == image.key and \
            found["digest"] == tag["digest"] and (
                name not in self.bases or
                all(Step(image, ins, key).done() for ins, key in
                    self.layers(image)))

    @staticmethod
    def layers(image):
        return [(ins, key) for ins, key in
                zip(image.recipe.steps, image.keys)
                if ins.word in LAYERS]

    def build(self, image, again=False):
        """Builds what is not ready.  Returns whether anything was done."""
        name, recipe = image.recipe.name, image.recipe
        fresh = not self.ready(image)
        if fresh or again:
            work = os.path.join(self.cache, "work", name)
            if again:
                remove(work)
                self.drop(image)
            with_time = time.monotonic()
            self.write(image, Writer(os.path.join(work, "oci"),
                                     recipe.when()), again)
            self.publish(image, work)
            say("%s: built in %d s" % (name, time.monotonic() - with_time))
        else:
            for ins, key in zip(recipe.steps, image.keys):
                self.step_over(image, ins, key)
        if name not in self.bases:
            self.drop(image)
        return fresh or again

    def step_over(self, image, ins, key):
        image.note(ins)
        if (ins, key) in self.layers(image):
            image.lowers.append(key)

    def resume_at(self, image, layout):
        """How many steps need not be done again."""
        tags = layout.tags()
        for at in range(len(image.keys), 0, -1):
            if image.keys[at - 1] in tags and all(
                    Step(image, ins, key).done()
                    for ins, key in self.layers(image)
                    if key in image.keys[:at]):
                return at
        return 0

    def write(self, image, writer, again):
        at = 0 if again else self.resume_at(image, writer.layout)
        if at == 0 and image.base:
            with Locked(os.path.join(self.cache, "oci.lock")):
                writer.layout.take(self.oci, image.base.recipe.name,
                                   image.first)
        elif at == 0:
            writer.begin(image.first)
        last = image.first
        for n, (ins, key) in enumerate(zip(image.recipe.steps, image.keys)):
            if n >= at:
                self.do(image, writer, ins, last, key)
            self.step_over(image, ins, key)
            last = key

    def do(self, image, writer, ins, last, key):
        if (ins, key) in self.layers(image):
            say("%s: %.60s" % (image.recipe.name, ins))
            step = Step(image, ins, key)
            tar = step.make()
            writer.layer(last, key, tar, ins)
            step.finish()
            if ins.word != "WORKDIR":
                return
            last = key
        writer.config(last, key, ins, image.words(ins)
                      if ins.word not in ("CMD", "ENTRYPOINT") else [],
                      history=ins.word != "WORKDIR")

    def publish(self, image, work):
        name = image.recipe.name
        written = Layout(os.path.join(work, "oci"))
        with Locked(os.path.join(self.cache, "oci.lock")):
            self.oci.take(written, image.key, name)
            tag = self.oci.find(name)
        manifest = self.oci.read(tag["digest"])
        write_whole(self.done_path(name), json.dumps({
            "key": image.key, "digest": tag["digest"],
            "layers": len(manifest["layers"]),
            "gzip": sum(layer["size"] for layer in manifest["layers"]),
            "unpacked": self.unpacked(image)}))
        remove(work)

    def unpacked(self, image):
        """Bytes of the files of all its layers."""
        own = 0
        for _, key in self.layers(image):
            for d, _, files in os.walk(os.path.join(self.cache, "steps", key,
                                                    "diff")):
                own += sum(os.lstat(os.path.join(d, f)).st_size
                           for f in files)
        below = self.done(image.base.recipe.name) if image.base else None
        return own + (below["unpacked"] if below else 0)

    def drop(self, image):
        for _, key in self.layers(image):
            remove(os.path.join(self.cache, "steps", key))

    def prune(self, images):
        """Removes the folders of steps that none of these images has."""
        kept = {key for image in images for key in image.keys}
        top = os.path.join(self.cache, "steps")
        for name in set(os.listdir(top)) - kept:
            remove(os.path.join(top, name))
