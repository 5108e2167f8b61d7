"""The loop that brings one target's batches to AWS, and what becomes of each event (plain, without I/O).

Invariants:
- Nothing is awaited between the answer of ``send`` and the moment where every event of the batch is settled
  or on its way to the dead letters; a cancelled worker leaves its events in the queue, where they were.
- Unknown means retry. Only AWS's word about the event, ``max_age`` or ``max_attempts`` makes a dead letter.
- A dead letter leaves the queue as it is written, on disk in one transaction; while it cannot be, the target
  is held.
- The counters of one batch move in one plain function, after the fact.
- Who waits for an event's fate is told when it is settled: never before, and nothing waits for them.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Protocol

import msgspec

from forwarder.delivery.gate import Gate, Verdict
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    Batch,
    CallStatus,
    Chance,
    Clock,
    Dead,
    Event,
    Kind,
    Queue,
    Removal,
    Results,
    Target,
    full_jitter,
)
from forwarder.receipts import Receipts
from forwarder.storage import StorageError

LETTERS = "dead letters"
NAMES = "names"
CHUNK_EVENTS, CHUNK_BYTES = 1_000, 1 << 20
"""Events that become dead letters in one step, at most."""

SWEEP_AGAIN_SECONDS = 0.1


class Policy(msgspec.Struct, frozen=True):
    """When a retry is given up, and how long a single event waits. Durations in seconds.

    ``whole``: a batch is given up or tried again as it is, when its youngest event is too old.
    """

    max_age: float
    whole: bool = False
    max_attempts: int | None = None
    backoff_base: float = 0.2
    backoff_cap: float = 30.0


class Letters(Protocol):
    """Who keeps dead letters; raises StorageError when they could not be written."""

    async def keep(self, target: str, dead: Sequence[Dead], removal: Removal | None) -> None: ...


class Heard(Protocol):
    """What a call taught about names: see ``targets.barred``."""

    @property
    def opened(self) -> Collection[str]: ...

    @property
    def closed(self) -> Collection[str]: ...

    @property
    def apart(self) -> bool: ...


class LaneNames(Protocol):
    """What the lane must know of its target's names: see ``targets.names``."""

    def heard(self, batch: Batch, results: Results) -> Heard: ...

    def reason(self, name: str) -> str: ...

    def hurry(self) -> None: ...

    @property
    def pending(self) -> bool: ...


class Fate(msgspec.Struct):
    """What becomes of each event of one batch: every event is in exactly one of these."""

    delivered: list[Event] = []
    retry: list[Event] = []
    parts: list[list[Event]] = []
    aside: list[list[Event]] = []
    dead: list[Dead] = []


class Lane(msgspec.Struct):
    """One target's way out: everything its workers share."""

    name: str
    target: Target
    queue: Queue
    gate: Gate
    policy: Policy
    letters: Letters
    metrics: TargetMetrics
    clock: Clock
    chance: Chance = random.random
    receipts: Receipts = msgspec.field(default_factory=Receipts)
    names: LaneNames | None = None

    @property
    def done(self) -> bool:
        """True when draining can do no more for this target. What is set aside is not waited for, but answers
        that are about to come are."""
        if self.gate.gave_up and self.gate.view().in_flight == 0:
            return True
        if self.queue.sendable:
            return False
        return len(self.queue) == 0 or self.names is None or not self.names.pending

    def policy_at(self, now: float) -> Policy:
        """The policy; without an age while the queue cannot know how old its events are."""
        if now >= self.queue.expires_from:
            return self.policy
        return msgspec.structs.replace(self.policy, max_age=math.inf)

    def hear(self, batch: Batch, results: Results) -> bool:
        """Open and close names by what became of a batch, before it is settled; whether the trouble is of
        these names alone."""
        if self.names is None:
            return False
        heard = self.names.heard(batch, results)
        for name in heard.closed:
            self.queue.set_aside(name)
        for name in heard.opened:
            self.queue.release(name)
        return heard.apart


def dispose(
    batch: Batch,
    results: Results,
    now: float,
    policy: Policy,
    lesson: Verdict,
    chance: Chance = random.random,
) -> Fate:
    """Decide each event's fate from AWS's answer and from what it taught the gate.

    Raises ValueError when there is not exactly one outcome per event: a target that miscounts is a bug.
    """
    if len(results.outcomes) != len(batch.events):
        raise ValueError(f"{len(results.outcomes)} outcomes for a batch of {len(batch.events)} events")
    if results.status is CallStatus.REFUSED:
        return _refused(batch, results, now, policy, lesson, chance)
    fate = Fate()
    youngest = max(event.received_at for event in batch.events) if policy.whole else None
    for event, outcome in zip(batch.events, results.outcomes, strict=True):
        if outcome.kind is Kind.DELIVERED:
            fate.delivered.append(event)
        elif outcome.kind is Kind.REJECTED:
            event.attempts += 1
            fate.dead.append(Dead(event, "rejected", outcome.code, outcome.message))
        else:
            _prepare_retry(event, results, len(batch.events) == 1, now, policy, chance)
            if _is_given_up(event, youngest or event.received_at, now, policy):
                fate.dead.append(Dead(event, "expired", outcome.code, outcome.message))
            else:
                fate.retry.append(event)
    if results.status is not CallStatus.OK:
        _keep_together(fate, batch, now, lesson)
    return fate


