"""What a torture does, round by round, chosen by chance from a seed: the same seed, the same choices.

The choices are the same, the moments are not: how many events are in which place when a kill comes is up to
the machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

Disk = Literal["large", "quota", "full", "small"]
"""``quota``: storage.max_bytes is small. ``full``: a file system that others take all of, now and then.
``small``: one that the forwarder fills by itself while AWS is down."""

End = Literal["kill", "term", "term then kill", "kill at start"]
Json = dict[str, Any]

OUTAGE: list[Json] = [{"fault": "throttle", "retry_after": 0.1}]
"""AWS takes nothing, for all of a life: what is sent stays here, until a small disk is full."""


@dataclass(frozen=True)
class Step:
    """One life of the daemon: these faults from its start on, and its end after so many promised events,
    ``seconds`` after it was ready at the latest. ``delay``: of the second signal, or of a kill at start."""

    faults: list[Json]
    events: int
    seconds: float
    end: End
    delay: float
    full: float = 0.0
    """So many seconds after the start others take all of the disk; they give it back before the next step."""

    @property
    def kills(self) -> bool:
        return self.end != "term"


@dataclass(frozen=True)
class Round:
    """``events``: how many are to be promised in all, if the steps are over before."""

    number: int
    disk: Disk
    steps: list[Step]
    events: int


def rounds_of(seed: int, rounds: int, kills: int, events: int, disks: list[Disk]) -> list[Round]:
    """Every round has a storage of its own; the kinds of disk come in turns."""
    return [
        _round(
            random.Random(f"{seed}/{number}"),
            number,
            disks[(number - 1) % len(disks)],
            kills // rounds + (number <= kills % rounds),
            events // rounds,
        )
        for number in range(1, rounds + 1)
    ]


def _round(chance: random.Random, number: int, disk: Disk, kills: int, events: int) -> Round:
    steps: list[Step] = []
    each = max(1, events // max(1, kills))
    while sum(step.kills for step in steps) < kills:
        steps.append(_step(chance, each, disk))
    return Round(number, disk, steps, events)


def _step(chance: random.Random, events: int, disk: Disk) -> Step:
    if disk in ("quota", "small") and chance.random() < 0.3:
        seconds = chance.uniform(2.0, 4.0)
        return Step(OUTAGE, 1 << 30, seconds, chance.choice(("kill", "term")), 0.0)
    ends: list[End] = ["kill", "term", "term then kill", "kill at start"]
    return Step(
        faults=faults_of(chance),
        events=int(events * chance.uniform(0.2, 1.6)),
        seconds=chance.uniform(1.0, 3.0),
        end=chance.choices(ends, weights=(7, 3, 1, 1))[0],
        delay=chance.uniform(0.05, 0.8),
        full=chance.uniform(0.1, 1.0) if disk == "full" and chance.random() < 0.5 else 0.0,
    )


def faults_of(chance: random.Random) -> list[Json]:
    """The faults of one life, none to three."""
    return [_fault(chance) for _ in range(chance.choice((0, 1, 1, 2, 3)))]


def _fault(chance: random.Random) -> Json:
    """One kind of trouble, of one API or of all."""
    api = chance.choice((None, "eventbridge", "rum", "evidently"))
    where = {} if api is None else {"api": api}
    rate = round(chance.uniform(0.02, 0.3), 3)
    seconds = round(chance.uniform(0.3, 1.5), 2)
    # A RUM call that was taken is answered with nothing, so that no shape of nothing is wrong there.
    shapes = ("html", "list") if api in (None, "rum") else ("html", "list", "empty", "null")
    kinds: list[Json] = [
        {"fault": "throttle", "seconds": seconds, "retry_after": 0.1},  # an outage: everything waits
        {"fault": "error", "seconds": seconds},
        {"fault": "throttle", "rate": rate},
        {"fault": "error", "rate": rate},
        {"fault": "reset", "rate": rate},
        {"fault": "reset_after", "rate": rate},
        {"fault": "slow", "rate": rate, "delay": round(seconds / 4, 2)},
        {"fault": "hang", "times": 2},
        {"fault": "wrong_shape", "rate": rate, "shape": chance.choice(shapes)},
        {"fault": "credentials", "times": 2},
        {"fault": "access_denied", "times": 2},
        {"fault": "redirect", "times": 1},
    ]
    if api != "rum":  # whose answers say nothing of single events
        kinds += [{"fault": "entry", "rate": rate}, {"fault": "missing_results", "rate": rate}]
    return {**where, **chance.choice(kinds)}
