"""``make fuzz``: nearly good bodies through every dialect. Says its seed; with it the same bodies come again.

Invariants:
- Every dialect gets the same number of bodies, from a ``Random`` of its own, so that a failure comes again.
- Then the dearest body of each dialect is searched for, against a real daemon (``dearest.py``).
- A body that takes longer than ``PATIENCE`` ends the run, saying where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import resource
import sys
import time
from collections.abc import Sequence
from random import Random

from tests.fuzz.dearest import search
from tests.fuzz.dialects import DIALECTS, Dialect
from tests.fuzz.judge import Judge, Violation

PATIENCE = 60.0
"""Seconds for the slowest body; most take less than a thousandth of one."""
WATCHED = 1000
SAMPLE = 50
"""Of so many bodies one has its calls counted."""
MAX_GROWTH = 64 << 20
"""Bytes that the process may hold more than at its start."""


async def fuzz(dialect: Dialect, seed: int, inputs: int) -> Judge:
    """So many bodies through one dialect; Violation at the first that something does not hold for."""
    judge = Judge(dialect)
    random = Random(f"{seed} {dialect.label}")
    for body in dialect.seeds:
        await judge.judge(body)
    if set(judge.outcomes) != {"taken"}:
        raise Violation(f"{dialect.label}: a good body is not taken: {judge.outcomes}")
    body_of = dialect.bodies(random)
    for n in range(inputs):
        if n % WATCHED == 0:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
        await judge.judge(body_of(), count_calls=n % SAMPLE == 0)
    faulthandler.cancel_dump_traceback_later()
    return judge


def held() -> int:
    """Bytes that the process holds at most, until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--inputs", type=int, default=20_000, help="of all dialects together")
    parser.add_argument(
        "--dearest", type=int, default=16, help="bodies of each dialect to search for the dearest"
    )
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    each = -(-options.inputs // len(DIALECTS))
    print(f"seed {seed}, {each} inputs for each of {len(DIALECTS)} dialects", flush=True)
    total, began, before = 0, time.monotonic(), held()
    print("| dialect | inputs | taken | some refused | refused | events |\n|---|---|---|---|---|---|")
    for dialect in DIALECTS:
        try:
            judge = asyncio.run(fuzz(dialect, seed, each))
        except Violation as problem:
            print(f"VIOLATION, seed {seed}: {problem}"[:20_000])
            return 1
        outcomes = judge.outcomes
        whole, some = outcomes.pop("taken"), outcomes.pop("some refused", 0)
        total += whole + some + outcomes.total()
        print(
            f"| {dialect.label} | {whole + some + outcomes.total():,} | {whole:,} | {some:,} |",
            f"{outcomes.total():,}: {', '.join(f'{code} {n:,}' for code, n in outcomes.most_common())} |",
            f"{judge.events:,} |",
            flush=True,
        )
    grown = held() - before
    print(
        f"{total:,} inputs in {time.monotonic() - began:.0f} s, {grown >> 20} MiB more at most, no violation"
    )
    cheap = search(seed, options.dearest) if options.dearest else True
    return 0 if grown < MAX_GROWTH and cheap else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