def _refused(
    batch: Batch, results: Results, now: float, policy: Policy, lesson: Verdict, chance: Chance
) -> Fate:
    """Halve a refused batch until the culprit stands alone."""
    events = batch.events
    if len(events) > 1:
        middle = len(events) // 2
        for event in events:
            event.not_before = 0.0
        return Fate(parts=[events[:middle], events[middle:]])
    if lesson.proven:
        events[0].attempts += 1
        return Fate(dead=[Dead(events[0], "rejected", results.code, results.message)])
    # Nothing was ever taken, so the envelope may be wrong and the event good: wait for evidence.
    _wait_alone(events[0], now, policy, chance)
    if _is_given_up(events[0], events[0].received_at, now, policy):
        return Fate(dead=[Dead(events[0], "expired", results.code, results.message)])
    return Fate(aside=[events])


def _keep_together(fate: Fate, batch: Batch, now: float, lesson: Verdict) -> None:
    """After trouble of the call: what must step aside does, and a part of a refused batch stays one."""
    if lesson.aside is not None:
        for event in fate.retry:
            event.not_before = now + lesson.aside
    if fate.retry and (lesson.aside is not None or batch.part):
        waits = fate.retry[0].not_before > 0
        (fate.aside if waits else fate.parts).append(fate.retry)
        fate.retry = []


def _prepare_retry(
    event: Event, results: Results, alone: bool, now: float, policy: Policy, chance: Chance
) -> None:
    """Trouble of one entry delays that entry; trouble of the call is the gate's business.

    Only an event that meets calls of unknown fate again and again steps aside, each time for longer: it may
    be what breaks them, and must not stand before all others.
    """
    event.not_before = 0.0
    if results.status is CallStatus.OK:
        _wait_alone(event, now, policy, chance)
    elif results.status is CallStatus.UNAVAILABLE and results.called:
        event.attempts += alone
        event.returns += 1
        if event.returns > 1:
            event.not_before = now + full_jitter(
                event.returns - 1, policy.backoff_base, policy.backoff_cap, chance
            )


def _wait_alone(event: Event, now: float, policy: Policy, chance: Chance) -> None:
    event.attempts += 1
    event.not_before = now + full_jitter(event.attempts, policy.backoff_base, policy.backoff_cap, chance)


def _is_given_up(event: Event, received_at: float, now: float, policy: Policy) -> bool:
    too_often = policy.max_attempts is not None and event.attempts >= policy.max_attempts
    return too_often or now - received_at > policy.max_age


async def work(lane: Lane) -> None:
    """Send one batch after the other until the queue is closed.

    A worker that waits keeps hold of nothing: not of its last batch, which can be as large as a call.
    """
    while await lane.queue.ripe():
        dead = await _send_one(lane)
        if dead:
            await bury(lane, dead)
            lane.receipts.tell_dead(dead)
        del dead


async def _send_one(lane: Lane) -> Sequence[Dead]:
    """Take a batch that is due, send it, and settle what is to be settled at once; what is to be buried."""
    async with lane.gate.call() as call:
        batch = lane.queue.take()
        if batch is None:
            return ()  # another worker was first
        started = lane.clock.monotonic()
        try:
            results = await lane.target.send(batch)
            # no await from here until every event has its place
            now = lane.clock.monotonic()
            lesson = call.learn(batch, results, apart=lane.hear(batch, results))
            fate = dispose(batch, results, now, lane.policy_at(now), lesson, lane.chance)
        except Exception:  # a bug, which ends the daemon: the others may still bring these events through
            lane.queue.settle(retry=batch.events)
            raise
        lane.queue.settle(fate.delivered, fate.retry, fate.parts, fate.aside, part=batch.part)
        account(lane.metrics, batch, results, fate, started, now)
        if lane.receipts.waits:
            lane.receipts.tell_delivered(batch, results)
        return fate.dead


