"""From admitted drafts to events in a queue.

Invariants:
- An event is ours when its queue accepted it; ids, answers and counts follow from that.
- A queue accepts all events admitted for it, or none.
- Pauses for many events come before the put, so the caller learns at once what a queue accepted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

from forwarder.ingest.bindings import Route
from forwarder.ingest.errors import VALIDATION, BadRequest, full, unavailable
from forwarder.ingest.shares import names_in, within_share
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Draft, Event, QueueFull, QueueUnavailable, Refusal, new_ids

MANY = 1000
"""Events that are made in one go."""


async def put(
    route: Route[Any],
    drafts: Sequence[Draft | Refusal],
    clock: Clock,
    waiting: Waiting | None = None,
    *,
    complete: bool = False,
    peer: str = "",
    work: Work | None = None,
) -> list[str | Refusal]:
    """Put what was admitted into the route's queue: one id, or refusal, per draft.

    ``waiting`` watches them from before the put; ``peer`` sent them; ``work``: of the request, which pauses
    when they are many. BadRequest: the queue is full, or cannot store them.
    """
    if work is None and len(drafts) > MANY:
        work = Work(peer)
    drafts = await _judge(route, drafts, peer, work)
    admitted = [draft for draft in drafts if type(draft) is Draft]
    if not admitted:
        return list(drafts)  # type: ignore[arg-type] # refusals, all of them
    if work is not None and len(admitted) > MANY:
        await work.pause()  # collecting ids is a slice
        ids = _ids_of(admitted, clock)
        events = await _make_many(ids, admitted, clock.monotonic(), peer, work)
    else:
        ids = _ids_of(admitted, clock)
        events = _make(ids, admitted, clock.monotonic(), peer)
    if waiting is not None:
        waiting.watch(route, ids)
        if work is not None:
            await work.rest()
    try:
        accepting = route.queue.put_nowait(events, complete=complete)
        if accepting is not None:
            await asyncio.shield(accepting)
    except (QueueFull, QueueUnavailable) as problem:
        if waiting is not None:
            waiting.forget(ids)
        raise _not_taken(route.name, problem, len(drafts)) from None
    if len(ids) == len(drafts):
        return ids  # type: ignore[return-value] # the caller's alone
    remaining = iter(ids)
    return [draft if type(draft) is Refusal else next(remaining) for draft in drafts]


async def _judge(
    route: Route[Any], drafts: Sequence[Draft | Refusal], peer: str, work: Work | None
) -> Sequence[Draft | Refusal]:
    """Refuse what is too large, and what the share of names that may not exist has no room for."""
    if work is not None and len(drafts) > MANY:
        drafts, names = await work.through(_judged(route, drafts))
    else:
        drafts = within_limits(route, drafts)
        names = names_in(drafts)
    if names:
        drafts = await (work or Work(peer)).through(within_share(route, drafts, names, peer))
    if work is not None:
        await work.rest()
    return drafts


def _ids_of(drafts: Sequence[Draft], clock: Clock) -> list[str]:
    """The ids that the events were admitted with, or new ones."""
    ids = [draft.id for draft in drafts]
    return ids if ids[0] else new_ids(len(ids), clock.wall())  # all of a request have one, or none


def _make(ids: Sequence[str], drafts: Sequence[Draft], now: float, peer: str) -> list[Event]:
    return [
        Event(id, draft.body, draft.size, draft.key, now, name=draft.name, peer=peer)
        for id, draft in zip(ids, drafts, strict=True)
    ]


async def _make_many(
    ids: Sequence[str], drafts: Sequence[Draft], now: float, peer: str, work: Work
) -> list[Event]:
    events: list[Event] = []
    for start in range(0, len(ids), MANY):
        await work.rest()
        events += _make(ids[start : start + MANY], drafts[start : start + MANY], now, peer)
    await work.pause()  # the queue's part begins with a slice of its own
    return events


def _not_taken(target: str, problem: QueueFull | QueueUnavailable, events: int) -> BadRequest:
    if isinstance(problem, QueueFull):
        return full(target, problem, events)
    return unavailable(target, problem, events)


def _judged(
    route: Route[Any], drafts: Sequence[Draft | Refusal]
) -> Generator[None, None, tuple[Sequence[Draft | Refusal], set[str]]]:
    """Many drafts ``within_limits``, and the ``names_in`` them; in steps."""
    judged: list[Draft | Refusal] = []
    names: set[str] = set()
    for start in range(0, len(drafts), MANY):
        some = within_limits(route, drafts[start : start + MANY])
        names |= names_in(some)
        judged += some
        yield
    return judged, names


def within_limits(route: Route[Any], drafts: Sequence[Draft | Refusal]) -> Sequence[Draft | Refusal]:
    """The drafts, with a refusal in place of each that no call of the target could carry, or that is for a
    name which the target does not take."""
    if route.only is not None:
        only = route.only
        drafts = [
            draft if isinstance(draft, Refusal) else only.refusal(draft.name) or draft for draft in drafts
        ]
    most = route.max_event_bytes
    for draft in drafts:
        if type(draft) is Draft and draft.size > most:
            return [_limit(draft, most, route.name) for draft in drafts]
    return drafts


def _limit(draft: Draft | Refusal, most: int, target: str) -> Draft | Refusal:
    if isinstance(draft, Refusal) or draft.size <= most:
        return draft
    most_allowed = f"a call takes at most {most} (targets.{target}.batch)."
    message = f"The event has {draft.size} bytes by AWS's formula; {most_allowed}"
    return Refusal(VALIDATION, message, "too_large")


def count(metrics: TargetMetrics, results: Sequence[str | Refusal]) -> None:
    if Refusal not in map(type, results):
        return
    reasons = Counter([result.reason for result in results if type(result) is Refusal])
    for reason, events in reasons.items():
        metrics.add_refused(reason, events)
