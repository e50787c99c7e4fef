# SPDX-License-Identifier: Apache-2.0
"""Running other programs: what they said goes to a log, and is shown if they
fail; whatever ends us ends them."""
import fcntl
import os
import subprocess
import sys
import threading

from recipe import Error

running, stopping = set(), threading.Event()


def say(text):
    sys.stderr.write("corpus: %s\n" % text)
    sys.stderr.flush()


def run(argv, log=None, env=None, cwd=None):
    """Runs a program; its output is in `log`, or is returned."""
    if stopping.is_set():
        raise Error("interrupted")
    out = open(log, "ab") if log else subprocess.PIPE
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, env=env, cwd=cwd)
    except OSError as e:
        raise Error("%s: %s" % (argv[0], e.strerror))
    finally:
        if log:
            out.close()
    running.add(child)
    said = (child.communicate()[0] or b"").decode(errors="replace")
    running.discard(child)
    if child.returncode:
        raise Error("%s: status %d\n%s" % (
            " ".join(argv)[:120], child.returncode, tail(log, said)))
    return said


def apart():
    """What a program is started with that mounts: its mounts and all that it
    starts end with it.  Where / is no mount point (a chroot), nothing."""
    words = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc"]
    if subprocess.run(words + ["true"], capture_output=True).returncode:
        return []
    return ["setpriv", "--pdeathsig", "KILL"] + words


def tail(log, said):
    if log:
        with open(log, errors="replace") as f:
            said = f.read()
    return "\n".join("    " + line for line in said.split("\n")[-15:] if line)


def stop():
    """Ends what runs; run() of it fails, and so does every later one."""
    stopping.set()
    for child in list(running):
        child.kill()    # unshare, waiting for its child, hears nothing else


def remove(path):
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


class Locked:
    """Holds a lock file, also against other processes."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.file = open(self.path, "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def write_whole(path, text):
    with open(path + ".part", "w") as f:
        f.write(text)
    os.rename(path + ".part", path)
