"""A lean AWS for attacks: takes everything at once, knows which buses exist, notes the good events.

    python aws.py --port N --bus NAME ...

PutEvents and DescribeEventBus (JSON 1.1 at /), PutRumEvents, PutProjectEvents; an event with ``#<number>#``
in it is a good one. ``GET /good`` tells how often which arrived since the start, ``GET /counts`` how many;
``POST /buses/NAME`` makes a bus; ``POST /closed`` and ``POST /open``: every call is throttled, or none.

Invariants:
- Imports nothing of the forwarder: it judges it.
- What real AWS drops in silence (events for a bus that does not exist) is counted as dropped, never as good.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections import Counter
from typing import cast

import msgspec
import uvloop

DELAY_SECONDS = 0.03
"""What a call to AWS takes, about."""
MARKER = re.compile(rb"#(\d+)#")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
OPERATION = re.compile(rb"x-amz-target: *AWSEvents\.(\w+)", re.IGNORECASE)
BUS = re.compile(rb'"EventBusName" *: *"([^"]*)"')
THROTTLED = b'{"__type":"ThrottlingException","message":"Rate exceeded"}'
MISSING = b'{"__type":"ResourceNotFoundException","message":"Event bus does not exist."}'


class _PutEvents(msgspec.Struct):
    Entries: list[msgspec.Raw]


class _PutProjectEvents(msgspec.Struct):
    events: list[msgspec.Raw]


class Cloud:
    """What exists, what arrived, what was asked."""

    def __init__(self, buses: list[str]) -> None:
        self.buses = {"default", *buses}
        self.good: Counter[int] = Counter()
        self.events = self.dropped = self.asked = 0
        self.is_open = True

    def answer(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        method, path, _ = head.split(b" ", 2)
        if method == b"GET":
            return 200, self._tell(path)
        if path.startswith(b"/buses/"):
            self.buses.add(path[7:].decode())
            return 200, b"{}"
        if path in (b"/open", b"/closed"):
            self.is_open = path == b"/open"
            return 200, b"{}"
        found = OPERATION.search(head)
        if found is not None and found[1] == b"DescribeEventBus":
            return self._describe(body)
        if not self.is_open:
            return 400, THROTTLED
        return 200, self._put(path, body)

    def _tell(self, path: bytes) -> bytes:
        if path == b"/good":
            return json.dumps(self.good).encode()
        said = {"asked": self.asked, "events": self.events, "dropped": self.dropped}
        return json.dumps(said).encode()

    def _describe(self, body: bytes) -> tuple[int, bytes]:
        self.asked += 1
        if not self.is_open:
            return 400, THROTTLED
        name = json.loads(body).get("Name", "default").rpartition("event-bus/")[2]
        if name not in self.buses:
            return 400, MISSING
        arn = f"arn:aws:events:eu-west-1:000000000000:event-bus/{name}"
        return 200, json.dumps({"Name": name, "Arn": arn}).encode()

    def _put(self, path: bytes, body: bytes) -> bytes:
        if b"/appmonitors/" in path:
            self._take(body, 1)
            return b"{}"
        if b"/events/projects/" in path:
            number = len(msgspec.json.decode(body, type=_PutProjectEvents).events)
            self._take(body, number)
            results = b",".join([b'{"eventId":"e"}'] * number)
            return b'{"failedEventCount":0,"eventResults":[%b]}' % results
        entries = msgspec.json.decode(body, type=_PutEvents).Entries
        for entry in entries:
            raw = bytes(entry)
            bus = BUS.search(raw)
            if bus is not None and bus[1].decode().rpartition("event-bus/")[2] not in self.buses:
                self.dropped += 1
            else:
                self._take(raw, 1)
        return b'{"FailedEntryCount":0,"Entries":[%b]}' % b",".join([b'{"EventId":"e"}'] * len(entries))

    def _take(self, body: bytes, number: int) -> None:
        self.events += number
        if b"#" in body:
            self.good.update(int(marker) for marker in MARKER.findall(body))


class Connection(asyncio.Protocol):
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end])
            found = LENGTH.search(head)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < total:
                return
            body = bytes(self._buffer[end + 4 : total])
            del self._buffer[:total]
            status, said = self._cloud.answer(head, body)
            first = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\n"
            answer = f"{first}Content-Length: {len(said)}\r\n\r\n".encode() + said
            delay = DELAY_SECONDS if b"AWS4-HMAC" in head else 0.0
            self._loop.call_later(delay, self._transport.write, answer)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bus", action="append", default=[])
    options = parser.parse_args()
    cloud = Cloud(options.bus)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: Connection(cloud), "127.0.0.1", options.port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
