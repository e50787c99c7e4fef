#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry that does one thing wrong, by the name of the repository.

    badregistry.py LAYOUT PORTFILE LOG

serves the image "v1" of an OCI layout (for "expired" it is "v2", of several
layers) under /v2/<wrong>/, on two loopback ports (written to PORTFILE), of
which the second plays another host.  Every request is a line of LOG: port,
method, path, Range, Authorization ("-": none).

What is wrong with each is the docstring of its function in Wrong.
"""
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HUGE = 10 << 30

layout, portfile, logname = sys.argv[1:4]
log = open(logname, "a", buffering=1)
lock = threading.Lock()
seen = {}
ports = []


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(name):
    with open(os.path.join(layout, "blobs", *name.split(":")), "rb") as f:
        return f.read()


def count(what):
    """How often this was asked before."""
    with lock:
        seen[what] = seen.get(what, 0) + 1
        return seen[what] - 1


def top(tag):
    with open(os.path.join(layout, "index.json")) as f:
        for m in json.load(f)["manifests"]:
            if m["annotations"]["org.opencontainers.image.ref.name"] == tag:
                return m["digest"]
    raise KeyError(tag)


def index_of(data, kind):
    return json.dumps({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": kind, "digest": digest(data), "size": len(data)}]
    }).encode()


class Image:
    """The image, with its layer replaced, under digests that are right."""

    def __init__(self, change=None, config=None, tag="v1"):
        doc = json.loads(blob(top(tag)))
        self.blobs = {}
        if change:
            data = change(blob(doc["layers"][0]["digest"]))
            doc["layers"][0].update(digest=digest(data), size=len(data))
            self.blobs[digest(data)] = data
        if config:
            data = config(blob(doc["config"]["digest"]))
            doc["config"].update(digest=digest(data), size=len(data))
            self.blobs[digest(data)] = data
        self.manifest = json.dumps(doc).encode()
        self.blobs[digest(self.manifest)] = self.manifest
        self.layer = doc["layers"][0]["digest"]
        self.config = doc["config"]["digest"]

    def get(self, name):
        return self.blobs.get(name) or blob(name)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1:]


def recompress(data):
    plain = subprocess.run(["gzip", "-dc"], input=data, check=True,
                           stdout=subprocess.PIPE).stdout
    return subprocess.run(["zstd", "-qc"], input=plain, check=True,
                          stdout=subprocess.PIPE).stdout


def other_diff_id(data):
    doc = json.loads(data)
    doc["rootfs"]["diff_ids"][0] = digest(b"another")
    return json.dumps(doc).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def answer(self, status, body=b"", length=None, **fields):
        """length: what Content-Length says, None for the truth, -1 for none
        (then the body ends with the connection)."""
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        if length == -1:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length",
                             str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def cut(self, body, n, status=200, **fields):
        """Promise all of body, send n bytes of it, and hang up."""
        self.answer(status, body[:n], length=len(body), **fields)
        self.wfile.flush()
        self.close_connection = True

    def offset(self):
        value = self.headers.get("Range", "")
        if not value.startswith("bytes="):
            return 0
        return int(value[6:].split("-")[0])

    def rest(self, data, n=None):
        """What Range asks for; or the first n bytes of it, and hang up."""
        at = self.offset()
        fields = {}
        if at:
            fields["Content_Range"] = "bytes %d-%d/%d" % (
                at, len(data) - 1, len(data))
        if n is None:
            self.answer(206 if at else 200, data[at:], **fields)
        else:
            self.cut(data[at:], n, 206 if at else 200, **fields)

    def do_POST(self):
        self.do_GET()

    def do_GET(self):
        port = self.server.server_address[1]
        log.write("%d %s %s %s %s\n" % (
            port, self.command, self.path, self.headers.get("Range", "-"),
            self.headers.get("Authorization", "-").replace(" ", "_")))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "other":
            self.answer(200, blob(parts[1]))
            return
        if parts[0] == "token":
            n = count("token")
            self.answer(200, json.dumps(
                {"token": "t%d" % n, "expires_in": 300}).encode())
            return
        if parts == ["v2"]:
            self.answer(200)
            return
        wrong = getattr(Wrong, parts[1].replace("-", "_"), None)
        if not wrong or len(parts) != 4:
            self.answer(404)
            return
        wrong(self, parts[2], parts[3])

    def manifest(self, data, kind=MANIFEST, **fields):
        self.answer(200, data, Content_Type=kind, **fields)

    def image(self, what, name, image=None):
        """All is well."""
        image = image or Image()
        if what == "manifests":
            self.manifest(image.manifest)
        else:
            self.rest(image.get(name))

    def is_layer(self, what, name):
        return what == "blobs" and name == Image().layer


class Wrong:
    """One function a fault: (handler, "manifests" or "blobs", name)."""

    def ok(h, what, name):
        """Nothing."""
        h.image(what, name)

    def hang(h, what, name):
        """It never answers."""
        time.sleep(3600)

    def stall(h, what, name):
        """Half of the layer comes, and then nothing more."""
        if not h.is_layer(what, name):
            h.image(what, name)
            return
        data = blob(name)
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:len(data) // 2])
        h.wfile.flush()
        time.sleep(3600)

    def cut(h, what, name):
        """The connection breaks three times in the layer."""
        if h.is_layer(what, name) and count("cut") < 3:
            h.rest(blob(name), 100000)
        else:
            h.image(what, name)

    def cut_whole(h, what, name):
        """It breaks once, and the answer to Range is all of it (200)."""
        if not h.is_layer(what, name):
            h.image(what, name)
        elif count("cut_whole") == 0:
            h.cut(blob(name), 100000)
        else:
            h.answer(200, blob(name))

    def cut_other(h, what, name):
        """It breaks once, and the answer to Range is another range."""
        if not h.is_layer(what, name):
            h.image(what, name)
        elif count("cut_other") == 0:
            h.cut(blob(name), 100000)
        else:
            data = blob(name)
            h.answer(206, data[5:], Content_Range="bytes 5-%d/%d" % (
                len(data) - 1, len(data)))

    def cut_always(h, what, name):
        """It breaks again and again after a few bytes."""
        if h.is_layer(what, name):
            h.rest(blob(name), 10)
        else:
            h.image(what, name)

    def fewer(h, what, name):
        """Fewer bytes than the manifest states, and it says so."""
        if h.is_layer(what, name):
            h.answer(200, blob(name)[:-10])
        else:
            h.image(what, name)

    def fewer_unsaid(h, what, name):
        """Fewer bytes, and the connection ends in peace."""
        if h.is_layer(what, name):
            h.answer(200, blob(name)[:-10], length=-1)
        else:
            h.image(what, name)

    def more(h, what, name):
        """More bytes than the manifest states, and it says so."""
        if h.is_layer(what, name):
            h.answer(200, blob(name) + b"more")
        else:
            h.image(what, name)

    def more_unsaid(h, what, name):
        """More bytes, and it does not say how many."""
        if h.is_layer(what, name):
            h.answer(200, blob(name) + b"more", length=-1)
        else:
            h.image(what, name)

    def wrong_layer(h, what, name):
        """A bit of the layer is wrong, where gzip does not mind."""
        if h.is_layer(what, name):
            h.answer(200, flip(blob(name), 9))
        else:
            h.image(what, name)

    def wrong_config(h, what, name):
        """A bit of the configuration is wrong."""
        if what == "blobs" and not h.is_layer(what, name):
            h.answer(200, flip(blob(name), 5))
        else:
            h.image(what, name)

    def wrong_manifest(h, what, name):
        """The manifest is not of the digest that the registry states."""
        h.manifest(Image().manifest,
                   Docker_Content_Digest=digest(b"another"))

    def wrong_diff_id(h, what, name):
        """The layer is not what the configuration says it is."""
        h.image(what, name, Image(config=other_diff_id))

    def bad_gzip(h, what, name):
        """A gzip stream is damaged, all digests being right."""
        h.image(what, name, Image(lambda d: flip(d, len(d) // 2)))

    def cut_gzip(h, what, name):
        """A gzip stream ends early, all digests being right."""
        h.image(what, name, Image(lambda d: d[:len(d) // 2]))

    def bad_zstd(h, what, name):
        """A zstd stream is damaged, all digests being right."""
        def change(data):
            data = recompress(data)
            return flip(data, len(data) - 2)
        h.image(what, name, Image(change))

    def cut_zstd(h, what, name):
        """A zstd stream ends early, all digests being right."""
        h.image(what, name, Image(lambda d: recompress(d)[:-100]))

    def huge(h, what, name):
        """The manifest has 10 GB, and it says so."""
        h.answer(200, b"{", length=HUGE, Content_Type=MANIFEST)
        for _ in range(HUGE >> 16):
            h.wfile.write(b" " * 65536)

    def huge_unsaid(h, what, name):
        """The manifest has 10 GB, and it does not say so."""
        h.answer(200, b"{", length=-1, Content_Type=MANIFEST)
        for _ in range(HUGE >> 16):
            h.wfile.write(b" " * 65536)

    def loop(h, what, name):
        """An index that points to itself."""
        doc = index_of(b"x", INDEX)
        if name != "v1":  # as near as one can get to one's own digest
            doc = index_of(doc, INDEX)
        h.manifest(index_of(doc, INDEX), INDEX)

    def nested(h, what, name):
        """Five indexes, each of the next."""
        docs = {}
        doc, kind = Image().manifest, MANIFEST
        for _ in range(5):
            docs[digest(doc)] = (doc, kind)
            doc, kind = index_of(doc, kind), INDEX
        docs["v1"] = (doc, kind)
        if what == "manifests":
            h.manifest(*docs[name])
        else:
            h.rest(blob(name))

    def html(h, what, name):
        """A portal's login page."""
        h.answer(200, b"<html><body>Log in</body></html>",
                 Content_Type="text/html")

    def schema1(h, what, name):
        """A manifest of schema 1."""
        h.manifest(b'{"schemaVersion": 1, "name": "x", "fsLayers": []}',
                   "application/vnd.docker.distribution.manifest.v1"
                   "+prettyjws")

    def busy(h, what, name):
        """Too many requests, twice, each to be asked again in a second."""
        if count("busy") < 2:
            h.answer(429, Retry_After="1")
        else:
            h.image(what, name)

    def busy_date(h, what, name):
        """The same, with a date."""
        if count("busy_date") < 1:
            h.answer(429, Retry_After=h.date_time_string(time.time() + 2))
        else:
            h.image(what, name)

    def busy_always(h, what, name):
        """Too many requests, always."""
        h.answer(429)

    def busy_long(h, what, name):
        """To be asked again tomorrow."""
        h.answer(429, Retry_After="86400")

    def flaky(h, what, name):
        """Every first request for a thing fails: 500, 502, 503, 504."""
        n = count("flaky " + name)
        if n == 0:
            h.answer([500, 502, 503, 504][count("flaky") % 4])
        else:
            h.image(what, name)

    def redirect(h, what, name):
        """The layer is on another host, which is not to see who asks."""
        if not h.headers.get("Authorization"):
            h.answer(401, WWW_Authenticate='Basic realm="lab"')
        elif what == "blobs":
            h.answer(307, Location="http://127.0.0.1:%d/other/%s" % (
                ports[1], name))
        else:
            h.image(what, name)

    def redirect_loop(h, what, name):
        """It sends us to itself."""
        h.answer(302, Location=h.path)

    def redirect_file(h, what, name):
        """It sends us to a file of ours."""
        h.answer(302, Location="file:///etc/passwd")

    def expired(h, what, name):
        """As ECR: a token that has run out is a 403 without a challenge; and
        all layers are refused together."""
        image = Image(tag="v2")
        realm = "http://127.0.0.1:%d/token" % ports[0]
        token = h.headers.get("Authorization")
        if not token:
            h.answer(401, WWW_Authenticate='Bearer realm="%s",service="lab"' %
                     realm)
        elif (what == "blobs" and name != image.config and
                token == "Bearer t0"):
            time.sleep(0.5)
            h.answer(403)
        else:
            h.image(what, name, image)

    def forbidden(h, what, name):
        """Nobody may, whatever the token."""
        realm = "http://127.0.0.1:%d/token" % ports[0]
        h.answer(403 if h.headers.get("Authorization") else 401,
                 WWW_Authenticate='Bearer realm="%s"' % realm)

    def bad_challenge(h, what, name):
        """A challenge that is none."""
        h.answer(401, WWW_Authenticate='Bearer realm="never closed')

    def kerberos(h, what, name):
        """A challenge that we cannot meet."""
        h.answer(401, WWW_Authenticate="Negotiate")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
ports = [s.server_address[1] for s in servers]
with open(portfile + ".new", "w") as f:
    f.write("%d %d\n" % tuple(ports))
os.rename(portfile + ".new", portfile)
threading.Thread(target=servers[1].serve_forever, daemon=True).start()
servers[0].serve_forever()
