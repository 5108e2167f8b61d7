"""Attacks by what must wait: events for buses that do not exist, and more events than can be sent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.abuse import wire
from tests.abuse.bodies import many_names
from tests.abuse.families import Family
from tests.abuse.figures import Attack, Context, Figure, fairness, longest_turn, peak_memory
from tests.abuse.sent import one_by_one
from tests.abuse.stage import HERE, MIB, Daemon, Neighbour, a_stage
from tests.abuse.wire import ATTACKER

NAMES = (0, 90, 120, 300, 1_000, 20_000)
A_REQUEST = 1_000
NEW_BUS = "a-new-real-bus"
GOOD = {"orders": "", "other": "other", "kept": "kept"}
CONTROL_SECONDS = 1.5
NEIGHBOUR_SECONDS = 5.0
NEW_BUS_SECONDS = 30.0
STORM_SECONDS = 5
BUSY = 0.5
"""CPU seconds of a second in which something must be delivered."""
ROOMY: dict[str, Any] = {"budget": 256 * MIB}


def events_for(buses: list[str], target: str = "orders", **more: str) -> list[wire.Request]:
    """One event for each of these buses, in requests of at most ``A_REQUEST``."""
    form = {"Source": "s", "DetailType": "t", "Detail": {}, **more}
    events = [{**form, "EventBusName": bus} for bus in buses]
    return [wire.native(target, events[at : at + A_REQUEST]) for at in range(0, len(events), A_REQUEST)]


def send_all(daemon: Daemon, requests: list[wire.Request]) -> tuple[int, int]:
    """How many events were accepted and refused."""
    accepted = refused = 0
    for request in requests:
        answer = wire.ask(daemon.port, request.packed(1), ATTACKER)
        number = request.body.count(b'"Source"')
        if answer.status not in (200, 202, 207):
            refused += number
            continue
        ids = answer.body.count(b'"id"')
        accepted += ids
        refused += number - ids
    return accepted, refused


def judged(daemon: Daemon, buses: Mapping[str, str], control: Neighbour) -> Iterator[Figure]:
    """Good events for a while, to these buses, and to a real bus that nobody has named yet."""
    new = Neighbour(daemon, {"orders": NEW_BUS})
    began = time.monotonic()
    first = new.send_one("orders", NEW_BUS)
    new.posts.append(first)
    with Neighbour(daemon, buses) as neighbour:
        time.sleep(NEIGHBOUR_SECONDS)
    yield longest_turn(daemon)
    yield peak_memory(daemon)
    yield from fairness(neighbour, control)
    missing = new.missing(NEW_BUS_SECONDS - (time.monotonic() - began))
    waited = time.monotonic() - began
    yield Figure(
        "the first event for a new real bus not delivered in 30 s",
        missing + len(new.refused),
        0,
        "",
        f"{waited:.0f} s",
    )


def missing_names(number: int) -> Callable[[Context], Iterator[Figure]]:
    def act(context: Context) -> Iterator[Figure]:
        with a_stage(NEW_BUS, tree=context.tree, **ROOMY) as daemon:
            with Neighbour(daemon, GOOD) as control:
                time.sleep(CONTROL_SECONDS)
            daemon.reset()
            accepted, refused = send_all(daemon, events_for([f"missing-{n}" for n in range(number)]))
            yield from judged(daemon, GOOD, control)
            yield Figure("its events accepted", accepted, None, "", f"{refused} refused")

    return act


def one_missing_bus(context: Context) -> Iterator[Figure]:
    yield from _many_for_one(context, events_for(["no-such-bus"] * 100_000))


def an_endpoint(context: Context) -> Iterator[Figure]:
    yield from _many_for_one(context, events_for(["default"] * 100_000, EndpointId="abcde.veo"))


def one_missing_bus_on_disk(context: Context) -> Iterator[Figure]:
    """The target's only queue is on disk, and takes what is bound nowhere."""
    yield from _many_for_one(context, events_for(["no-such-bus"] * 100_000), queue="disk")


def _many_for_one(context: Context, requests: list[wire.Request], queue: str = "memory") -> Iterator[Figure]:
    with a_stage(NEW_BUS, tree=context.tree, **ROOMY, options={"queue": queue}) as daemon:
        with Neighbour(daemon, GOOD) as control:
            time.sleep(CONTROL_SECONDS)
        daemon.reset()
        accepted, refused = send_all(daemon, requests)
        time.sleep(1.0)
        yield from judged(daemon, GOOD, control)
        yield Figure("its events accepted", accepted, None, "", f"{refused} refused")
        yield from purged(daemon)


