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

import random
from collections.abc import Callable

import structlog

from forwarder.changes import Changes
from forwarder.delivery.call import Call
from forwarder.delivery.concurrency import ConcurrencyLimit
from forwarder.delivery.health import DRAIN_BACKOFF_CAP, Health, HealthOptions, Load, Verdict
from forwarder.delivery.pace import Pace
from forwarder.delivery.target_state import TargetState, say_set_aside
from forwarder.metrics import GateView
from forwarder.model import Batch, Chance, Clock, Results
from forwarder.states import Reason, State
from forwarder.waiters import FOREVER, Pauses, WaitQueue


class GateOptions(HealthOptions, frozen=True):
    """``slots`` and ``min_slots``: the most and the fewest calls in flight. ``pace``: calls per second, None
    for any number."""

    slots: int = 8
    min_slots: int = 1
    pace: float | None = None


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
        self._pauses = Pauses()

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
            self._look_again()

    def retry_now(self) -> None:
        """End the back-off, or the wait for the next probe. A block stays, and a failed try closes again."""
        self._health.retry_now()
        self._look_again()

    def drain(self) -> None:
        """End every back-off now. From here on a held target gets one try."""
        self._health.drain(self._clock.monotonic())
        self._look_again()

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
        return self._health.newest_began_at >= moment

    async def pause(self) -> None:
        """Wait as long as the owner of a block should before its next try. A drain ends the wait."""
        await self._pauses.wait(DRAIN_BACKOFF_CAP / 2 if self._health.draining else self._probe_seconds)

    def view(self) -> GateView:
        probe_in = None if self.is_blocked else self._health.probe_in(self._clock.monotonic())
        return self._state.view(probe_in, self._concurrency.taken, self._concurrency.limit)

    # --- for ``Call``

    async def enter(self, call: Call) -> None:
        await self._waiters.wait_turn()
        # no await from here: the slot, the pace and the probe are ours in one step
        call.passage = self._health.begin(self._clock.monotonic())
        call.round = self._concurrency.take()
        self._pace.spend(call.passage.began_at)
        self._waiters.wake_next()

    def leave(self, call: Call) -> None:
        self._concurrency.give_back()
        self._health.end(call.passage)
        if not call.recorded:
            self._pace.refund()
        self._waiters.wake_next()

    def record(self, call: Call, batch: Batch, results: Results, apart: bool) -> Verdict:
        now = self._clock.monotonic()
        decision = self._health.on_result(call.passage, batch, results, now, apart=apart)
        if decision.load is Load.OVERLOADED:
            self._concurrency.troubled(call.round)
        elif decision.load is Load.NORMAL:
            self._concurrency.answered(call.round, now - call.passage.began_at)
        if decision.entered is not None:
            self._state.enter(*decision.entered)
            self._waiters.wake_next()
        if decision.only_sets_aside:
            say_set_aside(self._log, self._name, results)
        return decision.verdict

    def _must_wait(self) -> float:
        """Seconds until a call may pass: 0 for now, FOREVER for "when something changes"."""
        concurrency, now = self._concurrency, self._clock.monotonic()
        most = concurrency.limit if self._health.state is State.OPEN else concurrency.maximum
        if concurrency.taken >= most or self.is_blocked or self.gave_up:
            return FOREVER
        return self._health.wait(now) or self._pace.wait(now)

    def _look_again(self) -> None:
        """Something that calls and owners of blocks wait for has changed."""
        self._pauses.end()
        self._waiters.wake_next()
