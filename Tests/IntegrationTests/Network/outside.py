#!/usr/bin/env python3
"""The world outside, for tests: in a network namespace of the test's own.

outside.py ADDRESS4 ADDRESS6 [EXTRA…]
  port 80    GET /N answers N bytes, GET /N/digest their digest; PUT answers the digest of what came; TCP, both
  port 7     echoes, TCP and UDP, both
  port 9     sends nothing and keeps the connection, TCP, both
  port 53    answers every A and AAAA question with the two addresses, UDP and TCP
  EXTRA      is ADDRESS or ADDRESS/PORT (80 where none is named) of listeners that answer "reached"

Prints "ready" when all of that is there.
"""
import asyncio
import hashlib
import ipaddress
import os
import socket
import sys

SEED = os.urandom(1 << 20)


async def http(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split("\r\n")[0].split(" ", 2)
            fields = {k.lower(): v.strip() for k, _, v in (l.partition(":") for l in head.split("\r\n")[1:])}
            if method == "GET":
                size, _, wanted = path.strip("/").partition("/")
                left = int(size or 0)
                if wanted == "digest":
                    digest = hashlib.sha256()
                    while left > 0:
                        digest.update(SEED[: min(left, len(SEED))])
                        left -= min(left, len(SEED))
                    body = digest.hexdigest().encode() + b"\n"
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    await writer.drain()
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Seed: 1\r\n\r\n" % left)
                while left > 0:
                    piece = SEED[: min(left, len(SEED))]
                    writer.write(piece)
                    await writer.drain()
                    left -= len(piece)
            else:
                if fields.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                left = int(fields.get("content-length", 0))
                digest = hashlib.sha256()
                while left > 0:
                    piece = await reader.read(min(left, 1 << 20))
                    if not piece:
                        return
                    digest.update(piece)
                    left -= len(piece)
                body = digest.hexdigest().encode() + b"\n"
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


async def echo(reader, writer):
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def silent(reader, writer):
    try:
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def reached(reader, writer):
    # Who closes with something unread resets: the answer may be lost by that.
    try:
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError, ConnectionError):
        pass
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nreached\n")
    writer.close()


def answer(question, addresses):
    end = 12
    while question[end]:
        end += question[end] + 1
    kind = int.from_bytes(question[end + 1 : end + 3], "big")
    records = b""
    for address in addresses:
        if kind == {4: 1, 6: 28}[address.version]:
            data = address.packed
            records += b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    count = b"\0\1" if records else b"\0\0"
    return question[:2] + b"\x81\x80\0\1" + count + b"\0\0\0\0" + question[12 : end + 5] + records


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, reply):
        self.reply = reply

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(self.reply(data), peer)


async def main():
    addresses = [ipaddress.ip_address(text) for text in sys.argv[1:3]]
    loop = asyncio.get_running_loop()
    keep = []

    async def names(reader, writer):
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = answer(await reader.readexactly(size), addresses)
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    for host in map(str, addresses):
        for port, handler in [(80, http), (7, echo), (9, silent), (53, names)]:
            keep.append(await asyncio.start_server(handler, host, port, backlog=4096))
        for port, reply in [(7, lambda data: data), (53, lambda data: answer(data, addresses))]:
            keep.append(await loop.create_datagram_endpoint(lambda r=reply: Datagrams(r), (host, port)))
    for extra in sys.argv[3:]:
        host, _, port = extra.rpartition("/") if "/" in extra else (extra, "", "80")
        keep.append(await asyncio.start_server(reached, host, int(port)))
        keep.append(await loop.create_datagram_endpoint(lambda: Datagrams(lambda d: b"reached"), (host, int(port))))
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
