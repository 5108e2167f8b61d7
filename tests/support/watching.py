"""Who looks on while something goes wrong: a neighbour that goes on sending, and the memory of a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.events import events, markers
from tests.support.harness import World
from tests.support.processes import Process

MIB = 1 << 20
OVERHEAD = 32 * MIB
"""What docs/scaling.md says that the process may hold beside the budget."""


def anonymous_bytes(daemon: Process) -> int:
    """What the process holds that no file could give back."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


async def highest(look: Callable[[], int], seconds: float) -> int:
    """The most that was seen."""
    ends = asyncio.get_running_loop().time() + seconds
    most = look()
    while asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(0.02)
        most = max(most, look())
    return most


class Neighbour:
    """A program that sends to a target that works, and does as a 429 says, but sooner."""

    def __init__(self, place: World) -> None:
        self._place = place
        self.taken: list[str] = []
        self.refusals = 0

    async def send(self) -> None:
        while True:
            names = markers(10)
            while (sent := await self._place.post("rum", events("rum", names))).status != 202:
                assert sent.status == 429
                self.refusals += 1
                await asyncio.sleep(0.02)
            self.taken += names
            await asyncio.sleep(0.05)


@asynccontextmanager
async def at_work(*jobs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """They go on for as long as the block lasts; whoever ends before says why."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError("a sender ended")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
