"""What an attack came to: a figure beside its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tests.abuse.stage import MIB, ROOT, Daemon

STEP_MS = 50.0
"""CPU of one turn of the event loop, at most (bounds.md, 2)."""
TURN_MS = 4 * STEP_MS
"""CPU of one turn, at most, while many requests are under way at once: each may have a step in it."""
BESIDE = 32 * MIB
"""Memory beside the budget and what an idle daemon holds, at most."""
NEIGHBOUR_MS = 500.0
"""CPU of the event loop between an honest event and its answer, whatever others send: ten steps."""
Unit = Literal["ms", "MiB", "s", ""]


@dataclass(frozen=True)
class Figure:
    """``bound`` None: only told, and not judged. ``detail``: which input it was, or the control run.

    ``listed``: the page's table has it although it is not judged, with its detail.
    """

    what: str
    value: float
    bound: float | None
    unit: Unit = ""
    detail: str = ""
    listed: bool = False

    @property
    def holds(self) -> bool:
        return self.bound is None or self.value <= self.bound

    def shown(self) -> str:
        return number(self.value, self.unit)

    def shown_bound(self) -> str:
        return "-" if self.bound is None else number(self.bound, self.unit)


def number(value: float, unit: Unit) -> str:
    return (
        f"{value:,.0f} {unit}".strip()
        if value >= 10 or value == int(value)
        else f"{value:.1f} {unit}".strip()
    )


@dataclass(frozen=True)
class Context:
    """What every attack gets: whose code the daemon runs, and whether it may take its time."""

    tree: Path = ROOT
    long: bool = False
    say: bool = False
    """Whether every input is told, and not only the worst."""
    at_once: int = 1
    shared: Daemon | None = None
    """A daemon for those attacks that need none of their own."""

    @property
    def daemon(self) -> Daemon:
        assert self.shared is not None
        return self.shared


@dataclass(frozen=True)
class Attack:
    """One row of the table. ``name`` says what is sent, ``act`` does it."""

    name: str
    principles: str
    act: Callable[[Context], Iterable[Figure]]
    shares: bool = False
    """Whether it runs against the daemon that others used before it."""


@dataclass
class Result:
    attack: str
    principles: str
    figures: list[Figure]
    seconds: float
    problem: str = ""

    @property
    def holds(self) -> bool:
        return not self.problem and all(figure.holds for figure in self.figures)

    def as_json(self) -> dict[str, Any]:
        rows = [{**asdict(figure), "holds": figure.holds} for figure in self.figures]
        return {
            "attack": self.attack,
            "principles": self.principles,
            "holds": self.holds,
            "seconds": round(self.seconds, 1),
            "problem": self.problem,
            "figures": rows,
        }


def longest_step(daemon: Daemon, detail: str = "") -> Figure:
    return Figure("CPU in one step", daemon.longest_step_ms(), STEP_MS, "ms", detail)


def longest_turn(daemon: Daemon) -> Figure:
    return Figure("CPU in one turn, of many at once", daemon.longest_step_ms(), TURN_MS, "ms")


def peak_memory(daemon: Daemon, detail: str = "") -> Figure:
    most = daemon.budget + daemon.idle + BESIDE
    return Figure("memory (VmHWM)", daemon.peak() / MIB, most / MIB, "MiB", detail)


def fairness(neighbour: Any, control: Any, seconds: float = 10.0) -> list[Figure]:
    """What an attack did to an honest neighbour; ``control``: the same neighbour without the attack."""
    wall = f"without the attack {control.percentile('wall_ms', 0.95):,.0f} ms"
    refused = neighbour.refused
    why = f"of {len(neighbour.posts)}; {refused[0].status} {refused[0].said}" if refused else ""
    return [
        Figure("good events refused", len(refused), 0, "", why),
        Figure("good events not delivered", neighbour.missing(seconds), 0),
        Figure("CPU until a good event is answered", neighbour.most(), NEIGHBOUR_MS, "ms"),
        Figure("answered in, 95 of 100", neighbour.percentile("wall_ms", 0.95), None, "ms", wall),
    ]
