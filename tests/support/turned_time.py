"""An event loop whose time is turned: nothing is waited for that only time could bring.

Invariants:
- Time moves only when nothing else can happen: whatever is ready runs first, and so does what threads are at.
- The wall clock goes with it, but for the steps that a test makes.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START, WALL = 50_000.0, 1_700_000_000.0
LOOK_SECONDS = 0.05
"""Real ones, after which it is seen whether a thread has done its job."""


class TurnedClock:
    """The loop's time, and a wall clock that can be stepped."""

    def __init__(self) -> None:
        self.now = START
        self.stepped = 0.0
        self.jobs = 0
        """What threads are at, which time has to wait for."""

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return WALL + self.now - START + self.stepped


class _Selector(selectors.DefaultSelector):
    def __init__(self, clock: TurnedClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return list(super().select(timeout))
        ready = super().select(LOOK_SECONDS if self._clock.jobs else 0)
        if not ready and not self._clock.jobs:
            self._clock.now += timeout
        return list(ready)


class TurnedLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: TurnedClock) -> None:
        self._turned = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._turned.now


def run_in_turned_time(test: Callable[[TurnedClock], Coroutine[Any, Any, T]]) -> T:
    """Run it on a loop of its own, with the loop's clock."""
    clock = TurnedClock()
    with asyncio.Runner(loop_factory=lambda: TurnedLoop(clock)) as runner:
        return runner.run(test(clock))
