"""The rows of the table: what is compared, how it is measured, and what is wanted of it.

Every round of a row runs all of its variants one after the other, so that the machine's moods hit all alike;
the best round of each counts. Every load checks that what was sent was accepted and arrived, once.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import MONITOR
from benchmarks.machine import HERE, cpu_seconds, environment, memory_mb
from benchmarks.servers import BY_HAND, PER_EVENT, Server, Sink, Start, forwarder, sink

WARM_UP_EVENTS = 2_000
FIRST_OF_WARM_UP = 10**9
WIDE: dict[str, Any] = {"queue_limits": {"max_events": 400_000, "max_bytes": "512MiB"}, "budget": "2GiB"}
"""A queue that does not get full: what is refused with 429 and sent again would be measured as well."""
RUM_PATH = f"/appmonitors/{MONITOR}"
"""Where a RUM client posts; its batch leaves as it came."""

Figures = dict[str, float]
"""Numbers of one round of one variant, by name; the row's unit is what ``value`` is in."""


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


def measured(server: Server, aws: Sink, load: Load) -> Figures:
    """CPU per event from the first post to the last arrival, with what else can be seen meanwhile."""
    load.send(server, FIRST_OF_WARM_UP, WARM_UP_EVENTS)
    aws.collect(WARM_UP_EVENTS)
    cpu, began = cpu_seconds(server.pid), time.monotonic()
    accepted = load.send(server)
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


