#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry that stands before a real one and spoils what it passes on.

    badproxy.py UPSTREAM REPOSITORY EXTRA PORTFILE LOG

/v2/<wrong>/... is UPSTREAM's /v2/REPOSITORY/... with one thing wrong, by the
name (see Wrong).  EXTRA is a folder: what lies there under a digest's hex is a
blob as well, and referrers.json is what refers to every image of a repository
whose name begins with "lied".  Each GET is a line of LOG: the wrong, the path,
Range ("-": none).
"""
import hashlib
import http.client
import http.server
import json
import os
import re
import sys
import threading
import time

upstream, repository, extra, portfile, logname = sys.argv[1:6]
log = open(logname, "a", buffering=1)
lock = threading.Lock()
seen = {}
START = "io.quicklayer.start"


def first(*what):
    """Whether this is asked for the first time."""
    with lock:
        new = what not in seen
        seen[what] = True
        return new


def fetch(path, headers):
    c = http.client.HTTPConnection(upstream, timeout=30)
    c.request("GET", path, headers={
        k: v for k, v in headers.items() if k in ("Accept", "Range")})
    r = c.getresponse()
    body = r.read()
    fields = {k: v for k, v in r.getheaders() if k in (
        "Content-Type", "Content-Range", "Docker-Content-Digest")}
    c.close()
    return r.status, body, fields


def flip(body, at):
    return body[:at] + bytes([body[at] ^ 0x55]) + body[at + 1:]


class Wrong:
    """(handler, body, key of the range) of a blob -> the body; None: it has
    answered already."""

    def ok(h, body, key):
        """Nothing."""
        return body

    def flip_once(h, body, key):
        """Once EXTRA has a file "spoil", each range has a wrong bit when it is
        asked for first."""
        if (key[1] == "-" or not os.path.exists(os.path.join(extra, "spoil"))
                or not first("flip", *key)):
            return body
        return flip(body, len(body) // 2)

    def half(h, body, key):
        """Half of each range comes the first time, and the connection ends."""
        # The rest of a range, asked for then, ends where it did.
        if not first("half", key[0], key[1].split("-")[-1]):
            return body
        h.send(200 if key[1] == "-" else 206, body[:len(body) // 2],
               dict(h.fields), len(body))
        h.close_connection = True
        return None

    def busy(h, body, key):
        """The first three are asked to come again in a second."""
        with lock:
            n = seen["busy"] = seen.get("busy", 0) + 1
        if n > 3:
            return body
        h.send(429, b"", {"Retry-After": "1"})
        return None

    def slow(h, body, key):
        """Less than 1 MB a second."""
        h.send_response(200 if key[1] == "-" else 206)
        for k, v in dict(h.fields, **{"Content-Length": len(body)}).items():
            h.send_header(k, str(v))
        h.end_headers()
        for at in range(0, len(body), 20000):
            h.wfile.write(body[at:at + 20000])
            time.sleep(0.02)
        return None

    whole = damaged_head = damaged_hot = annotation = token = lied = ok
    lied_known = ok


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fields = {}

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def send(self, status, body, fields, length=None):
        self.send_response(status)
        for k, v in fields.items():
            self.send_header(k, v)
        self.send_header("Content-Length",
                         str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def expired(self):
        """A token is good for a second."""
        now = time.time()
        token = self.headers.get("Authorization", "").replace("Bearer ", "")
        if re.fullmatch(r"[0-9.]+", token) and now - float(token) < 1:
            return False
        self.send(401, b"", {
            "WWW-Authenticate": 'Bearer realm="http://%s/token",service="x"' %
                                self.headers["Host"]})
        return True

    def manifest(self, wrong, name):
        status, body, fields = fetch(
            "/v2/%s/manifests/%s" % (repository, name), self.headers)
        if wrong == "annotation" and status == 200:
            doc = json.loads(body)
            doc["annotations"][START] = "sha256:1234 5 6 seven"
            body = json.dumps(doc).encode()
            fields["Docker-Content-Digest"] = (
                "sha256:" + hashlib.sha256(body).hexdigest())
        elif status == 200:
            text = json.loads(body).get("annotations", {}).get(START)
            if text:
                words = text.split()
                seen["start"] = words[0], int(words[2])
        self.send(status, body, fields)

    def extra(self, name):
        try:
            with open(os.path.join(extra, name), "rb") as f:
                return f.read()
        except OSError:
            return None

    def part(self, body):
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not m:
            return 200, body, {}
        a = int(m[1])
        b = min(int(m[2]) + 1 if m[2] else len(body), len(body))
        return 206, body[a:b], {
            "Content-Range": "bytes %d-%d/%d" % (a, b - 1, len(body))}

    def blob(self, wrong, digest):
        path = "/v2/%s/blobs/%s" % (repository, digest)
        own = self.extra(digest.split(":")[1])
        start = seen.get("start", ("", 0))
        if own is None and digest == start[0] and wrong.startswith("damaged"):
            own = fetch(path, {})[1]
            if wrong == "damaged_head":
                own = flip(own, start[1] // 2)
            else:
                for at in range(start[1] + 20, len(own), 1000):
                    own = flip(own, at)
        if own is not None:
            status, body, fields = self.part(own)
        elif wrong == "whole":
            status, body, fields = fetch(path, {})
        else:
            status, body, fields = fetch(path, self.headers)
        self.fields = fields
        key = (digest, self.headers.get("Range", "-"))
        body = getattr(Wrong, wrong)(self, body, key)
        if body is not None:
            self.send(status, body, fields)

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "token":
            self.send(200, json.dumps(
                {"token": str(time.time()), "expires_in": 300}).encode(), {})
            return
        if parts == ["v2"]:
            self.send(200, b"{}", {})
            return
        wrong = parts[1].replace("-", "_")
        log.write("%s %s %s\n" % (parts[1], self.path,
                                  self.headers.get("Range", "-")))
        if not hasattr(Wrong, wrong) or len(parts) != 4:
            self.send(404, b"", {})
        elif wrong == "token" and self.expired():
            pass
        elif parts[2] == "manifests":
            self.manifest(wrong, parts[3])
        elif parts[2] == "referrers":
            found = wrong.startswith("lied") and self.extra("referrers.json")
            self.send(200 if found else 404, found or b"", {
                "Content-Type": "application/vnd.oci.image.index.v1+json"})
        else:
            self.blob(wrong, parts[3])


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Handler)
with open(portfile + ".new", "w") as f:
    f.write("%d\n" % server.server_address[1])
os.rename(portfile + ".new", portfile)
server.serve_forever()
