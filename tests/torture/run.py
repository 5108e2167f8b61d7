"""``make torture``: the daemon is killed, stopped and started again at random, while AWS fails, disks are full
and senders go on; then an outside judge compares what was promised with what arrived.

    python -m tests.torture.run --seed 7 --rounds 4 --kills 12 --events 20000
    python -m tests.torture.run --seed 7 --rounds 4 --kills 12 --events 20000 --round 3     # that round alone

Each round has a storage of its own (see plans.py); full and small disks only where we may mount. Targets of every kind, on disk and in memory, run at once. Exits with 1 when anything was
lost or came again without a reason (see judge.py), and says the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from tests.torture.disks import FILLER, ext4, fill, tmpfs, why_not_mountable
from tests.torture.events import TARGETS
from tests.torture.judge import Record, Verdict, judge
from tests.torture.plans import Disk, Round, Step, rounds_of
from tests.torture.report import Figures, show
from tests.torture.senders import Promises, Senders, sending
from tests.torture.stage import ROOT, Life, Stage, a_stage

QUOTA = {"max_bytes": "3MiB", "dead_letters": {"max_bytes": "512KiB"}}
FULL_BYTES = 64 << 20
"""More than full queues need."""
SMALL_BYTES = 12 << 20
"""Less."""
SCRAPE_SECONDS = 0.25
LOOK_SECONDS = 0.02
ANSWERS = {200, 202, 429, 503}
"""What a sender of sound events may be told."""

DRAIN_SECONDS = 90.0
"""A drain that takes longer never ends."""


class Stuck(Exception):
    """The daemon did not do what it must in any time that makes sense."""


@contextmanager
def storage_of(disk: Disk, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Where a round's storage is, and its settings."""
    if disk == "full":
        with tmpfs(folder / "tmpfs", FULL_BYTES) as mounted:
            yield mounted / "state", {}
    elif disk == "small":
        with ext4(folder / "ext4", SMALL_BYTES) as mounted:
            yield mounted / "state", {}
    else:
        yield folder / "state", QUOTA if disk == "quota" else {}


@dataclass
class Torture:
    """One round: its stage, its senders, and the storage that all its lives have."""

    stage: Stage
    senders: Senders
    storage: Path
    settings: dict[str, Any]

    async def live(self, step: Step) -> None:
        """One life, from its start to its end."""
        await self.stage.order(step.faults)
        (self.storage / FILLER).unlink(missing_ok=True)
        life = await self.stage.begin(self.storage, **self.settings)
        if step.end == "kill at start":
            await asyncio.sleep(step.delay)
            await life.kill()
            return
        await self._await_ready(life)
        await self._endure(life, step)
        if step.end == "kill":
            await life.kill()
        else:
            await life.stop(step.delay if step.end == "term then kill" else None)
        self.senders.aim(0, None)

    async def _await_ready(self, life: Life) -> None:
        if not await life.ready():
            raise Stuck(f"life {life.number} did not start:\n{life.log.read_text()[-2000:]}")
        self.senders.aim(life.number, life.ingest)

    async def _endure(self, life: Life, step: Step) -> None:
        """Let it work until the step is over; look at its ledgers now and then."""
        began = time.monotonic()
        ends, enough = began + step.seconds, self.senders.promises.count + step.events
        full_at = began + step.full if step.full else ends
        scrape_at = 0.0
        while time.monotonic() < ends and self.senders.promises.count < enough:
            if life.process.returncode is not None:
                raise Stuck(f"life {life.number} ended by itself:\n{life.log.read_text()[-2000:]}")
            if time.monotonic() > scrape_at:
                scrape_at = time.monotonic() + SCRAPE_SECONDS
                await self.stage.scrape(life)
            if time.monotonic() > full_at:
                full_at = ends
                fill(self.storage)
            await asyncio.sleep(LOOK_SECONDS)

    async def last_life(self, events: int) -> Life:
        """A life without faults, until enough is promised."""
        await self.stage.order([])
        (self.storage / FILLER).unlink(missing_ok=True)
        life = await self.stage.begin(self.storage, **self.settings)
        await self._await_ready(life)
        rest = events - self.senders.promises.count
        await self._endure(life, Step([], rest, DRAIN_SECONDS, "term", 0.0))
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


async def torture(stage: Stage, round_: Round, figures: Figures) -> list[str]:
    """Do one round; what is wrong with what came of it."""
    began = time.monotonic()
    folder = stage.folder
    stage.lives.clear()
    await stage.forget()
    promises = Promises(folder / "promises")
    with storage_of(round_.disk, folder) as (storage, settings):
        doing = Torture(stage, Senders(stage.http, promises), storage, settings)
        problems = []
        try:
            async with sending(doing.senders):
                for step in round_.steps:
                    await doing.live(step)
                last = await doing.last_life(round_.events)
            await doing.drain(last)
        except Stuck as problem:
            problems.append(str(problem))
        promises.close()
        for life in stage.lives:
            if life.process.returncode is None:
                await life.kill()
        verdict = await _verdict(stage, folder / "promises", storage, round_.disk)
    figures.add(round_, stage.lives, verdict, promises.statuses, time.monotonic() - began)
    odd = set(promises.statuses) - ANSWERS
    problems += [f"senders were told {status}, {promises.statuses[status]} times" for status in odd]
    return [*problems, *verdict.violations]


async def _verdict(stage: Stage, promises: Path, storage: Path, disk: Disk) -> Verdict:
    record = Record.read(promises, await stage.arrivals(), await stage.letters(storage))
    unknown = {
        api: counts["injected"].get("reset_after", {}).get("events", 0)
        for api, counts in (await stage.summary()).items()
    }
    return judge(record, stage.lives, unknown, disk in ("full", "small"))


async def run(arguments: argparse.Namespace) -> int:
    disks: list[Disk] = ["large", "quota"]
    if reason := why_not_mountable():
        print(f"No really full disk: {reason}.")
    else:
        disks += ["full", "small"]
    disks = [disk for disk in disks if disk in arguments.disks]
    rounds = rounds_of(arguments.seed, arguments.rounds, arguments.kills, arguments.events, disks)
    figures = Figures()
    violations: list[str] = []
    for round_ in rounds:
        if arguments.round not in (None, round_.number):
            continue
        folder = Path(tempfile.mkdtemp(prefix="forwarder-torture-"))
        async with a_stage(folder, arguments.tree) as stage:
            found = await torture(stage, round_, figures)
        print(figures.line(), flush=True)
        for sentence in found[:20]:
            print(f"    {sentence}", flush=True)
        if found:
            print(f"    round {round_.number} is kept in {folder}")
        else:
            shutil.rmtree(folder)
        violations += found
    show(figures)
    return 1 if violations else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.run", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="default: by chance, and said")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--events", type=int, default=40_000, help="promised in all, at least")
    parser.add_argument("--round", type=int, metavar="N", help="only this one of the rounds")
    parser.add_argument("--disks", nargs="+", default=["large", "quota", "full"], choices=get_args(Disk))
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="FOLDER", help="the daemon's code")
    arguments = parser.parse_args(argv)
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 32)
    began = time.monotonic()
    print(f"torture with --seed {arguments.seed}", flush=True)
    code = asyncio.run(run(arguments))
    outcome = "FAILED" if code else "passed"
    print(f"torture {outcome} with --seed {arguments.seed}, {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
