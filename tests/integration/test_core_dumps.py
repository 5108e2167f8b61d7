"""A daemon that dies leaves no core dump: it would hold credentials and events."""

from __future__ import annotations

from pathlib import Path

from tests.support.harness import World
from tests.support.processes import daemon_beside


async def test_a_running_daemon_may_not_dump_its_core(place: World) -> None:
    async with daemon_beside(place) as daemon:
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]
