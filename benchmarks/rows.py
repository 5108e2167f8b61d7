"""The rows of the table: what is compared, and what is wanted of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.machine import HERE, cpu_seconds, environment, memory_mb
from benchmarks.measuring import FIRST_OF_WARM_UP, Figures, Load, Row, compared
from benchmarks.overload import overload
from benchmarks.servers import BY_HAND, PER_EVENT, Server, Sink, forwarder, sink

WIDE: dict[str, Any] = {"queue_limits": {"max_events": 400_000, "max_bytes": "512MiB"}, "budget": "2GiB"}
"""A queue that does not get full: what is refused with 429 and sent again would be measured as well."""


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
    """One event a POST at a steady rate, about half of what one core sustains; until AWS has answered."""
    delay_ms = 20.0
    load = Load(int(20_000 * share), 1, rate=2_500)
    figures = compared(rounds, {"forwarder": (forwarder(), load)}, delay_ms)
    for one in figures["forwarder"]:
        one["cpu_us"], one["value"] = one["value"], one["p99_ms"] + delay_ms
    return Row(
        "accepted to delivered, 2,500 single posts/s, AWS answering in 20 ms",
        "ms, 99th percentile",
        "at most max_wait (100 ms) and 60 ms",
        figures,
        lambda values: values["forwarder"] <= 160,
    )


def memory(rounds: int, share: float) -> Row:
    """Idle when each target was called; and by how much each event made it grow while nothing could leave."""
    count = int(100_000 * share)
    load = Load(count, 100, size=500)
    wide = {"max_events": count, "max_bytes": "512MiB"}
    idle: list[Figures] = []
    waiting: list[Figures] = []
    for _ in range(rounds):
        with sink() as aws, forwarder(others=("rum", "evidently"))(aws) as server:
            for first, kind in enumerate(("eventbridge", "rum", "evidently")):
                Load(100, 1, kind=kind).send(server.of(kind), first * 100)
                aws.collect(100)
            idle.append({"value": memory_mb(server.pid)})
        with sink() as aws, forwarder(queue_limits=wide, budget="1GiB")(aws) as server:
            Load(1_000, 100).send(server, FIRST_OF_WARM_UP)
            aws.collect(1_000)
            aws.ask("close")
            before = memory_mb(server.pid, "RssAnon")
            load.send(server)
            grown = (memory_mb(server.pid, "RssAnon") - before) * 1e6 / count
            waiting.append({"value": grown})
    return Row(
        "memory: idle with three targets, in MB; and per waiting event of 500 bytes, in kB",
        "MB | kB",
        "at most 95 MB, 1.4 kB",
        {"idle": idle, "per waiting event": [{"value": one["value"] / 1e3} for one in waiting]},
        lambda values: values["idle"] <= 95 and values["per waiting event"] <= 1.4,
    )


def backlog(rounds: int, share: float) -> Row:
    """All events wait before the first can leave: what taking and sending each costs then."""
    most = int(1_000_000 * share)
    few, many = "1,000 waiting", f"{most:,} waiting"
    options: dict[str, Any] = {
        "queue_limits": {"max_events": most + 1, "max_bytes": "2GiB"},
        "budget": "4GiB",
    }
    figures: dict[str, list[Figures]] = {few: [], many: []}
    for _ in range(rounds):
        for name, count, times in ((few, 1_000, 60), (many, most, 1)):
            with sink() as aws, forwarder(**options)(aws) as server:
                figures[name].append({"value": _filled_and_drained(server, aws, count, times)})
    return Row(
        "CPU with a backlog",
        "CPU us/event",
        "flat within 15 %",
        figures,
        lambda values: values[many] <= 1.15 * values[few],
    )


def _filled_and_drained(server: Server, aws: Sink, count: int, times: int) -> float:
    load = Load(count, 100)
    Load(2_000, 100).send(server, FIRST_OF_WARM_UP)
    aws.collect(2_000)
    cpu = cpu_seconds(server.pid)
    for _ in range(times):
        server.order("pause")
        load.send(server)
        server.order("resume")
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
        lambda values: values["10,000 sessions"] <= 1.15 * values["1 session"],
    )


def merge(rounds: int, share: float) -> Row:
    """Sessions that flush small batches, four times as many as AWS takes calls a second by its quota."""
    load = Load(int(10_000 * share), 5, kind="rum", sessions=250, rate=1_000)
    variants = {
        f"merge: {str(merge).lower()}": (forwarder("rum", max_calls_per_second=50, merge=merge), load)
        for merge in (False, True)
    }
    figures = compared(rounds, variants)
    for one in (one for some in figures.values() for one in some):
        one["cpu_us"], one["value"] = one["value"], 1_000 / one["fill"]
    return Row(
        "RUM, 250 sessions, 200 batches of 5 a second, 50 calls a second",
        "calls/1,000 events",
        "with merge at most half the calls",
        figures,
        lambda values: values["merge: true"] <= values["merge: false"] / 2,
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
    "merge": merge,
    "starting": starting,
    "overload": overload,
}
