"""Bytes on a socket, as an attacker and as an honest neighbour write them; nothing of the forwarder."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

ATTACKER, NEIGHBOUR = "127.0.0.3", "127.0.0.2"
"""Addresses of this machine alone: two peers."""
PATIENCE = 120.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """A POST. ``body`` is what is sent, packed or not."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def packed(self, level: int = 9) -> Request:
        """The same with its body gzipped, as small as it gets."""
        return Request(self.path, squeeze(self.body, level), {**self.headers, "Content-Encoding": "gzip"})

    @property
    def data(self) -> bytes:
        return self.head(len(self.body)) + self.body

    def head(self, length: int | None) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", "Host: abuse"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass
class Answer:
    """``status`` is 0 where the connection ended without one."""

    status: int
    head: bytes = b""
    body: bytes = b""

    @property
    def said(self) -> str:
        return self.body[:200].decode("utf-8", "replace")


def squeeze(body: bytes, level: int = 9) -> bytes:
    """gzip twice where that is a gain is not possible over HTTP, so once, without a name or time."""
    return gzip.compress(body, level, mtime=0)


def members(parts: int, unit: bytes) -> bytes:
    """So many gzip members, one after the other."""
    return squeeze(unit) * parts


def bomb(size: int, unit: bytes = b" ") -> bytes:
    """Packed bytes that unpack to ``size`` of the unit, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    step = unit * ((1 << 20) // len(unit))
    parts = [packer.compress(step) for _ in range(size // len(step))]
    return b"".join([*parts, packer.flush()])


def connect(port: int, source: str = ATTACKER, patience: float = PATIENCE, receive: int = 0) -> socket.socket:
    """A connection to the daemon; ``receive``: bytes that this side takes in without being read."""
    made = socket.socket()
    made.settimeout(patience)
    if receive:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    made.bind((source, 0))
    made.connect(("127.0.0.1", port))
    return made


def reset(connection: socket.socket) -> None:
    """End it with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def read_answer(connection: socket.socket) -> Answer:
    """One answer with a Content-Length, or what comes before the connection ends."""
    parts = bytearray()
    total = None
    with suppress(OSError):
        while total is None or len(parts) < total:
            more = connection.recv(1 << 18)
            if not more:
                break
            parts += more
            if total is None and (end := parts.find(b"\r\n\r\n")) >= 0:
                found = LENGTH.search(parts, 0, end)
                total = end + 4 + (int(found[1]) if found else 0)
    head, _, body = bytes(parts).partition(b"\r\n\r\n")
    status = int(head[9:12]) if head[9:12].isdigit() else 0
    return Answer(status, head, body)


def ask(port: int, request: Request, source: str = ATTACKER, patience: float = PATIENCE) -> Answer:
    """Send it on a connection of its own, and read the answer, however early it comes."""
    try:
        with connect(port, source, patience) as connection:
            with suppress(OSError):  # refused before all of it was sent
                connection.sendall(request.data)
            return read_answer(connection)
    except OSError as problem:
        return Answer(0, body=str(problem).encode())


def get(port: int, path: str, source: str = NEIGHBOUR, patience: float = PATIENCE) -> Answer:
    try:
        with connect(port, source, patience) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            return read_answer(connection)
    except OSError as problem:
        return Answer(0, body=str(problem).encode())


def native(target: str, events: object) -> Request:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    return Request(f"/v1/targets/{target}/events", body, {"Content-Type": "application/json"})


def good(target: str, number: int, bus: str = "") -> Request:
    """An honest event with a marker that the AWS of these tests looks for."""
    event = {"Source": "abuse.good", "DetailType": "good", "Detail": {"marker": f"#{number}#"}}
    return native(target, {**event, "EventBusName": bus} if bus else event)
