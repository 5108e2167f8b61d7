"""Bytes that were read and are not parsed yet, because parsing them at once would hold the event loop.

A read brings up to 256 KiB, and the parser calls back for each chunk of a chunked body: 40,000 chunks of one
byte take 100 ms.

Invariants:
- What waits here is leased, from when it is kept until it is parsed or forgotten.
- Bytes leave in the order in which they came, ``PIECE`` bytes at a time.
"""

from __future__ import annotations

import asyncio

from forwarder.ingest.budget import Lease

PIECE = 32 * 1024
"""Bytes that are parsed in one step: 10 ms for the most expensive."""


class Unparsed:
    """The rest of a read. ``task`` parses it."""

    __slots__ = ("_kept", "_lease", "task")

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._kept = bytearray()
        self.task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, data: bytes) -> None:
        """Keep these behind the others. BadRequest: there is no memory for them."""
        self._lease.take(len(data))
        self._kept += data

    def next_piece(self) -> bytes:
        piece = bytes(self._kept[:PIECE])
        del self._kept[:PIECE]
        self._lease.keep(len(self._kept))
        return piece

    def forget(self) -> None:
        self._kept.clear()
        self._lease.end()
