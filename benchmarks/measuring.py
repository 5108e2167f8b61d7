"""How a row is measured: rounds of its variants, and the figures each of them leaves.

- A ``Plan`` says what a row compares. A ``Variant`` of it knows how to measure one server, for any code.
- Every round of a row runs all of its variants one after the other, so that the machine's moods hit all
  alike; the best round of each counts.
- Every load checks that what was sent was accepted and arrived, once.
- Less is better in every figure that is compared.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count as counted
from typing import Protocol

from benchmarks.load import MONITOR
from benchmarks.machine import CHECKOUT, HERE, Code, cpu_seconds, environment, memory_mb
from benchmarks.servers import Forwarder, Server, Sink, Start, sink

WARM_UP_EVENTS = 2_000
FIRST_OF_WARM_UP = 10**9
RUM_PATH = f"/appmonitors/{MONITOR}"
"""Where a RUM client posts; its batch leaves as it came."""

Figures = dict[str, float]
"""Numbers of one round of one variant, by name; the row's unit is what ``value`` is in."""

Once = Callable[[], Figures]
"""Measures one round."""


class Variant(Protocol):
    """One of the things that a row compares."""

    @property
    def judged(self) -> tuple[str, ...]:
        """The figures that two commits are compared by; none where it is not the forwarder."""
        ...

    def opened(self, code: Code) -> AbstractContextManager[Once]:
        """Make ready what rounds need, with the forwarder of this code; then as many rounds as are wanted."""
        ...


@dataclass(frozen=True)
class Plan:
    """A row before it is measured. ``kept``: its variants stay open for all rounds; opening them is slow."""

    title: str
    unit: str
    wanted: str
    variants: Mapping[str, Variant]
    reached: Callable[[Mapping[str, float]], bool]
    kept: bool = False

    def measure(self, rounds: int) -> Row:
        """All variants of the checkout, in turns."""
        figures: dict[str, list[Figures]] = {name: [] for name in self.variants}
        with contextlib.ExitStack() as stack:
            openings = {
                name: stack.enter_context(variant.opened(CHECKOUT)) if self.kept else None
                for name, variant in self.variants.items()
            }
            for _ in range(rounds):
                for name, once in openings.items():
                    figures[name].append(once() if once else self._alone(name))
        return Row(self.title, self.unit, self.wanted, figures, self.reached)

    def _alone(self, name: str) -> Figures:
        with self.variants[name].opened(CHECKOUT) as once:
            return once()


@dataclass
class Row:
    """One comparison, measured. ``rounds``: for every variant the figures of each round."""

    title: str
    unit: str
    wanted: str
    rounds: dict[str, list[Figures]]
    reached: Callable[[Mapping[str, float]], bool]
    best: dict[str, Figures] = field(init=False)

    def __post_init__(self) -> None:
        self.best = {name: min(some, key=lambda one: one["value"]) for name, some in self.rounds.items()}

    @property
    def values(self) -> dict[str, float]:
        return {name: figures["value"] for name, figures in self.best.items()}

    @property
    def good(self) -> bool:
        return self.reached(self.values)

    def spread(self, name: str) -> float:
        """How far the rounds of a variant lie apart, against their median."""
        values = [figures["value"] for figures in self.rounds[name]]
        return (max(values) - min(values)) / statistics.median(values)


@dataclass(frozen=True)
class Load:
    """What is sent: so many events, in posts of so many."""

    count: int
    per_post: int
    kind: str = "eventbridge"
    connections: int = 64
    size: int = 300
    sessions: int = 1
    rate: float = 0.0

    def send(self, server: Server, first: int = 0, count: int | None = None) -> list[tuple[int, int, float]]:
        """Post it all, and return when it was accepted: (first, end, moment) of every post."""
        sent = self.count if count is None else count
        options = {
            "port": server.port,
            "path": RUM_PATH if self.kind == "rum" else server.path,
            "kind": self.kind,
            "count": sent,
            "per-post": self.per_post,
            "connections": min(self.connections, max(1, sent // self.per_post)),
            "first": first,
            "size": self.size,
            "sessions": self.sessions,
            "rate": self.rate,
        }
        command = [
            sys.executable,
            str(HERE / "load.py"),
            *(f"--{name}={value}" for name, value in options.items()),
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment())
        accepted = [(start, stop, at) for start, stop, at in json.loads(done.stdout)]
        assert sum(stop - start for start, stop, _ in accepted) == sent
        return accepted


@dataclass(frozen=True)
class Through:
    """A load through a server. ``shown`` makes the row's figures of those that were measured."""

    start: Start
    load: Load
    delay_ms: float = 0.0
    shown: Callable[[Figures], Figures] | None = None
    figures: tuple[str, ...] = ("value",)

    @property
    def judged(self) -> tuple[str, ...]:
        return self.figures if isinstance(self.start, Forwarder) else ()

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        firsts = counted(0, self.load.count)
        with sink(self.delay_ms) as aws, self.start(aws, code) as server:
            self.load.send(server, FIRST_OF_WARM_UP, WARM_UP_EVENTS)
            aws.collect(WARM_UP_EVENTS)

            def once() -> Figures:
                figures = measured(server, aws, self.load, next(firsts))
                return self.shown(figures) if self.shown else figures

            yield once


def measured(server: Server, aws: Sink, load: Load, first: int) -> Figures:
    """CPU per event from the first post to the last arrival, with what else can be seen meanwhile."""
    cpu, began = cpu_seconds(server.pid), time.monotonic()
    accepted = load.send(server, first)
    calls, arrived = aws.collect(load.count)
    cpu = cpu_seconds(server.pid) - cpu
    waits = sorted(arrived[n] - at for start, stop, at in accepted for n in range(start, stop))
    return {
        "value": cpu / load.count * 1e6,
        "events_per_second": load.count / (max(arrived.values()) - began),
        "fill": load.count / calls,
        "p50_ms": percentile(waits, 0.5) * 1e3,
        "p99_ms": percentile(waits, 0.99) * 1e3,
        "rss_mb": memory_mb(server.pid),
    }


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
