"""What becomes of each event of an answered batch: pure, from the answer and what it means for the target.

Invariants:
- Every event of a batch has exactly one fate.
- Unknown means retry. Only AWS's word about the event, ``max_age`` or ``max_attempts`` makes a dead letter.
- Trouble of the call delays nobody here: the gate is closed meanwhile. Trouble of one entry delays that
  entry alone.
- A batch refused as a whole is halved until the event that is to blame stands alone.
"""

from __future__ import annotations

import random

import msgspec

from forwarder.delivery.health import Verdict
from forwarder.model import Batch, CallStatus, Chance, Dead, Event, Kind, Results, full_jitter


class Policy(msgspec.Struct, frozen=True):
    """When a retry is given up, and how long a single event waits. Durations in seconds.

    ``whole``: a batch is given up or tried again as it is, when its youngest event is too old.
    """

    max_age: float
    whole: bool = False
    max_attempts: int | None = None
    backoff_base: float = 0.2
    backoff_cap: float = 30.0


class Fate(msgspec.Struct):
    """What becomes of each event of one batch: every event is in exactly one of these."""

    delivered: list[Event] = []
    retry: list[Event] = []
    parts: list[list[Event]] = []
    aside: list[list[Event]] = []
    dead: list[Dead] = []


def dispose(
    batch: Batch,
    results: Results,
    now: float,
    policy: Policy,
    verdict: Verdict,
    chance: Chance = random.random,
) -> Fate:
    """Decide each event's fate from AWS's answer and from what it taught the gate.

    Raises ValueError when there is not exactly one outcome per event: a target that miscounts is a bug.
    """
    if len(results.outcomes) != len(batch.events):
        raise ValueError(f"{len(results.outcomes)} outcomes for a batch of {len(batch.events)} events")
    if results.status is CallStatus.REFUSED:
        return _refused(batch, results, now, policy, verdict, chance)
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
        _keep_together(fate, batch, now, verdict)
    return fate


def _refused(
    batch: Batch, results: Results, now: float, policy: Policy, verdict: Verdict, chance: Chance
) -> Fate:
    """Halve a refused batch until the culprit stands alone."""
    events = batch.events
    if len(events) > 1:
        middle = len(events) // 2
        for event in events:
            event.not_before = 0.0
        return Fate(parts=[events[:middle], events[middle:]])
    if verdict.proven:
        events[0].attempts += 1
        return Fate(dead=[Dead(events[0], "rejected", results.code, results.message)])
    # Nothing was ever taken, so the envelope may be wrong and the event good: wait for evidence.
    _wait_alone(events[0], now, policy, chance)
    if _is_given_up(events[0], events[0].received_at, now, policy):
        return Fate(dead=[Dead(events[0], "expired", results.code, results.message)])
    return Fate(aside=[events])


def _keep_together(fate: Fate, batch: Batch, now: float, verdict: Verdict) -> None:
    """After trouble of the call: what must step aside does, and a part of a refused batch stays one."""
    if verdict.aside is not None:
        for event in fate.retry:
            event.not_before = now + verdict.aside
    if fate.retry and (verdict.aside is not None or batch.part):
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
