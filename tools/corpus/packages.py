# SPDX-License-Identifier: Apache-2.0
"""Debian's packages, from the mirror that this machine is set up with.

A state is a suite at a date: its name, SUITE[+updates][+source], and the lists
that were fetched when it was first wanted (or last updated).  All that is
installed into an image of that state comes from those lists, so that images
are the same again as long as the lists are.  Packages are kept for all states
together.
"""
import hashlib
import os
import shutil
import subprocess

from recipe import Error
from run import Locked, apart, remove, run, say, write_whole

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SLIM = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*",
        "/usr/share/man/*", "/usr/share/groff/*", "/usr/share/lintian/*",
        "/usr/share/linda/*")
SLIM_BUT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")


def ask(*argv):
    return subprocess.run(argv, capture_output=True, text=True).stdout


def host_sites():
    """This machine's mirrors: of its release, and of its security fixes."""
    main = security = None
    for line in ask("apt-get", "indextargets", "--format",
                    "$(CODENAME) $(SITE)").split("\n"):
        codename, _, site = line.partition(" ")
        if codename.endswith("-security"):
            security = security or site
        elif "-" not in codename and "debian" in site:
            main = main or site
    if not main:
        raise Error("no Debian mirror is configured (apt-get update?)")
    return main, security


class Packages:
    def __init__(self, cache):
        self.top = os.path.join(cache, "apt")
        self.archives = os.path.join(self.top, "archives")
        os.makedirs(os.path.join(self.archives, "partial"), exist_ok=True)
        self.ids = {}
        self.proxy = ask("apt-config", "dump", "Acquire::http::Proxy",
                         "--format", "%v").strip()

    def sources(self, state):
        suite, *flags = state.split("+")
        main, security = host_sites()
        kind = "deb-src" if "source" in flags else "deb"
        lines = [(main, suite)]
        if "updates" in flags:
            lines.append((main, suite + "-updates"))
            if not security:
                raise Error("no mirror of security fixes is configured")
            lines.append((security, suite + "-security"))
        return "".join("%s [signed-by=%s] %s %s main\n"
                       % (kind, KEYRING, site, name) for site, name in lines)

    def options(self, state):
        """Of the machine's apt-get, to work with a state's lists."""
        folder = os.path.join(self.top, state)
        return [word for o in (
            "Dir::Etc::sourcelist=%s/sources.list" % folder,
            "Dir::Etc::sourceparts=-", "APT::Sandbox::User=root",
            "Dir::State::lists=%s/lists" % folder, "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=", "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=0",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=0",
        ) for word in ("-o", o)]

    def prepare(self, state, update=False):
        """Fetches the lists of a state that are not here."""
        folder = os.path.join(self.top, state)
        os.makedirs(folder, exist_ok=True)
        with Locked(folder + ".lock"):
            if os.path.exists(folder + "/id") and not update:
                return
            say("package lists of " + state)
            self.ids.pop(state, None)
            write_whole(folder + "/sources.list", self.sources(state))
            os.makedirs(folder + "/lists/partial", exist_ok=True)
            argv = ["apt-get", "-q", "update"] + self.options(state)
            try:
                run(argv)
            except Error:
                # A mirror that stands still has lists past their date.
                run(argv + ["-o", "Acquire::Check-Valid-Until=false"])
            write_whole(folder + "/id", self.lists_id(folder + "/lists"))

    @staticmethod
    def lists_id(lists):
        h = hashlib.sha256()
        for name in sorted(os.listdir(lists)):
            if name.endswith(("_Packages", "_Sources", "_Packages.gz",
                              "_Packages.lz4", "_Sources.lz4")):
                with open(os.path.join(lists, name), "rb") as f:
                    h.update(name.encode() + b"\n" +
                             hashlib.sha256(f.read()).digest())
        return h.hexdigest()

    def id(self, state):
        """What of an image's key stands for the packages it could have."""
        if state not in self.ids:
            self.prepare(state)
            with open(os.path.join(self.top, state, "id")) as f:
                self.ids[state] = f.read()
        return self.ids[state]

    def bootstrap(self, state, slim, target, log):
        """A root of the smallest set of packages that has apt."""
        folder = os.path.join(self.top, state)
        self.prepare(state)
        remove(target)
        hooks = [
            "mkdir -p \"$1/var/lib/apt\" \"$1/var/cache/apt/archives\"",
            "cp -a '%s/lists' \"$1/var/lib/apt/\"" % folder,
            "cp -al '%s/.' \"$1/var/cache/apt/archives/\"" % self.archives]
        argv = ["mmdebstrap", "--mode=root", "--variant=minbase",
                "--format=directory",
                "--skip=update,download/empty,essential/unlink,check/empty"]
        argv += ["--setup-hook=" + hook for hook in hooks]
        argv += ["--customize-hook=find \"$1/var/cache/apt/archives\" "
                 "-maxdepth 1 -name '*.deb' -exec cp -n -l -t '%s' {} +"
                 % self.archives,
                 "--customize-hook='%s/base-hook.sh' \"$1\""
                 % os.path.dirname(os.path.abspath(__file__))]
        if self.proxy:
            argv.append('--aptopt=Acquire::http::Proxy "%s"' % self.proxy)
        if slim:
            argv += ["--dpkgopt=path-exclude=" + p for p in SLIM]
            argv += ["--dpkgopt=path-include=" + p for p in SLIM_BUT]
        run(apart() + argv + [state.split("+")[0], target,
                              folder + "/sources.list"], log)
        # Engines bring their own devices; the others are as our cache is.
        for name in ("dev", "var/lib/apt/lists", "var/cache/apt/archives"):
            run(["find", os.path.join(target, name), "-mindepth", "1",
                 "-delete"])

    def binds(self, state, folder):
        """What a step that installs packages has mounted."""
        conf = os.path.join(folder, "apt.conf")
        with open(conf, "w") as f:
            f.write('Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
                    'APT::Sandbox::User "root";\n'
                    # Only fetching writes, and that has a lock of its own.
                    'Debug::NoLocking "true";\n')
            if self.proxy:
                f.write('Acquire::http::Proxy "%s";\n' % self.proxy)
        return ["%s /etc/apt/apt.conf.d/docker-clean ro" % conf,
                "%s/%s/lists /var/lib/apt/lists ro" % (self.top, state),
                "%s /var/cache/apt/archives" % self.archives,
                "/etc/resolv.conf /etc/resolv.conf ro",
                "/etc/hosts /etc/hosts ro"]

    @staticmethod
    def install_command(rest):
        packages, _, more = rest.partition("&&")
        get = ("apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "
               "%s install " + packages.strip())
        lines = ["set -e", "flock /var/cache/apt/archives/fetch.lock " +
                 get % "--download-only", get % "", more.strip()]
        return "\n".join(lines)

    def download(self, state, names, target):
        """Packages' files, unpacked into one tree."""
        self.prepare(state)
        os.makedirs(target)
        part = target + ".deb"
        remove(part)
        os.makedirs(part)
        run(["apt-get", "-q", "download"] + self.options(state) + names,
            cwd=part)
        for name in sorted(os.listdir(part)):
            run(["dpkg-deb", "-x", os.path.join(part, name), target])
        remove(part)

    def source(self, state, name, target):
        """What upstream released, as Debian's source package has it."""
        self.prepare(state)
        part = target + ".src"
        remove(part)
        os.makedirs(part)
        run(["apt-get", "-q", "source", "--download-only"] +
            self.options(state) + [name], cwd=part)
        tars = [f for f in os.listdir(part)
                if ".orig.tar." in f and not f.endswith(".asc")]
        os.makedirs(target)
        run(["tar", "-C", target, "--strip-components=1", "--no-same-owner",
             "-xf", os.path.join(part, tars[0])])
        shutil.rmtree(part)
