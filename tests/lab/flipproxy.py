#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry that gives back other blobs than it was given.

    flipproxy.py UPSTREAM PORTFILE

All requests are passed on to UPSTREAM (host:port); in the middle of each blob
that it answers a GET with, one bit is another.
"""
import http.client
import http.server
import os
import re
import sys

upstream, portfile = sys.argv[1:3]
NOT_PASSED = ("connection", "transfer-encoding", "content-length", "host")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def body(self):
        """What the client sends, whole."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while True:
            n = int(self.rfile.readline().split(b";")[0], 16)
            data += self.rfile.read(n)
            self.rfile.readline()
            if n == 0:
                return data

    def answer(self):
        c = http.client.HTTPConnection(upstream, timeout=30)
        fields = {k: v for k, v in self.headers.items()
                  if k.lower() not in NOT_PASSED + ("expect",)}
        # Where an upload goes on stays here.
        fields["Host"] = self.headers["Host"]
        c.request(self.command, self.path, self.body(), fields)
        r = c.getresponse()
        data = r.read()
        if (self.command == "GET" and r.status in (200, 206) and data and
                re.search(r"/blobs/sha256:", self.path)):
            at = len(data) // 2
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        self.send_response(r.status)
        for k, v in r.getheaders():
            if k.lower() not in NOT_PASSED:
                self.send_header(k, v)
        length = (r.headers.get("Content-Length", 0)
                  if self.command == "HEAD" else len(data))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)
        c.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
with open(portfile + ".new", "w") as f:
    f.write("%d\n" % server.server_address[1])
os.rename(portfile + ".new", portfile)
server.serve_forever()