async def bury(lane: Lane, dead: Sequence[Dead]) -> None:
    """Move taken events to the dead letters, as many at a time as there is room for; while not even one can
    be written, hold the target and try again."""
    left, most = deque(dead), CHUNK_EVENTS
    while left:
        some = _chunk(left, most)
        problem = await _keep(lane, some)
        if problem is None:
            for _ in some:
                left.popleft()
        elif problem.reason == "full" and len(some) > 1:
            most = len(some) // 2
        else:
            lane.gate.block(LETTERS, f"dead letters cannot be written: {problem}")
            await lane.gate.pause()


def _chunk(left: Iterable[Dead], most: int) -> list[Dead]:
    """The first of these, but not more than make one quick write."""
    chunk: list[Dead] = []
    size = 0
    for dead in islice(left, most):
        size += len(dead.event.body)
        if chunk and size > CHUNK_BYTES:
            break
        chunk.append(dead)
    return chunk


async def _keep(lane: Lane, dead: Sequence[Dead]) -> StorageError | None:
    """Write these and let them go; the problem when that is not possible now."""
    events = [each.event for each in dead]
    keeping = asyncio.ensure_future(lane.letters.keep(lane.name, dead, lane.queue.removal_for(events)))
    cancelled = False
    while not keeping.done():
        try:
            await asyncio.wait([keeping])
        except asyncio.CancelledError:
            cancelled = True  # what is being written will be written: wait for it, then go
    problem = keeping.exception()
    if problem is None:
        lane.queue.settle(gone=events)
        lane.metrics.settled(dead=Counter(each.reason for each in dead))
        lane.gate.unblock(LETTERS)
    elif not isinstance(problem, StorageError):
        raise problem
    if cancelled:
        raise asyncio.CancelledError
    return problem


async def sweep(lane: Lane) -> None:
    """Give up events older than ``max_age``, also while the gate is closed."""
    interval = min(60.0, max(0.05, lane.policy.max_age / 10))
    found = 0
    while True:
        # What expired may have made way for more of its age, that waited on the disk.
        await asyncio.sleep(min(interval, SWEEP_AGAIN_SECONDS) if found else interval)
        found = await _bury_expired(lane)


async def _bury_expired(lane: Lane) -> int:
    """Give up the events that are too old now; how many. While ``sweep`` waits it keeps hold of none."""
    expired = lane.queue.take_expired(lane.clock.monotonic() - lane.policy.max_age)
    trouble = lane.gate.view().message
    for start in range(0, len(expired), CHUNK_EVENTS):
        dead = [_expired(event, lane, trouble) for event in expired[start : start + CHUNK_EVENTS]]
        await bury(lane, dead)
        lane.receipts.tell_dead(dead)
    return len(expired)


def _expired(event: Event, lane: Lane, trouble: str) -> Dead:
    """Too old; what the event waited for stands in the letter."""
    cause = lane.names.reason(event.name) if lane.names is not None and event.name else ""
    cause = cause or trouble
    message = f"older than max_age; last cause of delay: {cause}" if cause else "older than max_age"
    return Dead(event, "expired", "max_age", message)


def hold_for_names(lane: Lane, sentence: str | None) -> None:
    """Hold the target while there is a sentence."""
    if sentence is None:
        lane.gate.unblock(NAMES)
    else:
        lane.gate.block(NAMES, sentence)


def account(
    metrics: TargetMetrics, batch: Batch, results: Results, fate: Fate, started: float, now: float
) -> None:
    """Move every counter that one answered batch moves. Dead letters are counted when they are kept."""
    if results.called:
        metrics.call(_outcome_of(results, fate), now - started, len(batch.events), batch.size, batch.reason)
    retried = len(fate.retry) + sum(map(len, fate.parts)) + sum(map(len, fate.aside))
    reason = results.status if results.status is not CallStatus.OK else "entry"
    metrics.settled(delivered=len(fate.delivered), retried={reason: retried} if retried else {})
    if len(fate.delivered) != len(batch.events):
        for code, count in Counter(o.code for o in results.outcomes if o.kind is not Kind.DELIVERED).items():
            metrics.failed(code, count)
    for attempts, same in groupby(fate.delivered, _attempts_of):
        metrics.attempts(attempts + 1, len(list(same)))
    for received_at, same in groupby(fate.delivered, _received_at_of):
        metrics.latency(now - received_at, len(list(same)))


_attempts_of = attrgetter("attempts")
_received_at_of = attrgetter("received_at")


def _outcome_of(results: Results, fate: Fate) -> str:
    if results.code == "timeout":
        return "timeout"
    if results.status is CallStatus.THROTTLED:
        return "throttled"
    if results.status is not CallStatus.OK:
        return "error"
    return "ok" if not (fate.retry or fate.aside or fate.dead) else "partial"
