"""``make torture-power``: the power fails, as far as that can be tried without pulling a plug.

    python -m tests.torture.power --seed 7 --rounds 10 --cuts 4

The storage is on an ext4 of its own on a loop device. While senders go on, the file system is shut down by
FS_IOC_SHUTDOWN without a flush of its journal: what was not synced by then never reaches the device. Then the
daemon is killed, the device is mounted again, and the next life begins. The judge is ``make torture``'s.

Half of the daemons are frozen first, as a power cut would: every answer that they gave counts. The others
meet a disk that fails, and go on for up to half a second. What senders read in that time is counted apart:
when a sync and the shutdown meet, the kernel may say that it has synced what it then forgets; a program that
only writes and syncs sees that too. What none of this tries: a disk that says it has synced and has not.

Needs root, loop devices and mkfs.ext4.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.course import Course, Stuck, say
from tests.torture.disks import make_ext4, mounted_image, shut_down, why_not_mountable
from tests.torture.plans import Step, faults_of
from tests.torture.report import Figures, show
from tests.torture.senders import Promises, Senders, sending
from tests.torture.stage import ROOT, a_stage

DISK_BYTES = 256 << 20
EARLY = 0.2
"""Share of the cuts that come while a daemon starts."""


async def cut(course: Course, chance: random.Random, disk: Path) -> None:
    """One life that ends in a power cut."""
    life = await course.begin(faults_of(chance))
    if chance.random() < EARLY:
        await asyncio.sleep(chance.uniform(0.05, 0.8))
    else:
        await course.await_ready(life)
        await course.endure(life, Step([], 1 << 30, chance.uniform(0.2, 2.0), "kill", 0.0))
    goes_on = chance.choice((None, None, 0.05, 0.5))
    life.how = "power"
    if goes_on is None:
        await life.freeze()
        life.asked = time.time()
        shut_down(disk)
    else:
        life.asked = life.late_from = time.time()
        shut_down(disk)
        await asyncio.sleep(goes_on)
    await life.kill()
    course.senders.aim(0, None)


async def round_of(folder: Path, number: int, arguments: argparse.Namespace, figures: Figures) -> list[str]:
    """Some power cuts on one disk, then a drain; what is wrong with what came of it."""
    chance = random.Random(f"{arguments.seed}/{number}")
    began = time.monotonic()
    image, disk, problems = folder / "disk.img", folder / "disk", []
    make_ext4(image, DISK_BYTES)
    promises = Promises(folder / "promises")
    async with a_stage(folder, arguments.tree) as stage:
        course = Course(stage, Senders(stage.http, promises), disk / "state", {})
        try:
            async with sending(course.senders):
                for _ in range(arguments.cuts):
                    with mounted_image(image, disk):
                        await cut(course, chance, disk)
        except Stuck as problem:
            problems.append(say(problem))
        with mounted_image(image, disk):
            try:
                await course.drain(await course.last_life(0))
            except Stuck as problem:
                problems.append(say(problem))
            promises.close()
            await stage.end()
            verdict = await course.verdict(promises.path)
        seconds = time.monotonic() - began
        figures.add(number, "power", stage.lives, verdict, promises.statuses, seconds)
    return [*problems, *verdict.violations]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.power", description="Power cuts.")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cuts", type=int, default=4, help="in each round")
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="FOLDER", help="the daemon's code")
    arguments = parser.parse_args(argv)
    if reason := why_not_mountable() or ("" if shutil.which("mkfs.ext4") else "there is no mkfs.ext4"):
        print(f"Power cuts cannot be tried here: {reason}.", file=sys.stderr)
        return 1
    print(f"power cuts with --seed {arguments.seed}", flush=True)
    figures, violations = Figures(), 0
    for number in range(1, arguments.rounds + 1):
        folder = Path(tempfile.mkdtemp(prefix="forwarder-power-"))
        found = asyncio.run(round_of(folder, number, arguments, figures))
        print(figures.line(), *found[:20], sep="\n    ", flush=True)
        if found:
            print(f"    round {number} is kept in {folder}")
        else:
            shutil.rmtree(folder)
        violations += len(found)
    show(figures)
    late, lost = figures.total("late"), figures.total("late_lost")
    print(f"  said after a cut: {late} promises on disk, of which {lost} were lost")
    print(f"power cuts {'FAILED' if violations else 'passed'} with --seed {arguments.seed}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
