"""Sends ``count`` marked events over keep-alive connections, closed loop, and prints when each was accepted.

``per_post`` = 1 posts one JSON object, more post arrays. A 429 is waited for (short, whatever Retry-After
says: the clock here measures cost, not manners) and sent again. One asyncio Protocol a connection, so that
the load costs little of the machine that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from typing import NamedTuple, cast

import uvloop

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
PAUSE_SECONDS = 0.02
MONITOR = "00000000-0000-4000-8000-0000000000aa"
TAKEN = (200, 202)


def event(number: int, size: int) -> str:
    """One PutEvents entry of about ``size`` bytes, as the native endpoint takes it."""
    detail = f'"marker":"#{number}#","customer":"c-{number % 977}","note":"{"x" * (size - 130)}"'
    return f'{{"Source":"bench.shop","DetailType":"OrderPlaced","Detail":{{{detail},"amount":12.5}}}}'


def evaluation(number: int, size: int) -> str:
    """One event of PutProjectEvents."""
    data = f'{{\\"entityId\\":\\"#{number}#\\",\\"note\\":\\"{"x" * (size - 130)}\\"}}'
    return f'{{"timestamp":1767323045,"type":"aws.evidently.custom","data":"{data}"}}'


def session(numbers: range, sessions: int) -> str:
    """One whole PutRumEvents batch with these events, of one of so many sessions in turn."""
    number = numbers.start // len(numbers) % sessions
    details = '{\\"version\\":\\"1.0.0\\"}'
    events = [
        f'{{"id":"00000000-0000-4000-b000-{each:012x}","timestamp":1767323045,'
        f'"type":"com.amazon.rum.#{each}#","details":"{details}"}}'
        for each in numbers
    ]
    return (
        f'{{"BatchId":"00000000-0000-4000-9000-{numbers.start:012x}",'
        f'"AppMonitorDetails":{{"id":"{MONITOR}","version":"1.0.0"}},'
        f'"UserDetails":{{"userId":"00000000-0000-4000-8000-{number:012x}",'
        f'"sessionId":"00000000-0000-4000-a000-{number:012x}"}},'
        f'"RumEvents":[{",".join(events)}]}}'
    )


class Shape(NamedTuple):
    """What is posted: the kind of event, its size, and how many sessions RUM's events are of."""

    kind: str
    size: int
    sessions: int

    def body(self, numbers: range) -> bytes:
        if self.kind == "rum":
            return session(numbers, self.sessions).encode()
        one = event if self.kind == "eventbridge" else evaluation
        texts = [one(number, self.size) for number in numbers]
        return (texts[0] if len(texts) == 1 else f"[{','.join(texts)}]").encode()


class Load:
    """Hands the connections their requests, paced, and keeps what was accepted."""

    def __init__(self, path: str, shape: Shape, numbers: range, per_post: int, rate: float) -> None:
        self._head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._shape, self._numbers, self._per_post, self._rate = shape, numbers, per_post, rate
        self._starts = iter(range(numbers.start, numbers.stop, per_post))
        self._began = time.monotonic()
        self._posts = 0
        self.accepted: list[tuple[int, int, float]] = []

    def next(self) -> tuple[range, bytes] | None:
        start = next(self._starts, None)
        if start is None:
            return None
        numbers = range(start, min(start + self._per_post, self._numbers.stop))
        body = self._shape.body(numbers)
        return numbers, f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def due(self) -> float:
        """Seconds until the next post may go."""
        if not self._rate:
            return 0.0
        self._posts += 1
        return max(0.0, self._began + self._posts * self._per_post / self._rate - time.monotonic())


class Connection(asyncio.Protocol):
    """Posts one request after the other; ``done`` resolves when the load has none left."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._numbers = range(0)
        self._request = b""
        self.done = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class
        self._advance()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = LENGTH.search(self._buffer, 0, end)
        if len(self._buffer) < end + 4 + (int(found[1]) if found else 0):
            return
        head, self._buffer = self._buffer[:end], b""
        self._answered(int(head[9:12]), head)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server hung up"))

    def _answered(self, status: int, head: bytes) -> None:
        if status in (429, 503):
            self._loop.call_later(PAUSE_SECONDS, self._transport.write, self._request)
        elif status in TAKEN:
            self._load.accepted.append((self._numbers.start, self._numbers.stop, time.monotonic()))
            self._advance()
        else:
            self.done.set_exception(RuntimeError(f"unexpected answer: {head.decode()}"))

    def _advance(self) -> None:
        following = self._load.next()
        if following is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._numbers, self._request = following
        wait = self._load.due()
        if wait:
            self._loop.call_later(wait, self._transport.write, self._request)
        else:
            self._transport.write(self._request)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--kind", choices=("eventbridge", "evidently", "rum"), default="eventbridge")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--per-post", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--size", type=int, default=300, help="bytes of one event, about")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0, help="events a second; 0: as fast as answered")
    return parser.parse_args()


async def main(options: argparse.Namespace) -> None:
    shape = Shape(options.kind, options.size, options.sessions)
    numbers = range(options.first, options.first + options.count)
    load = Load(options.path, shape, numbers, options.per_post, options.rate)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", options.port)
        for _ in range(options.connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    print(json.dumps(load.accepted))


if __name__ == "__main__":
    uvloop.run(main(arguments()))
