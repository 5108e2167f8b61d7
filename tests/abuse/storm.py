"""Senders that never pause: so many connections, each posts the same request again as soon as it is answered.

    python -P storm.py --port N --connections 32 --seconds 4 --source 127.0.0.3 < REQUEST

Prints how many answers of which status came, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import Counter
from typing import cast

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Sender(asyncio.Protocol):
    def __init__(self, request: bytes, answers: Counter[int]) -> None:
        self._request, self._answers = request, answers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = LENGTH.search(self._buffer, 0, end)
        if len(self._buffer) < end + 4 + (int(found[1]) if found else 0):
            return
        self._answers[int(self._buffer[9:12])] += 1
        self._buffer = b""
        self._transport.write(self._request)

    def connection_lost(self, problem: Exception | None) -> None:
        self._answers[0] += 1


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--source", required=True)
    options = parser.parse_args()
    request, answers = sys.stdin.buffer.read(), Counter[int]()
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(
            lambda: Sender(request, answers), "127.0.0.1", options.port, local_addr=(options.source, 0)
        )
    await asyncio.sleep(options.seconds)
    print(json.dumps(answers))


if __name__ == "__main__":
    uvloop.run(main())
