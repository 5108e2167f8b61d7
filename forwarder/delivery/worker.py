"""The loop that brings one target's batches to AWS.

Invariants:
- Nothing is awaited between the answer of ``send`` and the moment where every event of the batch is settled
  or on its way to the dead letters; a cancelled worker leaves its events in the queue, where they were.
- The counters of one batch move in one plain function, after the fact.
- Whoever waits for an event's fate gets it when the event is settled: never before, and nothing waits for
  them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from forwarder.delivery.burial import bury
from forwarder.delivery.disposition import Fate, dispose
from forwarder.delivery.lane import Lane
from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, CallStatus, Dead, Kind, Results
from forwarder.queues.queue import Settlement


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
            verdict = call.record(batch, results, apart=lane.hear(batch, results))
            fate = dispose(batch, results, now, lane.current_policy(), verdict, lane.chance)
        except Exception:  # a bug, which ends the daemon: the others may still bring these events through
            lane.queue.settle(Settlement(retry=batch.events))
            raise
        lane.queue.settle(Settlement(fate.delivered, fate.retry, fate.parts, fate.aside, batch.part))
        account(lane.metrics, batch, results, fate, started, now)
        if lane.receipts.waits:
            lane.receipts.tell_delivered(batch, results)
        return fate.dead


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
