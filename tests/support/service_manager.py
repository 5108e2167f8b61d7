"""A service manager of the tests' own: it listens as systemd does, by sd_notify(3), and keeps what it hears.

Invariants:
- What it knows of the protocol is from the manual page; nothing here is imported from the forwarder.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

READ_BYTES = 4096
"""What systemd reads of a message."""

Facts = dict[str, str]


class Ear:
    """A notify socket. ``heard``: every message so far, each as its facts, in order."""

    def __init__(self, listener: socket.socket, address: str) -> None:
        self.address = address
        self.listener = listener
        self.heard: list[Facts] = []

    def listen(self) -> None:
        """Take what has been said."""
        while True:
            try:
                message = self.listener.recv(READ_BYTES)
            except BlockingIOError:
                return
            self.heard.append(dict(line.split("=", 1) for line in message.decode().splitlines()))

    def fill(self) -> None:
        """Let others talk until it can take no more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"X=1", self.listener.getsockname())

    def said(self, name: str) -> list[str]:
        """Every value of this fact, in order."""
        self.listen()
        return [facts[name] for facts in self.heard if name in facts]


@contextmanager
def an_ear(address: str) -> Iterator[Ear]:
    """Listen at a path, or at an abstract name that begins with ``@``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listener.setblocking(False)
        yield Ear(listener, address)