def purged(daemon: Daemon) -> Iterator[Figure]:
    """An operator empties the queue; what the neighbour sent meanwhile is gone already."""
    before = daemon.status()["targets"]["orders"]
    command = ("queue", "purge", "--target", "orders", "--delete", "--yes")
    done = daemon.forwarder(*command, "-c", str(daemon.folder / "forwarder.yaml"))
    time.sleep(1.1)  # an answer of the admin listener may be a second old
    left = daemon.status()["targets"]["orders"]
    waited = before["waiting"] + before["in_flight"]
    said = f"of {waited}; {(done.stdout + done.stderr).strip().splitlines()[-1:]}"
    yield Figure("events left after queue purge", left["waiting"] + left["in_flight"], 0, "", said)


def outage(context: Context) -> Iterator[Figure]:
    """While AWS answers no question, events of names that were never verified may fill the queue."""
    settings = {"options": {"queue_limits": {"max_events": 10_000, "max_bytes": 8 * MIB}}}
    with a_stage(tree=context.tree, **settings) as daemon:
        daemon.aws.close()
        accepted, refused = send_all(daemon, events_for([f"bus-{n % 9}" for n in range(9_000)]))
        yield Figure(
            "honest events refused", refused, 0, "", "of 9,000 for 9 unknown buses, AWS down, room for 10,000"
        )
        for n in range(9):
            daemon.aws.make_bus(f"bus-{n}")
        daemon.aws.open()
        ends = time.monotonic() + 60
        while (left := accepted - daemon.aws.counts()["events"]) > 0 and time.monotonic() < ends:
            time.sleep(0.2)
        yield Figure("honest events not delivered afterwards", max(left, 0), 0)


def storm(
    daemon: Daemon, request: wire.Request, connections: int
) -> tuple[list[tuple[float, int]], dict[str, int]]:
    """CPU of the loop and events delivered in each second of the storm; the answers by status."""
    command = [sys.executable, "-P", str(HERE / "storm.py"), "--port", str(daemon.port), "--source", ATTACKER]
    command += ["--connections", str(connections), "--seconds", str(STORM_SECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.data)
        process.stdin.close()
        seconds, cpu, events = [], daemon.cpu(), daemon.aws.counts()["events"]
        while process.poll() is None:
            time.sleep(1.0)
            now_cpu, now_events = daemon.cpu(), daemon.aws.counts()["events"]
            seconds.append((now_cpu - cpu, now_events - events))
            cpu, events = now_cpu, now_events
        answers: dict[str, int] = json.loads(process.stdout.read())
    return seconds, answers


def overload(queue: str) -> Callable[[Context], Iterator[Figure]]:
    """From a cold start, without one event before."""

    def act(context: Context) -> Iterator[Figure]:
        settings = {"options": {"queue": queue, "queue_limits": {"max_events": 20_000, "max_bytes": 8 * MIB}}}
        event = {"Source": "s", "DetailType": "t", "Detail": {"n": 1, "text": "x" * 100}}
        with a_stage(tree=context.tree, **settings) as daemon:
            seconds, answers = storm(daemon, wire.native("orders", [event] * 100), 32)
            idle = [n for n, (cpu, events) in enumerate(seconds) if cpu >= BUSY and events == 0]
            rate = sum(events for _, events in seconds) / max(0.001, sum(cpu for cpu, _ in seconds))
            yield Figure(
                "seconds of work without a delivery",
                len(idle),
                0,
                "",
                f"of {len(seconds)}, from a cold start; answers {answers}",
            )
            yield Figure(
                "delivered for a second of CPU", rate, None, "", "the benchmark's row `overload` judges it"
            )
            yield longest_turn(daemon)
            yield peak_memory(daemon)

    return act


def many_at_once(context: Context) -> Iterator[Figure]:
    family = Family("events that each name another bus", "1, 2, 5", many_names)
    with a_stage(NEW_BUS, tree=context.tree) as daemon:
        yield from one_by_one(daemon, family, say=context.say, stays=True)


def attacks() -> list[Attack]:
    return [
        Attack("60,000 names of missing buses in one request", "1, 2, 5", many_at_once),
        *(
            Attack(f"{number:,} names of missing buses beside good events", "5", missing_names(number))
            for number in NAMES
        ),
        Attack("100,000 events for one missing bus", "5, 6", one_missing_bus),
        Attack("100,000 events for one missing bus, on disk", "5, 6", one_missing_bus_on_disk),
        Attack("100,000 events with an endpoint that cannot be called", "5, 6", an_endpoint),
        Attack("an outage, and events of names never verified", "5", outage),
        Attack("32 connections that never pause", "13", overload("memory")),
        Attack("32 connections that never pause, on disk", "13", overload("disk")),
    ]