def compared(
    rounds: int, variants: Mapping[str, tuple[Start, Load]], delay_ms: float = 0.0
) -> dict[str, list[Figures]]:
    figures: dict[str, list[Figures]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, (start, load) in variants.items():
            with sink(delay_ms) as aws, start(aws) as server:
                figures[name].append(measured(server, aws, load))
    return figures


def call(rounds: int, share: float) -> Row:
    """In one process, in turns; a round is short, so there are five for each that was asked for."""
    calls = max(50, int(300 * share))
    with sink() as aws:
        command = [sys.executable, str(HERE / "call.py"), "--url", aws.endpoint]
        command += ["--rounds", str(5 * rounds), "--calls", str(calls)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment())
    costs: dict[str, list[float]] = json.loads(done.stdout)
    return Row(
        "one PutEvents call of 10 entries, TLS, session token",
        "CPU us/call",
        "the fast path at most 0.2 of the stock client",
        {name: [{"value": each} for each in some] for name, some in costs.items()},
        lambda values: values["fast path"] <= 0.2 * values["client.put_events, stock"],
    )


def arrays(rounds: int, share: float) -> Row:
    many, few = Load(int(100_000 * share), 100), Load(int(4_000 * share), 100)
    variants = {
        "forwarder": (forwarder(**WIDE), many),
        "forwarder, the SDK's put_events": (forwarder(transport="plain", **WIDE), many),
        "handler, one call per event": (PER_EVENT, few),
        "handler, batches by hand": (BY_HAND, Load(int(50_000 * share), 100)),
    }
    return Row(
        "arrays of 100, 10 events a call",
        "CPU us/event",
        "at most 18 us",
        compared(rounds, variants),
        lambda values: values["forwarder"] <= 18,
    )


def singles(rounds: int, share: float) -> Row:
    many, few = Load(int(60_000 * share), 1), Load(int(4_000 * share), 1)
    variants = {
        "forwarder": (forwarder(), many),
        "forwarder, the SDK's put_events": (forwarder(transport="plain"), many),
        "handler, one call per event": (PER_EVENT, few),
        "handler, batches by hand": (BY_HAND, Load(int(30_000 * share), 1)),
    }
    return Row(
        "one event a POST, 10 events a call",
        "CPU us/event",
        "at most 65 us, and 1/12 of a call per event",
        compared(rounds, variants),
        lambda values: (
            values["forwarder"] <= 65 and values["forwarder"] * 12 <= values["handler, one call per event"]
        ),
    )


def fifties(rounds: int, share: float) -> Row:
    load = Load(int(100_000 * share), 100, kind="evidently")
    variants = {"forwarder": (forwarder("evidently", **WIDE), load)}
    return Row(
        "arrays of 100, 50 events a call (Evidently's API)",
        "CPU us/event",
        "at most 8 us",
        compared(rounds, variants),
        lambda values: values["forwarder"] <= 8,
    )


def disk_arrays(rounds: int, share: float) -> Row:
    load = Load(int(100_000 * share), 100)
    variants = {"memory": (forwarder(**WIDE), load), "disk": (forwarder(queue="disk", **WIDE), load)}
    return Row(
        "disk queue, arrays of 100",
        "CPU us/event",
        "at most 4 us more than memory",
        compared(rounds, variants),
        lambda values: values["disk"] <= values["memory"] + 4,
    )


def disk_singles(rounds: int, share: float) -> Row:
    load = Load(int(60_000 * share), 1)
    variants = {"memory": (forwarder(), load), "disk": (forwarder(queue="disk"), load)}
    return Row(
        "disk queue, one event a POST from 64 clients",
        "CPU us/event",
        "at most 1.5 times memory",
        compared(rounds, variants),
        lambda values: values["disk"] <= values["memory"] * 1.5,
    )


def latency(rounds: int, share: float) -> Row:
    """At a steady rate; what one core sustains is far above it."""
    load = Load(int(40_000 * share), 10, rate=4_000)
    figures = compared(rounds, {"forwarder": (forwarder(), load)}, delay_ms=20)
    for one in figures["forwarder"]:
        one["cpu_us"], one["value"] = one["value"], one["p99_ms"]
    return Row(
        "accepted to arrived at AWS, 4,000 events/s, AWS answering in 20 ms",
        "ms, 99th percentile",
        "at most max_wait (100 ms) and 60 ms",
        figures,
        lambda values: values["forwarder"] <= 160,
    )


def memory(rounds: int, share: float) -> Row:
    """Idle, and per waiting event of 500 bytes: by what the process grew while nothing could leave."""
    count = int(100_000 * share)
    load = Load(count, 100, size=500)
    wide = {"max_events": count, "max_bytes": "512MiB"}
    idle: list[Figures] = []
    waiting: list[Figures] = []
    for _ in range(rounds):
        with sink() as aws, forwarder(queue_limits=wide, budget="1GiB")(aws) as server:
            idle.append({"value": memory_mb(server.pid)})
            Load(1_000, 100).send(server, FIRST_OF_WARM_UP)
            aws.collect(1_000)
            aws.ask("close")
            before = memory_mb(server.pid, "RssAnon")
            load.send(server)
            grown = (memory_mb(server.pid, "RssAnon") - before) * 1e6 / count
            waiting.append({"value": grown})
    return Row(
        "memory: idle, in MB; and per waiting event of 500 bytes, in kB",
        "MB | kB",
        "at most 95 MB, 1.4 kB",
        {"idle": idle, "per waiting event": [{"value": one["value"] / 1e3} for one in waiting]},
        lambda values: values["idle"] <= 95 and values["per waiting event"] <= 1.4,
    )


def backlog(rounds: int, share: float) -> Row:
    """All events of a round wait before the first can leave: what taking and sending each costs then."""
    most = int(1_000_000 * share)
    figures: dict[str, list[Figures]] = {"1,000 waiting": [], f"{most:,} waiting": []}
    options: dict[str, Any] = {
        "queue_limits": {"max_events": most + 1, "max_bytes": "2GiB"},
        "retry": {"base": "50ms", "cap": "200ms"},
        "budget": "4GiB",
    }
    for _ in range(rounds):
        for name, count, times in (("1,000 waiting", 1_000, 50), (f"{most:,} waiting", most, 1)):
            with sink() as aws, forwarder(**options)(aws) as server:
                figures[name].append({"value": _filled_and_drained(server, aws, count, times)})
    return Row(
        "CPU with a backlog",
        "CPU us/event",
        "flat within 15 %",
        figures,
        lambda values: max(values.values()) <= 1.15 * min(values.values()),
    )


def _filled_and_drained(server: Server, aws: Sink, count: int, times: int) -> float:
    load = Load(count, 100)
    Load(2_000, 100).send(server, FIRST_OF_WARM_UP)
    aws.collect(2_000)
    cpu = cpu_seconds(server.pid)
    for _ in range(times):
        aws.ask("close")
        load.send(server)
        aws.ask("open")
        aws.collect(count)
    return (cpu_seconds(server.pid) - cpu) / (count * times) * 1e6


def sessions(rounds: int, share: float) -> Row:
    count = int(20_000 * share)
    variants = {
        "1 session": (forwarder("rum"), Load(count, 1, kind="rum", sessions=1)),
        "10,000 sessions": (forwarder("rum"), Load(count, 1, kind="rum", sessions=10_000)),
    }
    return Row(
        "RUM batches of 1 and of 10,000 sessions",
        "CPU us/event",
        "flat within 15 %",
        compared(rounds, variants),
        lambda values: max(values.values()) <= 1.15 * min(values.values()),
    )


def starting(rounds: int, share: float) -> Row:
    """From the start of the process until it takes events, with nothing and with a million on its disk."""
    most = int(1_000_000 * share)
    figures: dict[str, list[Figures]] = {"nothing waiting": [], f"{most:,} waiting": []}
    options: dict[str, Any] = {
        "queue": "disk",
        "queue_limits": {"max_events": most + 1, "max_bytes": "2GiB"},
        "retry": {"base": "50ms", "cap": "200ms"},
    }
    for name, count in (("nothing waiting", 0), (f"{most:,} waiting", most)):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, sink() as aws:
            start = forwarder(folder=folder, **options)
            aws.ask("close")
            with start(aws) as server:
                if count:
                    Load(count, 100).send(server)
            for _ in range(rounds):
                began = time.monotonic()
                with start(aws):
                    figures[name].append({"value": time.monotonic() - began})
            aws.ask("open")
            with start(aws):
                aws.collect(count)
    return Row(
        "start after a clean stop, disk queue",
        "s to accepting",
        "under 2 s with 1,000,000 waiting",
        figures,
        lambda values: max(values.values()) < 2,
    )


ROWS: Mapping[str, Callable[[int, float], Row]] = {
    "call": call,
    "arrays": arrays,
    "singles": singles,
    "fifties": fifties,
    "disk-arrays": disk_arrays,
    "disk-singles": disk_singles,
    "memory": memory,
    "latency": latency,
    "backlog": backlog,
    "sessions": sessions,
    "starting": starting,
}
