"""How much may come in one turn of the event loop.

What the loop reads belongs to no request yet, so no lease covers it: a thousand connections that become
readable at once would bring a quarter of a gigabyte before the first of their handlers runs.

Invariants:
- About ``MOST`` bytes come in one turn; then no connection is read from until handlers had time to lease or
  refuse what came.
- Small reads are not counted: all connections together cannot bring much of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

MOST = 4 << 20
PAUSE_TURNS = 3
"""Turns until a handler has its body: its connection's task wakes, starts it, and it reads."""


class Pausable(Protocol):
    def hold_back(self) -> None: ...

    def go_on(self) -> None: ...


class Inflow:
    __slots__ = ("_bytes", "_connections", "_paused")

    def __init__(self, connections: Callable[[], Iterable[Pausable]]) -> None:
        self._connections = connections
        self._bytes = 0
        self._paused = False

    def came(self, size: int) -> None:
        if not self._bytes:
            asyncio.get_running_loop().call_soon(self._turn)
        self._bytes += size
        if self._bytes > MOST and not self._paused:
            self._paused = True
            for connection in self._connections():
                connection.hold_back()
            asyncio.get_running_loop().call_soon(self._go_on, PAUSE_TURNS)

    def _turn(self) -> None:
        self._bytes = 0

    def _go_on(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._go_on, turns - 1)
            return
        self._paused = False
        for connection in self._connections():
            connection.go_on()
