"""Attacks by what is sent: dear bodies, one by one, and from several senders at once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

from tests.abuse import wire
from tests.abuse.families import FAMILIES, Family
from tests.abuse.figures import STEP_MS, Attack, Context, Figure, fairness, longest_turn, peak_memory
from tests.abuse.stage import Daemon, Neighbour
from tests.abuse.wire import Request

REPEATS = 3
"""A step that is too long must be so each time: noise is not."""
NO_NOISE = 3
"""Over so many times the bound no repeat can help."""
SENDERS = 4
ATTACK_SECONDS = 6.0
CONTROL_SECONDS = 2.0
TARGETS = {"orders": "", "other": "other", "kept": "kept"}
"""What the neighbour sends to: the target under attack, another, and one on disk."""


def steps_of(daemon: Daemon, request: Request) -> tuple[float, wire.Answer]:
    """The longest step that this request causes, at best, and what was answered."""
    best = float("inf")
    for _ in range(REPEATS):
        daemon.reset_steps()
        answer = wire.ask(daemon.port, request)
        best = min(best, daemon.longest_step_ms())
        if best <= STEP_MS or best > NO_NOISE * STEP_MS:
            break
    return best, answer


def one_by_one(daemon: Daemon, family: Family, *, say: bool = False, stays: bool = False) -> list[Figure]:
    """Every input of the family, alone: the worst of each figure, and the input that it was.

    ``stays``: its events wait for good, so that nothing waits for them to leave.
    """
    time_ms, time_of, memory, memory_of = 0.0, "", peak_memory(daemon), ""
    too_long = []
    for label, made in family.inputs():
        request = made if family.is_packed else made.packed(6)
        if not stays:
            daemon.drain()
        daemon.reset()
        spent, answer = steps_of(daemon, request)
        assert daemon.alive, f"the daemon died of {label}"
        now = peak_memory(daemon)
        detail = f"{label}: {len(request.body):,} bytes, {answer.status}"
        if say:
            print(f"    {detail} | {spent:,.0f} ms | {now.shown()}", flush=True)
        if spent > STEP_MS:
            too_long.append(f"{label}: {spent:,.0f} ms")
        if spent > time_ms:
            time_ms, time_of = spent, detail
        if now.value > memory.value or not memory_of:
            memory, memory_of = now, detail
    more = f" ({len(too_long)} inputs: {'; '.join(too_long)})" if len(too_long) > 1 else ""
    return [
        Figure("CPU in one step", time_ms, STEP_MS, "ms", time_of + more),
        Figure(memory.what, memory.value, memory.bound, memory.unit, memory_of),
    ]


def family_attack(family: Family) -> Attack:
    def act(context: Context) -> Iterator[Figure]:
        yield from one_by_one(context.daemon, family, say=context.say)

    return Attack(family.name, family.principles, act, shares=True)


def dearest(seed: int = 1) -> list[bytes]:
    """Requests to send without end: some of every family, packed, small as they come."""
    chosen = random.Random(seed)
    requests = []
    for family in FAMILIES:
        inputs = list(family.inputs())
        for _, request in chosen.sample(inputs, min(3, len(inputs))):
            requests.append((request if family.is_packed else request.packed(1)).data)
    return requests


def send_without_end(daemon: Daemon, requests: list[bytes], over: threading.Event, seed: int) -> None:
    """One sender: a request, its answer, the next request; on connections of its own."""
    order = random.Random(seed)
    while not over.is_set():
        try:
            with wire.connect(daemon.port) as connection:
                connection.sendall(order.choice(requests))
                wire.read_answer(connection)
        except OSError:
            time.sleep(0.01)


def several_at_once(context: Context) -> Iterator[Figure]:
    daemon = context.daemon
    daemon.drain()
    with Neighbour(daemon, TARGETS) as control:
        time.sleep(CONTROL_SECONDS)
    requests = dearest()
    over = threading.Event()
    senders = [
        threading.Thread(target=send_without_end, args=(daemon, requests, over, n)) for n in range(SENDERS)
    ]
    daemon.reset()
    live_ms = 0.0
    for sender in senders:
        sender.start()
    with Neighbour(daemon, TARGETS) as neighbour:
        ends = time.monotonic() + ATTACK_SECONDS
        while time.monotonic() < ends:
            began = time.monotonic()
            answer = wire.get(daemon.admin, "/health/live", patience=30)
            live_ms = max(live_ms, (time.monotonic() - began) * 1000 if answer.status == 200 else 30_000)
            time.sleep(0.2)
        over.set()
    for sender in senders:
        sender.join()
    yield longest_turn(daemon)
    yield peak_memory(daemon)
    yield from fairness(neighbour, control, seconds=30)
    yield Figure("/health/live answered in", live_ms, None, "ms", "the shipped liveness probe waits for 5 s")
    daemon.drain()


def attacks() -> list[Attack]:
    return [
        *(family_attack(family) for family in FAMILIES),
        Attack("four senders of all these bodies", "1, 2", several_at_once, shares=True),
    ]
