"""One round's course: a life of the daemon after the other over one storage, and at the end the drain."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.disks import FILLER, fill
from tests.torture.events import TARGETS
from tests.torture.judge import Record, Verdict, judge
from tests.torture.plans import Json, Step
from tests.torture.senders import Senders
from tests.torture.stage import Life, Stage

SCRAPE_SECONDS = 0.25
LOOK_SECONDS = 0.02
DRAIN_SECONDS = 90.0
"""A drain that takes longer never ends."""


class Stuck(Exception):
    """The daemon did not do what it must in any time that makes sense."""


def say(problem: Stuck) -> str:
    """Say it at once: what comes after it may not work either."""
    print(f"    {problem}", flush=True)
    return str(problem).partition("\n")[0]


@dataclass
class Course:
    """The lives of one round over one storage, with senders that go on through all of them."""

    stage: Stage
    senders: Senders
    storage: Path
    settings: dict[str, Any]

    async def live(self, step: Step) -> None:
        """One life, from its start to its end."""
        life = await self.begin(step.faults)
        if step.end == "kill at start":
            await asyncio.sleep(step.delay)
            await life.kill()
            return
        await self.await_ready(life)
        await self.endure(life, step)
        if step.end == "kill":
            await life.kill()
        else:
            await life.stop(step.delay if step.end == "term then kill" else None)
        self.senders.aim(0, None)

    async def begin(self, faults: list[Json]) -> Life:
        """Start a daemon, with these faults; it may not be ready yet. Nobody else takes the disk now."""
        await self.stage.order(faults)
        (self.storage / FILLER).unlink(missing_ok=True)
        return await self.stage.begin(self.storage, **self.settings)

    async def await_ready(self, life: Life) -> None:
        if not await life.ready():
            raise Stuck(f"life {life.number} did not start:\n{life.log.read_text()[-2000:]}")
        self.senders.aim(life.number, life.ingest)

    async def endure(self, life: Life, step: Step) -> None:
        """Let it work until the step is over; look at its ledgers now and then."""
        began = time.monotonic()
        ends, enough = began + step.seconds, self.senders.promises.count + step.events
        full_at = began + step.full if step.full else float("inf")
        scrape_at = 0.0
        while time.monotonic() < ends and self.senders.promises.count < enough:
            if life.process.returncode is not None:
                raise Stuck(f"life {life.number} ended by itself:\n{life.log.read_text()[-2000:]}")
            if time.monotonic() > scrape_at:
                scrape_at = time.monotonic() + SCRAPE_SECONDS
                await self.stage.scrape(life)
            if time.monotonic() > full_at:
                full_at = float("inf")
                fill(self.storage)
            await asyncio.sleep(LOOK_SECONDS)

    async def last_life(self, events: int) -> Life:
        """A life without faults, until enough is promised."""
        life = await self.begin([])
        await self.await_ready(life)
        rest = events - self.senders.promises.count
        await self.endure(life, Step([], rest, DRAIN_SECONDS, "term", 0.0))
        return life

    async def drain(self, life: Life) -> None:
        """Wait until every queue is empty, and stop it. Senders send no more."""
        ends = time.monotonic() + DRAIN_SECONDS
        while True:
            # A target of which only bad events are left needs a good one to see that they are to blame.
            for target in TARGETS:
                await self.senders.send_one(target)
            await asyncio.sleep(2 * SCRAPE_SECONDS)
            if await self.stage.scrape(life) and life.queued() == 0:
                break
            if time.monotonic() > ends:
                raise Stuck(f"it does not drain: {life.ledgers}")
        await life.stop()
        if life.code != 0 or life.queued():
            raise Stuck(f"after a drain life {life.number} ended with {life.code}: {life.ledgers}")

    async def verdict(self, promises: Path) -> Verdict:
        """The judge's word on all of it; nothing runs any more."""
        stage = self.stage
        letters = await stage.letters(self.storage)
        record = Record.read(promises, stage.lives, await stage.arrivals(), letters)
        unknown = {
            api: counts["injected"].get("reset_after", {}).get("events", 0)
            for api, counts in (await stage.summary()).items()
        }
        verdict = judge(record, stage.lives, unknown)
        verdict.violations.extend(self.senders.promises.odd)
        return verdict
