#!/usr/bin/env python3
"""Clients in numbers, for tests.

client.py many HOST PORT COUNT          so many connections at once to an echo; prints how many answered, all open
client.py idle HOST PORT SECONDS        says something, rests so long, says something again; prints "alive"
client.py keep HOST PORT COUNT TIMES    so many clients of a web server, each asking TIMES over one connection; prints
                                        how many answers were right, and how many went wrong
client.py wait HOST PORT SECONDS        asks a web server again and again; prints the longest time without an answer
"""
import asyncio
import collections
import sys
import time


async def many(host, port, count):
    # A client's own queue of connections that are being made is bounded, as a browser's or a proxy's is.
    gate = asyncio.Semaphore(200)

    async def one(number):
        async with gate:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 60)
        word = b"%08d" % number * 10
        writer.write(word)
        assert await asyncio.wait_for(reader.readexactly(len(word)), 60) == word
        return reader, writer

    held = await asyncio.gather(*[one(number) for number in range(count)])
    # Each once more, while all are open.
    for _, writer in held:
        writer.write(b"again")
    for reader, _ in held:
        assert await asyncio.wait_for(reader.readexactly(5), 60) == b"again"
    print(len(held))


async def idle(host, port, seconds):
    reader, writer = await asyncio.open_connection(host, port)
    for pause in (0, seconds):
        await asyncio.sleep(pause)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"hello"
    print("alive")


async def keep(host, port, count, times):
    results = collections.Counter()
    gate = asyncio.Semaphore(200)

    async def one():
        try:
            async with gate:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 60)
            for _ in range(times):
                writer.write(b"GET /load HTTP/1.1\r\nHost: a\r\n\r\n")
                head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).decode("latin-1")
                fields = {k.lower(): v.strip() for k, _, v in (l.partition(":") for l in head.split("\r\n")[1:])}
                body = await asyncio.wait_for(reader.readexactly(int(fields["content-length"])), 60)
                results["right" if head.split()[1] == "200" and body == b"load\n" * 200 else head.split()[1]] += 1
            return writer
        except Exception as error:
            results[type(error).__name__] += 1

    held = await asyncio.gather(*[one() for _ in range(count)])
    assert len(held) == count
    right = results.pop("right", 0)
    print(right, sum(results.values()), *[f"{k}={v}" for k, v in results.items()])


async def wait(host, port, seconds):
    end = time.monotonic() + seconds
    last, longest = time.monotonic(), 0.0
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1)
            writer.write(b"GET /10 HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 1)
            writer.close()
            now = time.monotonic()
            last, longest = now, max(longest, now - last)
        except (OSError, EOFError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(0.02)
    print(f"{max(longest, time.monotonic() - last):.2f}")


kind, host, *numbers = sys.argv[1:]
asyncio.run({"many": many, "idle": idle, "keep": keep, "wait": wait}[kind](host, *map(int, numbers)))
