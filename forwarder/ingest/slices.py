"""Slices of time: work on a large request pauses, so that the event loop can serve everybody else.

Invariants:
- A request works for at most ``SLICE_SECONDS``, plus one step of its own, before others have their turn.
- Each turn of the loop continues the work of one paused request, in the order they paused. However many
  large requests there are, a turn takes as long as one slice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from time import perf_counter
from typing import TypeVar
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.004

T = TypeVar("T")


class Work:
    """The work on one request. ``rest`` goes wherever the work may pause."""

    __slots__ = ("_ends",)

    def __init__(self) -> None:
        self._ends = perf_counter() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether this slice is used up."""
        return perf_counter() >= self._ends

    async def rest(self) -> None:
        """Pause if this slice is used up."""
        if perf_counter() >= self._ends:
            await self.pause()

    async def pause(self) -> None:
        """Pause: what comes next begins a slice."""
        await _turns().wait()
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


class _Turns:
    """Wakes one paused request in each turn of its loop."""

    __slots__ = ("__weakref__", "_loop", "_paused", "_scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paused: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def wait(self) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        self._paused.append(future)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._wake)
        await future

    def _wake(self) -> None:
        while self._paused:
            future = self._paused.popleft()
            if not future.done():  # its request may have been cancelled
                future.set_result(None)
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
