"""A daemon in a process of its own, as ``forwarder run`` starts it, with its log read line by line.

Invariants:
- The process is gone when its block ends, whatever the test did.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.harness import DEADLINE, Settings, World, settings, until

ROOT = Path(__file__).parents[2]
END_SECONDS = 2 * DEADLINE

Line = dict[str, Any]


@dataclass
class Process:
    """A running daemon. ``lines``: what it logged so far."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)

    def said(self, message: str, **fields: Any) -> list[Line]:
        """The lines with this message and these fields."""
        wanted = {"message": message, **fields}
        return [line for line in self.lines if wanted.items() <= line.items()]

    async def says(self, message: str, **fields: Any) -> Line:
        """Wait for the first such line."""

        async def there() -> list[Line]:
            return self.said(message, **fields)

        return (await until(there, f"the daemon says {message!r}"))[0]

    def ask(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; the exit code."""
        async with asyncio.timeout(END_SECONDS):
            return await self.process.wait()

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"message": line.decode()})

    def ledger(self, target: str) -> Line:
        """The target's line of the final report."""
        (line,) = self.said("ledger", target=target)
        return line


@asynccontextmanager
async def daemon_beside(place: World, wait_for: str = "ready", **changes: Settings) -> AsyncIterator[Process]:
    """A daemon in its own process, ready. Stop it with ``ask``; it is killed if nobody did."""
    place.storage.parent.mkdir(parents=True, exist_ok=True)
    config = place.storage.with_suffix(".yaml")
    config.write_text(json.dumps(settings(place.sandbox, place.storage, **changes)))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forwarder", "run", "-c", str(config)),
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    daemon = Process(process)
    reading = asyncio.create_task(daemon.read())
    try:
        line = await daemon.says(wait_for)
        if wait_for == "ready":
            place.ingest, place.admin = f"http://{line['ingest']}", f"http://{line['admin']}"
        yield daemon
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
