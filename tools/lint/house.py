#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What no other linter knows about this tree.

  - includes run along the arrows: tools -> fs | refactor | sched-exporter ->
    fetch -> store -> store/cache -> store/base, each folder entered by its
    one header; tools/cachesim needs of them store/cache and store/base alone
  - one file includes lmdb.h, one curl/curl.h, one of fs/ and one of
    sched-exporter/ microhttpd.h, and only fs/ fuse_lowlevel.h
  - no file over 800 lines, no function over 100
  - no banned function (strcpy, sprintf, ...)
  - each file names its licence and then says what it is for
  - each folder has its door sign, README.md

Reads what git knows, or all files where there is no git.  Prints
file:line: finding, and exits 1 if there was one.
"""
import os
import re
import subprocess
import sys

FILE_MAX, FUNCTION_MAX = 800, 100

# What a folder may include of others: their entry headers, and all of base.
MAY = {
    "store/base": [],
    "store/cache": ["store/base"],
    "store": ["store/cache", "store/base"],
    "fetch": ["store", "store/base"],
    "refactor": ["fetch", "store", "store/base"],
    "fs": ["fetch", "store", "store/base"],
    "sched-exporter": ["fetch", "store", "store/base"],
    "tools/cachesim": ["store/cache", "store/base"],
    "tools": ["tools/cachesim", "fs", "refactor", "sched-exporter", "fetch",
              "store", "store/cache", "store/base"],
}
# Folders whose insides are no secret to those that may use them.
OPEN = {"store/base"}
ENTRY = {d: "%s/%s.h" % (d, os.path.basename(d)) for d in MAY}
# The folders that may include these, each in one file.
SINGLE = {"lmdb.h": ["store"], "curl/curl.h": ["fetch"], "yaml.h": ["fs"],
          "microhttpd.h": ["fs", "sched-exporter"], "gnutls/gnutls.h": ["fs"]}
ONLY = {"fuse_lowlevel.h": "fs"}
BANNED = re.compile(
    r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca|atoi|"
    r"atol|atoll|tmpnam|mktemp|strncpy|strncat)\s*\(")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

findings = []


def find(path, line, text):
    findings.append("%s:%d: %s" % (path, line, text))


def files():
    git = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"],
                         capture_output=True)
    if git.returncode == 0:
        names = git.stdout.decode(errors="replace").split("\0")
        return sorted(n for n in names if n and os.path.isfile(n))
    return sorted(os.path.relpath(os.path.join(d, f), ".")
                  for d, _, fs in os.walk(".") for f in fs
                  if not os.path.relpath(d, ".").startswith((".git", "build")))


def strip(text):
    """C without comments and literals, its lines where they were."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'
                  r"'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def check_include(path, folder, n, quote, name):
    base = os.path.basename(name)
    if base in ONLY and not path.startswith(ONLY[base] + "/"):
        find(path, n, "%s belongs to %s/" % (base, ONLY[base]))
    if quote == "<" or folder not in MAY:
        return
    target = os.path.dirname(name)
    if not target:
        return find(path, n, "includes are written from the root of the tree")
    if target == folder:
        return
    if target not in MAY[folder]:
        find(path, n, "against the arrows: %s/ may not include %s"
             % (folder, name))
    elif target not in OPEN and name != ENTRY[target]:
        find(path, n, "%s/ is entered through %s" % (target, ENTRY[target]))


def check_functions(path, lines):
    """A function starts at a `{` in the first column, ends at such a `}`."""
    start = 0
    for n, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = n
        elif line.startswith("}") and start:
            if n - start > FUNCTION_MAX:
                find(path, start, "function of %d lines (at most %d)"
                     % (n - start, FUNCTION_MAX))
            start = 0


def check_c(path, text, single):
    folder = os.path.dirname(path)
    for n, line in enumerate(text.split("\n"), 1):
        m = INCLUDE.match(line)
        if m:
            check_include(path, folder, n, *m.groups())
            if m.group(2) in SINGLE and folder in MAY:
                single.setdefault(m.group(2), []).append((path, n))
    lines = strip(text).split("\n")
    for n, line in enumerate(lines, 1):
        m = BANNED.search(line)
        if m:
            find(path, n, "%s is banned" % m.group(1))
    check_functions(path, lines)
    if not re.match(r"/\* SPDX-License-Identifier: Apache-2\.0 \*/\n/\*",
                    text):
        find(path, 1, "does not open with its licence and what it is for")


def check_script(path, text):
    if "SPDX-License-Identifier: Apache-2.0" not in text[:200]:
        find(path, 1, "does not name its licence")


def main():
    single = {}
    folders = set()
    for path in files():
        if path.startswith(("tests/corpus", "tests/fuzz/corpus",
                            "tests/golden/", "tests/should-fail/")):
            continue
        if "/" in path:
            folders.add(os.path.dirname(path))
        with open(path, errors="surrogateescape") as f:
            text = f.read()
        if text.count("\n") > FILE_MAX:
            find(path, FILE_MAX, "file of %d lines (at most %d)"
                 % (text.count("\n"), FILE_MAX))
        if path.endswith((".c", ".h")):
            check_c(path, text, single)
        elif text.startswith("#!") or path.endswith(".sh"):
            check_script(path, text)
    for header, homes in SINGLE.items():
        first = {}
        for path, n in single.get(header, []):
            folder = os.path.dirname(path)
            if folder not in homes:
                find(path, n, "%s belongs to %s/"
                     % (header, "/ and ".join(homes)))
            elif first.setdefault(folder, path) != path:
                find(path, n, "only one file of %s/ includes %s (%s does)"
                     % (folder, header, first[folder]))
    for folder in sorted(folders):
        top = folder.split("/")[0]
        if not top.startswith(".") and folder in MAY or folder == top:
            if not top.startswith(".") and \
                    not os.path.exists(folder + "/README.md"):
                find(folder, 0, "no door sign (README.md)")
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
