"""``make torture``: the daemon is killed, stopped and started again at random, while AWS fails, disks are
full and senders go on; then an outside judge compares what was promised with what arrived.

    python -m tests.torture.run --seed 7 --rounds 4 --kills 12 --events 20000
    python -m tests.torture.run --seed 7 --rounds 4 --kills 12 --events 20000 --round 3     # that round alone

Each round has a storage of its own (see plans.py), full and small disks only where we may mount. Targets of
every kind, on disk and in memory, run at once. Exits with 1 when anything was lost or came again without a
reason (see judge.py), and says the seed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from tests.torture.course import Course, Stuck, say
from tests.torture.disks import ext4, tmpfs, why_not_mountable
from tests.torture.plans import Disk, Round, rounds_of
from tests.torture.report import Figures, show
from tests.torture.senders import Promises, Senders, sending
from tests.torture.stage import ROOT, Stage, a_stage

QUOTA = {"max_bytes": "3MiB", "dead_letters": {"max_bytes": "512KiB"}}
FULL_BYTES = 64 << 20
"""More than full queues need."""
SMALL_BYTES = 22 << 20
"""Less: beside the ballast there is little left."""


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


async def torture(stage: Stage, round_: Round, figures: Figures) -> list[str]:
    """Do one round; what is wrong with what came of it."""
    began = time.monotonic()
    promises = Promises(stage.folder / "promises")
    problems = []
    with storage_of(round_.disk, stage.folder) as (storage, settings):
        course = Course(stage, Senders(stage.http, promises), storage, settings)
        try:
            async with sending(course.senders):
                for step in round_.steps:
                    await course.live(step)
                last = await course.last_life(round_.events)
            await course.drain(last)
        except Stuck as problem:
            problems.append(say(problem))
        promises.close()
        await stage.end()
        verdict = await course.verdict(promises.path)
    figures.add(round_.number, round_.disk, stage.lives, verdict, promises.statuses, time.monotonic() - began)
    return [*problems, *verdict.violations]


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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.run", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=None, help="default: by chance, and said")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--events", type=int, default=30_000, help="promised in all, at least")
    parser.add_argument("--round", type=int, metavar="N", help="only this one of the rounds")
    parser.add_argument("--disks", nargs="+", default=get_args(Disk), choices=get_args(Disk))
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
