"""Returns events that were set aside to the groups, a bounded number in each turn of the event loop.

Invariants:
- The events of a name leave in order. While some are left, new events of the name go behind them.
- A name whose next events are on the disk, or being moved there, waits for them; other names go on.
- A name that is set aside again stops at once. Events that have left by then are not returned.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from forwarder.queues.aside import AsidePlace
from forwarder.queues.clumps import Clump, Parked

STEP_EVENTS = 2000
"""In one turn of the event loop: about 2 ms of CPU."""


class Releasing:
    """``going``: the names that are being released. ``into`` takes their events, ``moved`` is called after
    each turn, ``fetch`` has a parked row read."""

    def __init__(
        self,
        place: AsidePlace,
        into: Callable[[Clump], None],
        moved: Callable[[], None],
        fetch: Callable[[Parked], None],
    ) -> None:
        self._place = place
        self._into = into
        self._moved = moved
        self._fetch = fetch
        self.going: set[str] = set()
        self._stalled: set[str] = set()
        self._turns: deque[str] = deque()
        self._handle: asyncio.Handle | None = None

    def begin(self, name: str) -> None:
        if name in self._place and name not in self.going:
            self.going.add(name)
            self._turns.append(name)
            if self._handle is None:
                self._step()

    def end(self, name: str) -> None:
        self.going.discard(name)
        self._stalled.discard(name)

    def resume(self, name: str) -> None:
        """The events that this name waited for are in memory, or no longer moving."""
        if name in self._stalled:
            self._stalled.discard(name)
            self._turns.append(name)
            self._go_on()

    def close(self) -> None:
        self.going, self._stalled = set(), set()
        self._turns.clear()

    def _go_on(self) -> None:
        if self._handle is None and self._turns:
            self._handle = asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._handle = None
        left = STEP_EVENTS
        while left > 0 and self._turns:
            name = self._turns.popleft()
            if name in self.going and name not in self._stalled:
                left -= self._one(name)
        self._go_on()
        self._moved()

    def _one(self, name: str) -> int:
        """Release the next events of this name; returns the amount of work done."""
        first = self._place.first(name)
        if first is None:
            self.going.discard(name)
            return 1
        if isinstance(first, Parked) or first.moving:
            self._stalled.add(name)
            if isinstance(first, Parked):
                self._fetch(first)
            return 1
        clump = self._place.pop(name)
        self._into(clump)
        self._turns.append(name)
        return 1 + len(clump.events)
