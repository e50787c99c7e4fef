#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Passes TCP connections on to a server and cuts uploads.

    cutproxy.py HOST:PORT PORTFILE LOG BYTES TIMES

The first TIMES connections in which a client sends more than BYTES are closed
on both sides at that point.  What clients ask for (request lines) is logged.
"""
import os
import re
import socket
import sys
import threading

target, portfile, logfile, limit, times = sys.argv[1:6]
host, port = target.rsplit(":", 1)
limit, times = int(limit), int(times)
lock = threading.Lock()
log = open(logfile, "a", buffering=1)
REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1", re.M)


def may_cut():
    global times
    with lock:
        times -= 1
        return times >= 0


def pump(src, dst, client):
    sent, cut = 0, False
    try:
        while True:
            data = src.recv(65536)
            if not data:
                break
            if client:
                for m in REQUEST.finditer(data):
                    sent = 0
                    log.write("%s %s\n" % (m[1].decode(), m[2].decode()))
                sent += len(data)
                if sent > limit and may_cut():
                    cut = True
                    log.write("cut\n")
                    break
            dst.sendall(data)
    except OSError:
        pass
    for s in (src, dst):
        try:
            s.shutdown(socket.SHUT_RDWR if cut else socket.SHUT_WR)
        except OSError:
            pass


def serve(client):
    server = socket.create_connection((host, int(port)))
    back = threading.Thread(target=pump, args=(server, client, False))
    back.start()
    pump(client, server, True)
    back.join()
    client.close()
    server.close()


listener = socket.create_server(("127.0.0.1", 0))
with open(portfile + ".new", "w") as f:
    f.write("%d\n" % listener.getsockname()[1])
os.rename(portfile + ".new", portfile)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],),
                     daemon=True).start()
