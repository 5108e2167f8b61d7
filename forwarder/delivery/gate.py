"""The gate of a target: a call waits here for its turn, a slot, the pace, and for the target's health.

Invariants:
- ``Health`` decides whether the target may be called, ``ConcurrencyLimit`` how many calls at once, ``Pace``
  how often. The gate asks them, and tells them what became of each call. It decides nothing by itself.
- What others know about the target (a bus is missing, dead letters cannot be written) blocks the gate under
  a name of its own, until the same owner unblocks it. No probe passes a block.
- A probe does not wait for calls that hang: it needs a slot of the maximum, and not of the present limit.
- No await between a decision and the counter that records it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import structlog

from forwarder.apis import codes
from forwarder.changes import Changes
from forwarder.delivery.concurrency import ConcurrencyLimit
from forwarder.delivery.health import (
    DRAIN_BACKOFF_CAP,
    Decision,
    Health,
    HealthOptions,
    Load,
    Passage,
    Verdict,
)
from forwarder.delivery.pace import Pace
from forwarder.delivery.target_state import TargetState
from forwarder.logs import limited
from forwarder.metrics import GateView
from forwarder.model import Batch, Chance, Clock, Results
from forwarder.states import Reason, State
from forwarder.waiters import FOREVER, WaitQueue


class GateOptions(HealthOptions, frozen=True):
    """``slots`` and ``min_slots``: the most and the fewest calls in flight. ``pace``: calls per second, None
    for any number."""

    slots: int = 8
    min_slots: int = 1
    pace: float | None = None


class Call:
    """One passage through the gate:

    ``async with gate.call() as call``, then ``call.record(batch, results)``.
    """

    __slots__ = ("_gate", "passage", "recorded", "round")

    passage: Passage
    round: int

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.recorded = False

    async def __aenter__(self) -> Call:
        await self._gate._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate._leave(self)

    def record(self, batch: Batch, results: Results, *, apart: bool = False) -> Verdict:
        """Record what became of the batch.

        ``apart``: the trouble concerns only names that wait by themselves now.
        """
        self.recorded = True
        return self._gate._record(self, batch, results, apart)


class Gate:
    """One target's gate, shared by its workers."""

    def __init__(self, name: str, options: GateOptions, clock: Clock, chance: Chance = random.random) -> None:
        self._name = name
        self._probe_seconds = options.probe
        self._clock = clock
        self._log = structlog.get_logger("gate").bind(target=name)
        self._health = Health(options, chance)
        self._state = TargetState(Changes(self._log, clock.monotonic), clock)
        self._concurrency = ConcurrencyLimit(options.min_slots, options.slots)
        self._pace = Pace(options.pace)
        self._waiters = WaitQueue(self._must_wait)
        self._pauses_ended = asyncio.Event()
        self._newest_record = -1.0

    def call(self) -> Call:
        return Call(self)

    def on_change(self, changed: Callable[[], None]) -> None:
        """``changed`` is called at each change of the state or its reason."""
        self._state.on_change = changed

    def block(self, owner: str, message: str, reason: Reason) -> None:
        """Hold the target for a reason of the owner's, until ``unblock``."""
        self._state.block(owner, reason, message)

    def unblock(self, owner: str) -> None:
        if self._state.unblock(owner):
            self._end_pauses()

    def retry_now(self) -> None:
        """End the back-off, or the wait for the next probe. A block stays, and a failed try closes again."""
        self._health.retry_now()
        self._end_pauses()

    def drain(self) -> None:
        """End every back-off now. From here on a held target gets one try."""
        self._health.drain(self._clock.monotonic())
        self._end_pauses()

    @property
    def gave_up(self) -> bool:
        """True while draining when no further call can help: held after its last try, or blocked."""
        return self._health.gave_up(self._clock.monotonic(), self._state.blocked_at)

    @property
    def calling(self) -> bool:
        """Whether calls are in flight."""
        return self._concurrency.taken > 0

    @property
    def is_blocked(self) -> bool:
        """Whether an owner holds the target, so that no call passes."""
        return self._state.blocked_at is not None

    def has_recorded_since(self, moment: float) -> bool:
        """Whether a call that began then or later (monotonic seconds) was answered or has failed."""
        return self._newest_record >= moment

    async def pause(self) -> None:
        """Wait as long as the owner of a block should before its next try. A drain ends the wait."""
        seconds = DRAIN_BACKOFF_CAP / 2 if self._health.draining else self._probe_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pauses_ended.wait()

    def view(self) -> GateView:
        health, state = self._health, self._state
        probes = health.state is not State.OPEN and not self.is_blocked
        seen = state.seen
        return GateView(
            state=seen.state,
            reason=seen.reason,
            since_wall=seen.since_wall,
            message=seen.message,
            next_probe_in=max(0.0, health.closed_until - self._clock.monotonic()) if probes else None,
            in_flight=self._concurrency.taken,
            limit=self._concurrency.limit,
            throttle_wait_seconds=state.backed_off_seconds,
        )

    async def _enter(self, call: Call) -> None:
        await self._waiters.wait_turn()
        # no await from here: the slot, the pace and the probe are ours in one step
        call.passage = self._health.begin(self._clock.monotonic())
        call.round = self._concurrency.take()
        self._pace.spend(call.passage.began_at)
        self._waiters.wake_next()

    def _leave(self, call: Call) -> None:
        self._concurrency.give_back()
        self._health.end(call.passage)
        if not call.recorded:
            self._pace.refund()
        self._waiters.wake_next()

    def _must_wait(self) -> float:
        """Seconds until a call may pass: 0 for now, FOREVER for "when something changes"."""
        concurrency, now = self._concurrency, self._clock.monotonic()
        most = concurrency.limit if self._health.state is State.OPEN else concurrency.maximum
        if concurrency.taken >= most or self.is_blocked or self.gave_up:
            return FOREVER
        return self._health.wait(now) or self._pace.wait(now)

    def _record(self, call: Call, batch: Batch, results: Results, apart: bool) -> Verdict:
        now, began_at = self._clock.monotonic(), call.passage.began_at
        self._newest_record = max(self._newest_record, began_at)
        decision = self._health.on_result(call.passage, batch, results, now, apart=apart)
        if decision.load is Load.OVERLOADED:
            self._concurrency.troubled(call.round)
        elif decision.load is Load.NORMAL:
            self._concurrency.answered(call.round, now - began_at)
        if decision.entered is not None:
            self._state.enter(*decision.entered)
            self._waiters.wake_next()
        if _is_set_aside_only(decision):
            self._log_set_aside(results)
        return decision.verdict

    def _log_set_aside(self, results: Results) -> None:
        reason = codes.reason_of(results.status, results.code)
        log = limited(self._log, f"{self._name} aside {reason}")
        log.warning("events set aside", reason=reason, error=results.sentence)

    def _end_pauses(self) -> None:
        ended, self._pauses_ended = self._pauses_ended, asyncio.Event()
        ended.set()
        self._waiters.wake_next()


def _is_set_aside_only(decision: Decision) -> bool:
    """The events are set aside, and the target is not closed for them: a line that it is would say enough."""
    closed = decision.entered is not None and decision.entered.state is not State.OPEN
    return decision.verdict.aside is not None and not closed
