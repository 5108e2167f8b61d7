"""A lean EventBridge: answers every PutEvents with success and notes which marked events arrived, and when.

One asyncio Protocol, so that the sink is not what is measured. Each event carries ``#<number>#``.
``GET /arrived`` answers the arrivals as JSON: [[number, monotonic seconds], ...] and the number of calls.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

import uvloop

MARKER = re.compile(rb"#(\d+)#")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Record:
    def __init__(self) -> None:
        self.arrivals: list[tuple[int, float]] = []
        self.calls = 0

    def take(self, body: bytes) -> bytes:
        now = time.monotonic()
        numbers = MARKER.findall(body)
        self.arrivals += [(int(number), now) for number in numbers]
        self.calls += 1
        entries = ",".join(f'{{"EventId":"{number.decode()}"}}' for number in numbers)
        return f'{{"FailedEntryCount":0,"Entries":[{entries}]}}'.encode()

    def tell(self) -> bytes:
        answer = json.dumps({"calls": self.calls, "arrivals": self.arrivals}).encode()
        self.arrivals, self.calls = [], 0
        return answer


class Sink(asyncio.Protocol):
    def __init__(self, record: Record) -> None:
        self._record = record
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = LENGTH.search(head)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < total:
                return
            body, self._buffer = self._buffer[end + 4 : total], self._buffer[total:]
            answer = self._record.tell() if head.startswith(b"GET") else self._record.take(body)
            self._transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n%b"
                % (len(answer), answer)
            )


async def main(port: int) -> None:
    record = Record()
    server = await asyncio.get_running_loop().create_server(lambda: Sink(record), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
