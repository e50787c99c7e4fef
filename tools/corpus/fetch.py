# SPDX-License-Identifier: Apache-2.0
"""What images have that is no Debian package: brought by each registry's own
client, as this machine is set up for it, and kept.

  npm PACKAGE@VERSION...       node_modules with them and what they need
  npmdir PACKAGE@VERSION       a package's own folder, with what it needs in it
  maven GROUP:NAME:VERSION...  their jars and those that they need
  go VERSION                   a Go toolchain
  debian STATE PACKAGE...      the files of packages that are not installed
  source STATE PACKAGE         a Debian package's upstream source

Scripts of npm packages are not run.  Times are set to one moment for all, as
some clients keep a file's time and some do not.
"""
import glob
import os
import platform

from recipe import Error, digest
from run import Locked, remove, run, say

MOMENT = 1735689600     # 2025-01-01
GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>corpus</groupId><artifactId>corpus</artifactId><version>1</version>
<dependencies>%s</dependencies></project>
"""
DEPENDENCY = ("<dependency><groupId>%s</groupId><artifactId>%s</artifactId>"
              "<version>%s</version></dependency>\n")


class Fetches:
    def __init__(self, cache, packages):
        self.top = os.path.join(cache, "fetch")
        self.packages = packages
        os.makedirs(self.top, exist_ok=True)

    def key(self, kind, words):
        listed = (self.packages.id(words[0])
                  if kind in ("debian", "source") else "")
        return digest("fetch 1", kind, *words, listed)

    def get(self, kind, words):
        """The folder with it, fetched if it is not here."""
        top = os.path.join(self.top, self.key(kind, words))
        tree = os.path.join(top, "tree")
        with Locked(top + ".lock"):
            if os.path.exists(top + "/done"):
                return tree
            say("fetching %s %s" % (kind, " ".join(words)))
            remove(top)
            os.makedirs(top)
            how = getattr(self, "get_" + kind, None)
            if not how:
                raise Error("nothing fetches " + kind)
            how(words, tree, top)
            self.settle(tree)
            open(top + "/done", "w").close()
        return tree

    @staticmethod
    def settle(tree):
        for d, dirs, files in os.walk(tree, topdown=False):
            for path in [os.path.join(d, n) for n in dirs + files] + [d]:
                os.chown(path, 0, 0, follow_symlinks=False)
                os.utime(path, (MOMENT, MOMENT), follow_symlinks=False)

    def get_npm(self, words, tree, top):
        os.makedirs(tree)
        run(["npm", "install", "--prefix", tree, "--ignore-scripts",
             "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
            + words, top + "/log")
        for path in glob.glob(tree + "/package*.json") + [
                tree + "/node_modules/.package-lock.json"]:
            if os.path.exists(path):
                os.unlink(path)

    def get_npmdir(self, words, tree, top):
        os.makedirs(tree)
        run(["npm", "pack", "--ignore-scripts", "--pack-destination", top] +
            words, top + "/log", cwd=top)
        run(["tar", "-C", tree, "--strip-components=1", "-xf"] +
            glob.glob(top + "/*.tgz"))
        run(["npm", "install", "--omit=dev", "--ignore-scripts",
             "--no-audit", "--no-fund", "--no-package-lock",
             "--legacy-peer-deps",      # what pnpm and yarn do
             "--loglevel=error"], top + "/log", cwd=tree)
        remove(tree + "/node_modules/.package-lock.json")

    def get_maven(self, words, tree, top):
        with open(top + "/pom.xml", "w") as f:
            f.write(POM % "".join(DEPENDENCY % tuple(word.split(":"))
                                  for word in words))
        run(["mvn", "-q", "-B", "-f", top + "/pom.xml",
             "dependency:copy-dependencies", "-DincludeScope=runtime",
             "-DoutputDirectory=" + tree], top + "/log")

    def get_go(self, words, tree, top):
        arch = GOARCH.get(platform.machine())
        env = dict(os.environ, GOTOOLCHAIN="go" + words[0],
                   GOMODCACHE=top + "/mod", GOFLAGS="-modcacherw")
        run(["go", "version"], top + "/log", env=env, cwd="/")
        found = glob.glob("%s/mod/golang.org/toolchain@*-go%s.linux-%s"
                          % (top, words[0], arch))
        if not found:
            raise Error("go brought no toolchain")
        os.rename(found[0], tree)
        remove(top + "/mod")

    def get_debian(self, words, tree, _):
        self.packages.download(words[0], words[1:], tree)

    def get_source(self, words, tree, _):
        self.packages.source(words[0], words[1], tree)
