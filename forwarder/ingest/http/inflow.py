"""Bounds the bytes read in one turn of the event loop.

No lease covers bytes that do not belong to a request yet. A thousand connections that become readable at once
would bring a quarter of a gigabyte before the first of their handlers runs.

Invariants:
- About ``MOST`` bytes of a peer, and ``MOST_OF_ALL`` of all peers, are read in one turn. Then reading pauses,
  for the peer or for all, until handlers have had time to lease or refuse these bytes.
- Small reads are not counted, because even those of all connections together are few bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

MOST = 4 << 20
MOST_OF_ALL = 16 << 20
PAUSE_TURNS = 3
"""Turns until a handler has its body: its connection's task wakes, starts it, and it reads."""


class Pausable(Protocol):
    peer: str

    def hold_back(self) -> None: ...

    def go_on(self) -> None: ...


class Inflow:
    __slots__ = ("_by_peer", "_connections", "_paused", "_total")

    def __init__(self, connections: Callable[[], Iterable[Pausable]]) -> None:
        self._connections = connections
        self._by_peer: dict[str, int] = {}
        self._total = 0
        self._paused: set[str | None] = set()

    def came(self, size: int, peer: str) -> None:
        if not self._by_peer:
            asyncio.get_running_loop().call_soon(self._turn)
        own = self._by_peer[peer] = self._by_peer.get(peer, 0) + size
        self._total += size
        if self._total > MOST_OF_ALL:
            self._pause(None)
        elif own > MOST:
            self._pause(peer)

    def _pause(self, peer: str | None) -> None:
        """None: all peers."""
        if peer in self._paused:
            return
        if not self._paused:
            asyncio.get_running_loop().call_soon(self._go_on, PAUSE_TURNS)
        self._paused.add(peer)
        for connection in self._connections():
            if peer is None or connection.peer == peer:
                connection.hold_back()

    def _turn(self) -> None:
        self._by_peer.clear()
        self._total = 0

    def _go_on(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._go_on, turns - 1)
            return
        self._paused.clear()
        for connection in self._connections():
            connection.go_on()
