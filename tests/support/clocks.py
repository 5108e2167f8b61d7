"""Clocks that tests set."""

from __future__ import annotations

import asyncio


class HandClock:
    """A clock that moves when the test says so. The wall clock is ``wall_ahead`` of the monotonic one."""

    def __init__(self, now: float = 1000.0, wall_ahead: float = 0.0) -> None:
        self.now = now
        self.wall_ahead = wall_ahead

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self.wall_ahead


class LoopClock:
    """The time of the running event loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    wall = monotonic
