"""Slices of time: work on a large request pauses, so that the event loop can serve everybody else.

Invariants:
- A request works for at most ``SLICE_SECONDS``, plus one step of its own, before others have their turn.
- Each turn of the loop continues the work of one paused request. Peers take turns, each in the order in which
  its requests paused. However many large requests there are, a turn takes as long as one slice.
- A larger body begins at once only if no other has used up the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary

from forwarder.ingest.fair_line import FairLine

SLICE_SECONDS = 0.004
BODY_OF_SOME_SIZE = 16 * 1024
"""Smaller ones never wait to begin."""

T = TypeVar("T")


class Work:
    """The work on one request of ``peer``. ``rest`` goes wherever the work may pause."""

    __slots__ = ("_ends", "_peer")

    def __init__(self, peer: str = "") -> None:
        self._peer = peer
        self._ends = perf_counter() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether this slice is used up."""
        return perf_counter() >= self._ends

    async def begin(self, size: int) -> None:
        """Before a body of this size is looked at: wait where others have used up this turn of the loop."""
        if size > BODY_OF_SOME_SIZE and _turns().are_used_up():
            await self.pause()

    async def rest(self) -> None:
        """Pause if this slice is used up."""
        if perf_counter() >= self._ends:
            await self.pause()

    async def pause(self) -> None:
        """Pause: what comes next begins a slice."""
        await _turns().wait(self._peer)
        self._ends = perf_counter() + SLICE_SECONDS

    async def through(self, steps: Generator[None, None, T]) -> T:
        """Run the steps to their end, with pauses between them; what they return."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if perf_counter() >= self._ends:
                await self.pause()


class _Pause(asyncio.Future[None]):
    @property
    def over(self) -> bool:
        """Its request may have been cancelled."""
        return self.done()


class _Turns:
    """Wakes one paused request in each turn of its loop."""

    __slots__ = ("__weakref__", "_began", "_loop", "_paused", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paused: FairLine[_Pause] = FairLine()
        self._scheduled = False
        self._began: float | None = None  # when the first large body began in this turn

    def are_used_up(self) -> bool:
        """Whether one more body would make this turn of the loop too long."""
        if self._paused:
            return True
        now = perf_counter()
        if self._began is None:
            self._began = now
            self._loop.call_soon(self._end)
        return now - self._began > SLICE_SECONDS

    def _end(self) -> None:
        self._began = None

    async def wait(self, peer: str) -> None:
        pause = _Pause(loop=self._loop)
        self._paused.add(peer, pause)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._wake)
        await pause

    def _wake(self) -> None:
        for peer, pause in self._paused.firsts():
            self._paused.pop(peer)
            pause.set_result(None)
            break
        self._scheduled = bool(self._paused)
        if self._scheduled:
            self._loop.call_soon(self._wake)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


def _turns() -> _Turns:
    loop = asyncio.get_running_loop()
    turns = _of_loop.get(loop)
    if turns is None:
        turns = _of_loop[loop] = _Turns(loop)
    return turns
