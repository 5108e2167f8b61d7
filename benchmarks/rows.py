"""The rows of the table: what is compared, and what is wanted of it.

Each function makes the plan of one row, with a share of the usual number of events.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import Code, cpu_seconds, environment, memory_mb
from benchmarks.measuring import FIRST_OF_WARM_UP, Figures, Load, Once, Plan, Through
from benchmarks.overload import overload
from benchmarks.servers import BY_HAND, PER_EVENT, Forwarder, Server, Sink, forwarder, sink

WIDE: dict[str, Any] = {"queue_limits": {"max_events": 400_000, "max_bytes": "512MiB"}, "budget": "2GiB"}
"""A queue that does not get full: what is refused with 429 and sent again would be measured as well."""

ONLY_VALUE = ("value",)


@dataclass(frozen=True)
class OneCall:
    """One way of ``call.py``, which measures all in turns in its own process; the best of some short rounds.

    The script is the one beside the code that it calls: it knows that code's insides.
    """

    way: str
    calls: int
    judged: tuple[str, ...] = ONLY_VALUE

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        script = str(code.tree / "benchmarks" / "call.py")
        command = [code.python, script, "--rounds", "5", "--calls", str(self.calls)]
        with sink() as aws:

            def once() -> Figures:
                done = subprocess.run(
                    [*command, "--url", aws.endpoint],
                    check=True,
                    stdout=subprocess.PIPE,
                    cwd=code.tree,
                    env=environment(code),
                )
                return {"value": min(json.loads(done.stdout)[self.way])}

            yield once


def call(share: float) -> Plan:
    calls = max(50, int(300 * share))
    stock, plain, fast = "client.put_events, stock", "plain path", "fast path"
    return Plan(
        "one PutEvents call of 10 entries, TLS, session token",
        "CPU us/call",
        "the fast path at most 0.2 of the stock client",
        {stock: OneCall(stock, calls, ()), plain: OneCall(plain, calls), fast: OneCall(fast, calls)},
        lambda values: values[fast] <= 0.2 * values[stock],
    )


def arrays(share: float) -> Plan:
    many, few = Load(int(100_000 * share), 100), Load(int(4_000 * share), 100)
    return Plan(
        "arrays of 100, 10 events a call",
        "CPU us/event",
        "at most 18 us",
        {
            "forwarder": Through(forwarder(**WIDE), many),
            "forwarder, the SDK's put_events": Through(forwarder(transport="plain", **WIDE), many),
            "handler, one call per event": Through(PER_EVENT, few),
            "handler, batches by hand": Through(BY_HAND, Load(int(50_000 * share), 100)),
        },
        lambda values: values["forwarder"] <= 18,
    )


def singles(share: float) -> Plan:
    many, few = Load(int(60_000 * share), 1), Load(int(4_000 * share), 1)
    return Plan(
        "one event a POST, 10 events a call",
        "CPU us/event",
        "at most 65 us, and 1/12 of a call per event",
        {
            "forwarder": Through(forwarder(), many),
            "forwarder, the SDK's put_events": Through(forwarder(transport="plain"), many),
            "handler, one call per event": Through(PER_EVENT, few),
            "handler, batches by hand": Through(BY_HAND, Load(int(30_000 * share), 1)),
        },
        lambda values: (
            values["forwarder"] <= 65 and values["forwarder"] * 12 <= values["handler, one call per event"]
        ),
    )


def fifties(share: float) -> Plan:
    load = Load(int(100_000 * share), 100, kind="evidently")
    return Plan(
        "arrays of 100, 50 events a call (Evidently's API)",
        "CPU us/event",
        "at most 8 us",
        {"forwarder": Through(forwarder("evidently", **WIDE), load)},
        lambda values: values["forwarder"] <= 8,
    )


def disk_arrays(share: float) -> Plan:
    load = Load(int(100_000 * share), 100)
    return Plan(
        "disk queue, arrays of 100",
        "CPU us/event",
        "at most 4 us more than memory",
        {
            "memory": Through(forwarder(**WIDE), load),
            "disk": Through(forwarder(queue="disk", **WIDE), load),
        },
        lambda values: values["disk"] <= values["memory"] + 4,
    )


def disk_singles(share: float) -> Plan:
    load = Load(int(60_000 * share), 1)
    return Plan(
        "disk queue, one event a POST from 64 clients",
        "CPU us/event",
        "at most 1.5 times memory",
        {"memory": Through(forwarder(), load), "disk": Through(forwarder(queue="disk"), load)},
        lambda values: values["disk"] <= values["memory"] * 1.5,
    )


LATENCY_DELAY_MS = 20.0


def latency(share: float) -> Plan:
    """One event a POST at a steady rate, about half of what one core sustains; until AWS has answered."""
    load = Load(int(20_000 * share), 1, rate=2_500)
    return Plan(
        "accepted to delivered, 2,500 single posts/s, AWS answering in 20 ms",
        "ms, 99th percentile",
        "at most max_wait (100 ms) and 60 ms",
        {"forwarder": Through(forwarder(), load, LATENCY_DELAY_MS, _until_answered, ("value", "cpu_us"))},
        lambda values: values["forwarder"] <= 160,
    )


def _until_answered(figures: Figures) -> Figures:
    return {**figures, "cpu_us": figures["value"], "value": figures["p99_ms"] + LATENCY_DELAY_MS}


@dataclass(frozen=True)
class Idle:
    """The memory of a daemon when each of its targets was called, in MB."""

    judged: tuple[str, ...] = ONLY_VALUE

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        def once() -> Figures:
            with sink() as aws, forwarder(others=("rum", "evidently"))(aws, code) as server:
                for first, kind in enumerate(("eventbridge", "rum", "evidently")):
                    Load(100, 1, kind=kind).send(server.of(kind), first * 100)
                    aws.collect(100)
                return {"value": memory_mb(server.pid)}

        yield once


@dataclass(frozen=True)
class PerWaitingEvent:
    """By how much each event makes a daemon grow while nothing can leave, in kB."""

    count: int
    judged: tuple[str, ...] = ONLY_VALUE

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        limits = {"max_events": self.count, "max_bytes": "512MiB"}

        def once() -> Figures:
            with sink() as aws, forwarder(queue_limits=limits, budget="1GiB")(aws, code) as server:
                Load(1_000, 100).send(server, FIRST_OF_WARM_UP)
                aws.collect(1_000)
                aws.ask("close")
                before = memory_mb(server.pid, "RssAnon")
                Load(self.count, 100, size=500).send(server)
                return {"value": (memory_mb(server.pid, "RssAnon") - before) * 1e3 / self.count}

        yield once


def memory(share: float) -> Plan:
    return Plan(
        "memory: idle with three targets, in MB; and per waiting event of 500 bytes, in kB",
        "MB | kB",
        "at most 95 MB, 1.4 kB",
        {"idle": Idle(), "per waiting event": PerWaitingEvent(int(100_000 * share))},
        lambda values: values["idle"] <= 95 and values["per waiting event"] <= 1.4,
    )


@dataclass(frozen=True)
class Backlog:
    """All events wait before the first can leave: what taking and sending each costs then."""

    count: int
    times: int
    start: Forwarder
    judged: tuple[str, ...] = ONLY_VALUE

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        with sink() as aws, self.start(aws, code) as server:
            Load(2_000, 100).send(server, FIRST_OF_WARM_UP)
            aws.collect(2_000)
            yield lambda: self._filled_and_drained(server, aws)

    def _filled_and_drained(self, server: Server, aws: Sink) -> Figures:
        load = Load(self.count, 100)
        cpu = cpu_seconds(server.pid)
        for _ in range(self.times):
            server.order("pause")
            load.send(server)
            server.order("resume")
            aws.collect(self.count)
        return {"value": (cpu_seconds(server.pid) - cpu) / (self.count * self.times) * 1e6}


def backlog(share: float) -> Plan:
    most = int(1_000_000 * share)
    few, many = "1,000 waiting", f"{most:,} waiting"
    limits = {"max_events": most + 1, "max_bytes": "2GiB"}
    start = forwarder(queue_limits=limits, budget="4GiB")
    return Plan(
        "CPU with a backlog",
        "CPU us/event",
        "flat within 15 %",
        {few: Backlog(1_000, max(1, int(60 * share)), start), many: Backlog(most, 1, start)},
        lambda values: values[many] <= 1.15 * values[few],
    )


def sessions(share: float) -> Plan:
    count = int(20_000 * share)
    return Plan(
        "RUM batches of 1 and of 10,000 sessions",
        "CPU us/event",
        "flat within 15 %",
        {
            "1 session": Through(forwarder("rum"), Load(count, 1, kind="rum", sessions=1)),
            "10,000 sessions": Through(forwarder("rum"), Load(count, 1, kind="rum", sessions=10_000)),
        },
        lambda values: values["10,000 sessions"] <= 1.15 * values["1 session"],
    )


def merge(share: float) -> Plan:
    """Sessions that flush small batches, four times as many as AWS takes calls a second by its quota."""
    load = Load(int(10_000 * share), 5, kind="rum", sessions=250, rate=1_000)
    return Plan(
        "RUM, 250 sessions, 200 batches of 5 a second, 50 calls a second",
        "calls/1,000 events",
        "with merge at most half the calls",
        {
            f"merge: {str(merge).lower()}": Through(
                forwarder("rum", max_calls_per_second=50, merge=merge),
                load,
                shown=_calls_for_a_thousand,
                figures=("value", "cpu_us"),
            )
            for merge in (False, True)
        },
        lambda values: values["merge: true"] <= values["merge: false"] / 2,
    )


def _calls_for_a_thousand(figures: Figures) -> Figures:
    return {**figures, "cpu_us": figures["value"], "value": 1_000 / figures["fill"]}


@dataclass(frozen=True)
class Starting:
    """From the start of the process until it accepts events, with ``count`` on its disk."""

    count: int
    options: dict[str, Any]
    judged: tuple[str, ...] = ("value", "cpu_ms")

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, sink() as aws:
            start = forwarder(folder=folder, **self.options)
            aws.ask("close")
            with start(aws, code) as server:
                if self.count:
                    Load(self.count, 100).send(server)

            def once() -> Figures:
                began = time.monotonic()
                with start(aws, code) as server:
                    took = time.monotonic() - began
                    return {"value": took, "cpu_ms": cpu_seconds(server.pid) * 1e3}

            yield once
            aws.ask("open")
            with start(aws, code):
                aws.collect(self.count)


def starting(share: float) -> Plan:
    most = int(1_000_000 * share)
    options: dict[str, Any] = {
        "queue": "disk",
        "queue_limits": {"max_events": most + 1, "max_bytes": "2GiB"},
        "retry": {"base": "50ms", "cap": "200ms"},
    }
    return Plan(
        "start after a clean stop, disk queue",
        "s to accepting",
        "under 2 s with 1,000,000 waiting",
        {"nothing waiting": Starting(0, options), f"{most:,} waiting": Starting(most, options)},
        lambda values: max(values.values()) < 2,
        kept=True,
    )


ROWS: Mapping[str, Callable[[float], Plan]] = {
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
    "merge": merge,
    "starting": starting,
    "overload": overload,
}

ROUND_SHARES: Mapping[str, float] = {
    **dict.fromkeys(ROWS, 0.3),
    "memory": 0.5,
    "backlog": 0.2,
    "merge": 0.15,
    "starting": 0.1,
    "overload": 1.0,
}
"""Of the usual number of events: one round, when two commits are compared."""
