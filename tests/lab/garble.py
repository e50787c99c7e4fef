#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A node that sends garbage: what it answers passes with a wrong byte in each
piece of some length, so that small answers, such as who it is, are right.

    garble.py HOST:PORT HOST:PORT    listens at the first, asks the second
"""
import asyncio
import contextlib
import sys

SPARED = 4096


async def pass_on(reader, writer, wrong):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if wrong and len(data) > SPARED:
                at = len(data) // 2
                data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.close()


async def main(listen, ask):
    async def client(reader, writer):
        try:
            far = await asyncio.open_connection(*ask)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pass_on(reader, far[1], False),
                             pass_on(far[0], writer, True))

    server = await asyncio.start_server(client, *listen)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*(a.rsplit(":", 1) for a in sys.argv[1:3])))
