# SPDX-License-Identifier: Apache-2.0
"""Recipes: Dockerfiles, but for these.

  DEBIAN SUITE[+FLAG...] [slim]
        instead of FROM: a root of its own by mmdebstrap.  SUITE+updates has
        the suite's updates and security fixes, SUITE alone is what its last
        point release was
  ROOT NAME
        instead of FROM: the tree of a FETCH as it is
  FETCH NAME KIND WORD...
        something brought by a registry's own client, see fetch.py
  APT PACKAGE... [&& COMMANDS]
        RUN apt-get update && apt-get install -y --no-install-recommends ...,
        with the packages that the cache has
  RUN --from=NAME COMMANDS
        with what NAME fetched at /mnt, as a builder's --mount=type=bind
  EPOCH TIME
        the time of all that is made and not unpacked; in the image's history
  COPY [--from=NAME] SOURCE TARGET [MODE]
        one source, of files/ or of what NAME fetched

There are no stages, no ARG, no .dockerignore, and JSON or a plain line as in
Docker's own for CMD and ENTRYPOINT.
"""
import datetime
import hashlib
import json
import os
import shlex

HERE = os.path.dirname(os.path.abspath(__file__))
RECIPES = os.path.join(HERE, "recipes")
FILES = os.path.join(HERE, "files")
LAYERS = ("DEBIAN", "ROOT", "RUN", "APT", "COPY", "WORKDIR")
CONFIGS = ("ENV", "LABEL", "USER", "EXPOSE", "VOLUME", "STOPSIGNAL",
           "ENTRYPOINT", "CMD")
ABOUT = ("FROM", "FETCH", "EPOCH")


class Error(Exception):
    """Something about one image, which keeps no other from being built."""


class Instruction:
    def __init__(self, word, rest):
        self.word, self.rest = word, rest

    def __str__(self):
        return "%s %s" % (self.word, self.rest)

    def history(self):
        """What a builder would put into the image's history."""
        if self.word == "APT":
            packages, _, more = self.rest.partition("&&")
            return ("RUN /bin/sh -c apt-get update && apt-get install -y "
                    "--no-install-recommends %s && rm -rf "
                    "/var/lib/apt/lists/*%s"
                    % (packages.strip(), " &&" + more if more else ""))
        if self.word == "RUN":
            return "RUN /bin/sh -c " + run_words(self)[1]
        if self.word in ("DEBIAN", "ROOT"):
            return "ADD rootfs.tar / # %s" % self.rest
        return str(self)


def logical_lines(text):
    """Lines with their continuations, without comments."""
    whole = ""
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        if line.endswith("\\"):
            whole += line[:-1].strip() + " "
            continue
        whole += line.strip()
        if whole.strip():
            yield whole.strip()
        whole = ""


class Recipe:
    def __init__(self, name):
        self.name, self.base, self.epoch = name, None, None
        self.steps, self.fetches, self.about = [], {}, []
        path = os.path.join(RECIPES, name)
        try:
            with open(path) as f:
                text = f.read()
        except OSError as e:
            raise Error("%s: no such recipe (%s)" % (name, e.strerror))
        for line in text.split("\n"):
            if not line.startswith("#"):
                break
            self.about.append(line.lstrip("# "))
        for line in logical_lines(text):
            self.add(Instruction(*(line.split(None, 1) + [""])[:2]))
        if self.epoch is None:
            raise Error("%s: no EPOCH" % name)

    def add(self, ins):
        if ins.word == "FROM":
            self.base = ins.rest
        elif ins.word == "EPOCH":
            when = datetime.datetime.fromisoformat(
                ins.rest.replace("Z", "+00:00"))
            self.epoch = int(when.timestamp())
        elif ins.word == "FETCH":
            name, kind, *words = shlex.split(ins.rest)
            self.fetches[name] = (kind, words)
        elif ins.word in LAYERS + CONFIGS:
            self.steps.append(ins)
        else:
            raise Error("%s: unknown instruction %s" % (self.name, ins.word))

    def when(self):
        return datetime.datetime.fromtimestamp(
            self.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def copy_words(ins):
    """The fetch (or None), source, target and mode (or None) of a COPY."""
    words = shlex.split(ins.rest)
    name = None
    if words and words[0].startswith("--from="):
        name = words.pop(0)[len("--from="):]
    if len(words) not in (2, 3):
        raise Error("COPY wants a source and a target: " + ins.rest)
    return name, words[0], words[1], words[2] if len(words) == 3 else None


def run_words(ins):
    """The fetch (or None) and the command of a RUN."""
    if ins.rest.startswith("--from="):
        name, _, command = ins.rest[len("--from="):].partition(" ")
        return name, command.strip()
    return None, ins.rest


def argv(text):
    """CMD and ENTRYPOINT: a JSON list, or a line for the shell."""
    if text.startswith("["):
        return json.loads(text)
    return ["/bin/sh", "-c", text]


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        h.update(b"%d:" % len(data) + data)
    return h.hexdigest()[:16]
