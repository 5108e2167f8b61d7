"""A lean AWS: answers every put with success, and notes which marked events arrived, and when.

One asyncio Protocol, so that the sink is not what is measured. Each event carries ``#<number>#``.
``GET /arrived`` answers the calls and the arrivals since the last time, as JSON; ``GET /close`` makes every
call be throttled from now on, ``GET /open`` ends that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import time
from typing import cast

import uvloop

MARKER = re.compile(rb"#(\d+)#")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
THROTTLED = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'


class Record:
    """What arrived, and whether calls are answered."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[int, float]] = []
        self.calls = 0
        self.is_open = True

    def answer(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """The HTTP status and body for one request."""
        if head.startswith(b"GET"):
            return 200, self._tell(head.split(b" ", 2)[1])
        if not self.is_open:
            return 400, THROTTLED
        return 200, self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> bytes:
        now = time.monotonic()
        numbers = MARKER.findall(body)
        self.arrivals += [(int(number), now) for number in numbers]
        self.calls += 1
        if head.startswith(b"POST /appmonitors/"):
            return b"{}"
        if head.startswith(b"POST /events/projects/"):
            results = b",".join(b'{"eventId":"%b"}' % number for number in numbers)
            return b'{"failedEventCount":0,"eventResults":[%b]}' % results
        entries = b",".join(b'{"EventId":"%b"}' % number for number in numbers)
        return b'{"FailedEntryCount":0,"Entries":[%b]}' % entries

    def _tell(self, path: bytes) -> bytes:
        if path != b"/arrived":
            self.is_open = path == b"/open"
            return b"{}"
        answer = json.dumps({"calls": self.calls, "arrivals": self.arrivals}).encode()
        self.arrivals, self.calls = [], 0
        return answer


class Sink(asyncio.Protocol):
    """One connection; answers come ``delay`` seconds after their request."""

    def __init__(self, record: Record, delay: float) -> None:
        self._record = record
        self._delay = delay
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = LENGTH.search(head)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            self._send(*self._record.answer(head, body))

    def _send(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"
        answer = head % (status, len(body)) + body
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tell-port", type=int, required=True, help="plain HTTP, for who asks what arrived")
    parser.add_argument("--certificate", help="PEM with key and certificate; without it plain HTTP")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    options = parser.parse_args()
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)
    record = Record()
    loop = asyncio.get_running_loop()

    def connect() -> Sink:
        return Sink(record, options.delay_ms / 1000)

    teller = await loop.create_server(connect, "127.0.0.1", options.tell_port)
    server = await loop.create_server(connect, "127.0.0.1", options.port, ssl=tls)
    async with teller, server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
