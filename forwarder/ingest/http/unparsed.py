"""Bytes that were read and are not parsed yet, because parsing them at once would hold the event loop.

A read brings up to 256 KiB, and the parser calls back for each chunk of a chunked body: 40,000 chunks of one
byte take 100 ms. The event loop reads a connection up to 32 times in one turn, and there may be a thousand.

Invariants:
- What waits here is leased, from when it is kept until it is parsed or forgotten.
- Bytes leave in the order in which they came, ``PIECE`` bytes at a time.
- In each turn of the loop new reads are parsed at once for about ``SLICE_SECONDS``, and waiting bytes for as
  long again: for all connections together. Peers whose bytes wait take turns.
- The first small read of a peer in a turn is always parsed at once: others cannot delay it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from forwarder.ingest.budget import Lease
from forwarder.ingest.fair_line import FairLine
from forwarder.ingest.slices import SLICE_SECONDS

PIECE = 8 * 1024
"""Bytes that are parsed in one step: 4 ms for the most expensive."""

SMALL_READ = 4 * 1024


class Unparsed:
    """The rest of a read. ``parse_next`` parses a piece of it, and tells whether it may go on."""

    __slots__ = ("_kept", "_lease", "is_queued", "parse_next", "peer")

    def __init__(self, lease: Lease, parse_next: Callable[[], bool]) -> None:
        self._lease = lease
        self._kept = bytearray()
        self.peer = lease.peer
        self.parse_next = parse_next
        self.is_queued = False

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def over(self) -> bool:
        return not self._kept

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


class Parsing:
    """Shares the time for parsing between connections."""

    __slots__ = ("_ends", "_late", "_timer", "_waiting")

    def __init__(self, timer: Callable[[], float] = perf_counter) -> None:
        self._timer = timer
        self._ends: float | None = None  # of what is parsed at once in this turn
        self._late: set[str] = set()
        self._waiting: FairLine[Unparsed] = FairLine()

    def has_time(self, peer: str, size: int) -> bool:
        """Whether a piece of a read of ``size`` bytes may be parsed now."""
        now = self._timer()
        if self._ends is None:
            self._ends = now + SLICE_SECONDS
            asyncio.get_running_loop().call_soon(self._end_turn)
        if now < self._ends:
            return True
        if size > SMALL_READ or peer in self._late:
            return False
        self._late.add(peer)
        return True

    def later(self, unparsed: Unparsed) -> None:
        """Parse it when it is its peer's turn."""
        if unparsed.is_queued or unparsed.over:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._parse)
        unparsed.is_queued = True
        self._waiting.add(unparsed.peer, unparsed)

    def _end_turn(self) -> None:
        self._ends = None
        self._late.clear()

    def _parse(self) -> None:
        """Once in each turn of the loop, while bytes wait."""
        ends = self._timer() + SLICE_SECONDS
        try:
            while self._waiting:
                for peer, unparsed in self._waiting.firsts():
                    self._waiting.pop(peer)  # it counts as queued meanwhile: parsing may ask for itself
                    unparsed.is_queued = unparsed.parse_next()
                    if unparsed.is_queued:
                        self._waiting.add(peer, unparsed)
                    if self._timer() >= ends:
                        return
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._parse)
