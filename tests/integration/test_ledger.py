"""The ledger balances at every moment: an outside process looks while events and faults go through."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support import scraper
from tests.support.events import KINDS, TARGETS, event, markers
from tests.support.harness import World, until
from tests.support.processes import daemon_beside

SCRAPES = 5
REPORT_SECONDS = 30.0
SURE = ("throttle", "error", "reset")
FAULTS = [
    *({"fault": fault, "api": kind, "times": 2} for kind in KINDS for fault in SURE),
    {"fault": "throttle", "rate": 0.05},
    {"fault": "error", "rate": 0.04},
    {"fault": "reset", "rate": 0.03},
    {"fault": "slow", "rate": 0.2, "delay": 0.03},
    {"fault": "entry", "rate": 0.03},
]


class Scraping:
    """The scraper at work in its own process. Closing its standard input asks for the report."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.scrapes = 0
        self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.scrapes = int(line)

    async def report(self) -> dict[str, Any]:
        async with asyncio.timeout(REPORT_SECONDS):
            out, _ = await asyncio.gather(self._finish(), self._counting)
            assert await self._process.wait() == 0
        report: dict[str, Any] = json.loads(out)
        return report

    async def _finish(self) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        return await self._process.stdout.read()


@asynccontextmanager
async def scraping(url: str) -> AsyncIterator[Scraping]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(scraper.__file__)), url), stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        yield Scraping(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Sender:
    """Sends until told to stop, and remembers each accepted id with its marker."""

    def __init__(self, place: World, kind: str) -> None:
        self._place = place
        self._kind = kind
        self.good: dict[str, str] = {}
        self.bad: dict[str, str] = {}

    async def send(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            names = markers(20)
            words = ["reject" if number % 5 == 0 and i == 7 else None for i in range(20)]
            batch = [event(self._kind, name, word) for name, word in zip(names, words, strict=True)]
            sent = await self._place.post(self._kind, batch)
            assert sent.status == 202
            for id_, name, word in zip(sent.ids, names, words, strict=True):
                (self.bad if word else self.good)[id_] = name
            await asyncio.sleep(0.05)  # some load, not all there can be: the scraper shares the machine


async def test_every_scrape_of_an_outside_process_balances_under_load_and_faults(place: World) -> None:
    senders = {kind: Sender(place, kind) for kind in KINDS}
    over = asyncio.Event()
    async with daemon_beside(place) as daemon, scraping(f"{place.admin}/metrics") as outside:
        await place.order(*FAULTS)

        async def under_way() -> bool:
            injected = [set((await place.summary(kind))["injected"]) for kind in KINDS]
            return all(set(SURE) <= kinds for kinds in injected)

        async def seen_enough() -> bool:
            return outside.scrapes >= before + SCRAPES

        async with asyncio.TaskGroup() as tasks:
            for sender in senders.values():
                tasks.create_task(sender.send(over))
            await until(under_way, "faults hit every target")
            before = outside.scrapes
            await until(seen_enough, f"{SCRAPES} scrapes under load")
            over.set()
        await place.heal()
        await place.settled(*KINDS)
        report = await outside.report()
        daemon.ask(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert report["wrong"] == []
    assert report["scrapes"] > SCRAPES
    assert report["deepest"] > 0, "some were in the queue when it looked"
    letters = place.letters()
    for kind, sender in senders.items():
        last, name = report["last"][TARGETS[kind]], TARGETS[kind]
        assert report["different"][name] > SCRAPES // 2, "the numbers moved while it looked"
        assert last["accepted"] == len(sender.good) + len(sender.bad)
        assert last["in_queue"] == last["dropped"] == last["recovered"] == last["replayed"] == 0
        assert await place.arrived(kind) == dict.fromkeys(sender.good.values(), 1)
        assert last["delivered"] == len(sender.good)
        assert {id_ for id_, letter in letters.items() if letter.target == name} == set(sender.bad)
        assert last["dead_lettered"] == len(sender.bad) > 0
        report_of_the_stop = daemon.ledger(name)
        assert all(report_of_the_stop[field] == value for field, value in last.items())
