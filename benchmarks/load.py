"""Sends ``count`` marked events over keep-alive connections, closed loop, and prints when each was accepted.

Each event is about 300 bytes. ``per_post`` = 1 posts one JSON object, more post arrays. A 429 is waited for
(short, whatever Retry-After says: the clock here measures cost, not manners) and sent again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PAUSE_SECONDS = 0.02


def event(number: int) -> str:
    filler = "x" * 170
    return (
        '{"Source":"bench.shop","DetailType":"OrderPlaced","Detail":'
        f'{{"marker":"#{number}#","customer":"c-{number % 977}","note":"{filler}","amount":12.5}}}}'
    )


def body(numbers: range) -> bytes:
    texts = [event(number) for number in numbers]
    return (texts[0] if len(texts) == 1 else f"[{','.join(texts)}]").encode()


class Load:
    def __init__(self, port: int, path: str, count: int, per_post: int, first: int, rate: float) -> None:
        self._port, self._path = port, path
        self._numbers = iter(range(first, first + count, per_post))
        self._end, self._per_post = first + count, per_post
        self._rate = rate
        self._started = time.monotonic()
        self._posts = 0
        self.accepted: list[tuple[int, int, float]] = []

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for start in self._numbers:
            await self._pace()
            numbers = range(start, min(start + self._per_post, self._end))
            payload = body(numbers)
            head = f"POST {self._path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            request = f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload
            while not await self._post(reader, writer, request):  # noqa: ASYNC110 - the server's queue is full
                await asyncio.sleep(PAUSE_SECONDS)
            self.accepted.append((numbers.start, numbers.stop, time.monotonic()))
        writer.close()

    async def _pace(self) -> None:
        if self._rate:
            due = self._started + self._posts * self._per_post / self._rate
            self._posts += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bool:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        found = LENGTH.search(head)
        await reader.readexactly(int(found[1]) if found else 0)
        status = int(head[9:12])
        if status not in (200, 202, 429):
            raise SystemExit(f"unexpected answer: {head.decode()}")
        return status != 429


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--per-post", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0: as fast as answered")
    options = parser.parse_args()
    load = Load(options.port, options.path, options.count, options.per_post, options.first, options.rate)
    await asyncio.gather(*(load.connection() for _ in range(options.connections)))
    print(json.dumps(load.accepted))


if __name__ == "__main__":
    uvloop.run(main())
