"""``make bench AGAINST=REV``: is the checkout dearer than another commit?

- Rounds of both go in turns, this that that this, so that what the machine does meanwhile hits both alike. A
  ratio is of two rounds that were made one right after the other.
- Both daemons run side by side, so that a round is only a load. They are started again after every five
  rounds: where a process's memory happens to lie makes it a little dearer or cheaper for all its life.
- A variant that another row has measured already is not measured twice.
- A row that cannot be measured, or is not decided, does not pass; the other rows are still measured.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.claims import HEAD, Claim, exit_code, line
from benchmarks.machine import about
from benchmarks.measuring import Figures, Once, Plan, Variant
from benchmarks.ratios import MOST_ROUNDS, Verdict
from benchmarks.revisions import Sides, both

ROUNDS_PER_START = 5
RESULTS = "against.json"

Pair = tuple[Figures, Figures]


def compare(revision: str, plans: Mapping[str, Plan], bound: float, into: Path | None) -> int:
    """Print it all; the exit code."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # ends as Ctrl-C does, and leaves nothing behind
    began = time.monotonic()
    claims: list[Claim] = []
    with both(revision) as sides:
        print(f"this: {sides.names[0]}\nthat: {sides.names[1]}\n{HEAD}", flush=True)
        seen: list[Variant] = []
        for name, plan in plans.items():
            claims += _row(name, plan, bound, sides, seen)
            if into:
                write(into, sides.names, claims)
    print(f"\nthis / that, at most {bound:g}; {time.monotonic() - began:.0f} s\n{HEAD}")
    for claim in claims:
        print(line(claim))
    return exit_code(claims)


def write(directory: Path, names: tuple[str, str], claims: Sequence[Claim]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    results = {
        "about": about(),
        "this": names[0],
        "that": names[1],
        "claims": [claim.summary() for claim in claims],
    }
    (directory / RESULTS).write_text(json.dumps(results, indent=1) + "\n")


def _row(name: str, plan: Plan, bound: float, sides: Sides, seen: list[Variant]) -> list[Claim]:
    claims: list[Claim] = []
    began = time.monotonic()
    for variant_name, variant in plan.variants.items():
        if not variant.judged or variant in seen:
            continue
        seen.append(variant)
        made = [
            Claim(name, variant_name, figure, plan.unit if figure == "value" else figure, bound)
            for figure in variant.judged
        ]
        per_start = MOST_ROUNDS if plan.kept else ROUNDS_PER_START
        with contextlib.closing(rounds(variant, sides, per_start)) as pairs:
            decide(made, pairs)
        for claim in made:
            print(line(claim), flush=True)
        claims += made
    print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
    return claims


def decide(claims: Sequence[Claim], pairs: Iterable[Pair]) -> None:
    """Take rounds until all claims of this variant are decided, or there are no more."""
    try:
        for this, that in pairs:
            for claim in claims:
                claim.add(this[claim.figure], that[claim.figure])
            if all(claim.verdict is not Verdict.NOT_DECIDED for claim in claims):
                return
            if len(claims[0].this) % ROUNDS_PER_START == 0:
                print(
                    f"  {claims[0].row}, {claims[0].variant}: {len(claims[0].this)} rounds so far", flush=True
                )
    except (Exception, SystemExit) as error:
        for claim in claims:
            claim.fail(f"{type(error).__name__}: {error}")


def rounds(variant: Variant, sides: Sides, per_start: int) -> Generator[Pair, None, None]:
    """Rounds of both, as many as there may be."""
    for start in range(0, MOST_ROUNDS, per_start):
        with variant.opened(sides.this) as this, variant.opened(sides.that) as that:
            for number in range(start, min(start + per_start, MOST_ROUNDS)):
                yield in_turn(number, this, that)


def in_turn(number: int, this: Once, that: Once) -> Pair:
    """One round of both: this goes first in every other round."""
    if number % 2 == 0:
        return this(), that()
    other = that()
    return this(), other
