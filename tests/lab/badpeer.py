#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A peer that tells a good summary, and answers for blobs badly.

    badpeer.py HOW PORT SITE LOG

HOW: see Bad.  Each request for a blob is a line of LOG: its path, its Range.
"""
import http.server
import json
import os
import re
import sys
import threading
import time
import urllib.request

how, port, site, logname = sys.argv[1:5]
log = open(logname, "a", buffering=1)
IDENTITY = os.urandom(16).hex()


class Bad:
    """(handler, offset, length, size of the blob) of what is asked for."""

    def garbage(h, at, n, size):
        h.part(at, n, size, os.urandom(n))

    def stall(h, at, n, size):
        time.sleep(60)

    def stallbody(h, at, n, size):
        h.part(at, n, size, b"x" * (n // 3))
        time.sleep(60)

    def slow(h, at, n, size):
        h.part(at, n, size, b"")
        for _ in range(n // 1000):
            h.wfile.write(b"x" * 1000)
            time.sleep(0.1)

    def drip(h, at, n, size):
        """What is right, at 10 kB a second."""
        host, path = h.headers["Quicklayer-Repository"][7:].split("/", 1)
        url = "http://%s/v2/%s/%s" % (host, path, h.path[len("/v1/"):])
        rq = urllib.request.Request(
            url, headers={"Range": "bytes=%d-%d" % (at, at + n - 1)})
        data = urllib.request.urlopen(rq).read()
        h.part(at, n, size, b"")
        for i in range(0, n, 1000):
            h.wfile.write(data[i:i + 1000])
            time.sleep(0.1)

    def cut(h, at, n, size):
        h.part(at, n, size, b"x" * 0)
        h.close_connection = True

    def more(h, at, n, size):
        h.part(at, n + 5000, size, os.urandom(n + 5000))

    def other(h, at, n, size):
        h.part(at + 1, n, size, os.urandom(n))

    def whole(h, at, n, size):
        h.send_response(200)
        h.send_header("Content-Length", str(size))
        h.end_headers()
        h.wfile.write(os.urandom(size))

    def redirect(h, at, n, size):
        h.send_response(307)
        h.send_header("Location", "http://127.0.0.1:1/")
        h.send_header("Content-Length", "0")
        h.end_headers()

    def none(h, at, n, size):
        h.send_error(404)

    def error(h, at, n, size):
        h.send_error(500)

    def busy(h, at, n, size):
        h.send_error(503)

    def headers(h, at, n, size):
        h.send_response(206)
        h.flush_headers()
        while True:
            h.wfile.write(b"X-More: " + b"y" * 1000 + b"\r\n")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def part(self, at, n, size, body):
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {at}-{at + n - 1}/{size}")
        self.send_header("Content-Length", str(n))
        self.end_headers()
        self.wfile.write(body)

    def summary(self):
        body = json.dumps({
            "apiVersion": "quicklayer.io/v1", "kind": "NodeSummary",
            "id": IDENTITY, "name": "bad-" + how, "site": site,
            "passes": True, "generation": 1, "layers": [], "images": [],
        }).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        try:
            if self.path == "/v1/summary":
                self.summary()
            elif self.path.startswith("/v1/blobs/"):
                size = int(self.headers.get("Quicklayer-Size", "0"))
                asked = self.headers.get("Range", f"bytes=0-{size - 1}")
                log.write(f"{self.path} {asked}\n")
                a, b = re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups()
                getattr(Bad, how)(self, int(a), int(b) - int(a) + 1, size)
            else:
                self.send_error(404)
        except OSError:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", int(port)), Handler).serve_forever()
