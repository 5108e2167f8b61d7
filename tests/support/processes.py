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
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.harness import DEADLINE, Settings, World, settings, until

ROOT = Path(__file__).parents[2]
END_SECONDS = 2 * DEADLINE

HAND_OVER = """
import fcntl, os, sys
numbers, names, *command = sys.argv[1:]
kept = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers.split()]
for place, number in enumerate(kept, 3):
    os.dup2(number, place)
about = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": names}
os.execve(command[0], command, {**os.environ, **about})
"""
"""What systemd does for a service with sockets, by sd_listen_fds(3)."""

Line = dict[str, Any]


@dataclass
class Process:
    """A running daemon. ``lines``: what it logged so far."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

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
        """Wait for the end, and for all it wrote: its last lines are read after it is gone. The exit code."""
        async with asyncio.timeout(END_SECONDS):
            code = await self.process.wait()
            if self.reading is not None:
                await self.reading
            return code

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
async def daemon_beside(
    place: World,
    wait_for: str = "ready",
    given: Mapping[str, socket.socket] | None = None,
    **changes: Settings,
) -> AsyncIterator[Process]:
    """A daemon in its own process, ready. Stop it with ``ask``; it is killed if nobody did.

    ``given``: the listening sockets that it inherits, by name.
    """
    command = run_command(place, **changes)
    numbers = [listener.fileno() for listener in (given or {}).values()]
    if given:
        hand_over = [" ".join(map(str, numbers)), ":".join(given)]
        command = [sys.executable, "-c", HAND_OVER, *hand_over, *command]
    async with running(command, numbers) as daemon:
        line = await daemon.says(wait_for)
        if wait_for == "ready":
            place.ingest, place.admin = f"http://{line['ingest']}", f"http://{line['admin']}"
        yield daemon


def run_command(place: World, **changes: Any) -> list[str]:
    """What runs a daemon with these settings."""
    place.storage.parent.mkdir(parents=True, exist_ok=True)
    config = place.storage.with_suffix(".yaml")
    config.write_text(json.dumps(settings(place.sandbox, place.storage, **changes)))
    return [sys.executable, str(ROOT / "tests" / "support" / "fresh.py"), "run", "-c", str(config)]


@asynccontextmanager
async def running(command: Sequence[str], numbers: Sequence[int] = ()) -> AsyncIterator[Process]:
    """A process with these files open beside the standard ones; killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        pass_fds=numbers,
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    daemon = Process(process)
    daemon.reading = asyncio.create_task(daemon.read())
    try:
        yield daemon
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await daemon.reading
