#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A token server for docker-registry's `auth: token`.

    tokenserver.py KEY CERT PORTFILE LOG

Signs with openssl(1).  me:secret, or the refresh token "refresh", may do all;
anybody may pull below public/.  Each request is a line of LOG: method, who.

Source: distribution's docs/spec/auth/{token,jwt,oauth}.md.
"""
import base64
import http.server
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.parse

key, cert, portfile, logname = sys.argv[1:5]
log = open(logname, "a", buffering=1)
with open(cert) as f:
    X5C = base64.b64encode(ssl.PEM_cert_to_DER_cert(f.read())).decode()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def jwt(claims):
    head = {"typ": "JWT", "alg": "RS256", "x5c": [X5C]}
    text = b".".join(b64(json.dumps(x).encode()) for x in (head, claims))
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", key], input=text, check=True,
        stdout=subprocess.PIPE).stdout
    return (text + b"." + b64(signature)).decode()


def access(scopes, who):
    granted = []
    for scope in scopes:
        kind, name, actions = scope.split(":")
        actions = actions.split(",")
        if not who:
            actions = [a for a in actions
                       if a == "pull" and name.startswith("public/")]
        granted.append({"type": kind, "name": name, "actions": actions})
    return granted


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, doc):
        body = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def token(self, fields, who):
        log.write("%s %s\n" % (self.command, who or "-"))
        now = int(time.time())
        scopes = " ".join(fields.get("scope", [])).split()
        token = jwt({
            "iss": "lab", "sub": who or "", "aud": fields["service"][0],
            "nbf": now - 10, "iat": now, "exp": now + 300, "jti": str(now),
            "access": access(scopes, who)})
        self.answer(200, {"token": token, "access_token": token,
                          "expires_in": 300})

    def do_GET(self):
        fields = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        who = None
        if "Authorization" in self.headers:
            basic = self.headers["Authorization"].split()[1]
            if base64.b64decode(basic) != b"me:secret":
                self.answer(401, {"details": "who are you?"})
                return
            who = "me"
        self.token(fields, who)

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        fields = urllib.parse.parse_qs(self.rfile.read(length).decode())
        if (fields.get("grant_type") != ["refresh_token"] or
                fields.get("refresh_token") != ["refresh"] or
                not fields.get("client_id")):
            self.answer(401, {"details": "who are you?"})
            return
        self.token(fields, "refreshed")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(portfile + ".new", "w") as f:
    f.write("%d\n" % server.server_address[1])
os.rename(portfile + ".new", portfile)
server.serve_forever()
