"""The gate: when a target may be called. Open slots, pace, throttle back-off, hold.

Invariants:
- Trouble of a call closes the gate for the whole target, once: calls that started before it closed can
  neither lengthen the back-off nor open the gate again.
- A closed gate opens for one call at a time; the first that AWS answers opens it for all.
- ``held`` is trouble that only a person can end; one probe per interval, which grows up to its cap.
- Every trouble has a reason of a closed set, by one table (``codes.reason_of``); ``Standing`` says it.
- Trouble that may be of one bus, app monitor or project alone holds nobody while others get through: its
  events step aside. So they do when the target is held, that the next probe may be of another.
- What others know of the target (a bus is missing, dead letters cannot be written) blocks the gate under
  a name of its own, until the same owner unblocks it; no probe passes a block.
- How many calls pass at once is what ``ConcurrencyLimit`` finds; a probe needs one of the most there may be.
- No await between a decision and the counter that records it.
"""

from __future__ import annotations

import asyncio
import random
from operator import attrgetter
from types import TracebackType
from typing import NamedTuple

import msgspec
import structlog

from forwarder.apis import codes
from forwarder.changes import Changes
from forwarder.delivery.concurrency import ConcurrencyLimit
from forwarder.delivery.pace import Pace
from forwarder.delivery.standing import Standing
from forwarder.logs import limited
from forwarder.metrics import GateView
from forwarder.model import Batch, CallStatus, Chance, Clock, Kind, Results, full_jitter
from forwarder.states import Reason, State
from forwarder.waiters import FOREVER, Line, resolve

SUSPECTS = 3
"""Different events refused, with nothing ever taken, before the envelope is blamed and not the events."""

DRAIN_BACKOFF_CAP = 1.0
"""Seconds; longer back-offs than this would sleep the drain away."""

DRAIN_PATIENCE = 2 * DRAIN_BACKOFF_CAP
"""Seconds without a delivery after which a drain takes the trouble of a part for the whole target's."""

_CLOSED_STATES = {
    CallStatus.THROTTLED: State.BACKING_OFF,
    CallStatus.UNAVAILABLE: State.BACKING_OFF,
    CallStatus.HELD: State.HELD,
}


class GateOptions(msgspec.Struct, frozen=True):
    """``slots``: calls in flight, at most and at least; ``pace``: calls a second, None for any.

    Durations in seconds.
    """

    slots: int = 8
    min_slots: int = 1
    pace: float | None = None
    backoff_base: float = 0.2
    backoff_cap: float = 30.0
    probe: float = 30.0
    probe_cap: float = 300.0


class Verdict(NamedTuple):
    """What a call taught. ``proven``: AWS has taken events of this target, so a refusal is the event's.

    ``aside``: seconds that the call's events should step aside for; None: they should not.
    """

    proven: bool
    aside: float | None = None


class Call:
    """One passage through the gate: ``async with gate.call() as call``, then ``call.learn(results)``."""

    __slots__ = ("_gate", "began_at", "epoch", "learned", "probe", "round")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.began_at = 0.0
        self.epoch = -1
        self.round = -1
        self.learned = False
        self.probe = False

    async def __aenter__(self) -> Call:
        await self._gate._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate._leave(self)

    def learn(self, batch: Batch, results: Results, *, apart: bool = False) -> Verdict:
        """Tell the gate what became of the batch. ``apart``: trouble of its names alone, which wait by
        themselves from now on."""
        self.learned = True
        return self._gate._learn(self, batch, results, apart)


class Gate:
    """One target's gate, shared by its workers."""

    def __init__(self, name: str, options: GateOptions, clock: Clock, chance: Chance = random.random) -> None:
        self._options = options
        self._clock = clock
        self._chance = chance
        self._name = name
        self._log = structlog.get_logger("gate").bind(target=name)
        self._standing = Standing(Changes(self._log, clock.monotonic), clock)
        self._closed_until = 0.0
        self._epoch = 0
        self._failures = 0
        self._slots = ConcurrencyLimit(options.min_slots, options.slots)
        self._pace = Pace(options.pace)
        self._probing = False
        self._learned_from = -1.0
        self._delivered_at: float | None = None
        self._suspects: set[str] = set()
        self._draining = False
        self._drained_at = 0.0
        self._last_try_failed = False
        self._line = Line(self._must_wait)
        self._pausing: set[asyncio.Future[None]] = set()

    def call(self) -> Call:
        return Call(self)

    def block(self, owner: str, message: str, reason: Reason) -> None:
        """Hold the target for a reason of the owner's, until ``unblock``."""
        self._standing.block(owner, reason, message)

    def unblock(self, owner: str) -> None:
        if self._standing.unblock(owner):
            self._end_pauses()

    def retry_now(self) -> None:
        """End the back-off, or the pause of a hold, now; a block stays, and a failed try closes again."""
        self._closed_until = 0.0
        self._end_pauses()

    def drain(self) -> None:
        """End every back-off now; from here on a held target gets one try."""
        self._draining = True
        self._drained_at = self._clock.monotonic()
        self._closed_until = 0.0
        self._failures = 0
        self._end_pauses()

    @property
    def gave_up(self) -> bool:
        """True while draining when no further call can help: held after its last try, or blocked."""
        if not self._draining:
            return False
        blocked_for = self._clock.monotonic() - max(self._drained_at, self._standing.blocked_at)
        return self._last_try_failed or (self.is_blocked and blocked_for > DRAIN_BACKOFF_CAP)

    @property
    def calling(self) -> bool:
        """Whether calls are in flight."""
        return self._slots.taken > 0

    @property
    def is_blocked(self) -> bool:
        """Whether an owner holds the target, so that no call passes."""
        return self._standing.blocked

    def has_learned_since(self, moment: float) -> bool:
        """Whether a call that began then or later (monotonic seconds) was answered or has failed."""
        return self._learned_from >= moment

    async def pause(self) -> None:
        """Wait as long as who blocks the gate should before its next try; a drain ends the wait."""
        word = asyncio.get_running_loop().create_future()
        self._pausing.add(word)
        try:
            timeout = DRAIN_BACKOFF_CAP / 2 if self._draining else self._options.probe
            await asyncio.wait([word], timeout=timeout)
        finally:
            self._pausing.discard(word)

    def view(self) -> GateView:
        now = self._clock.monotonic()
        standing = self._standing
        probes = standing.state is not State.OPEN and not standing.blocked
        seen = standing.seen
        return GateView(
            state=seen.state,
            reason=seen.reason,
            since_wall=seen.since_wall,
            message=seen.message,
            next_probe_in=max(0.0, self._closed_until - now) if probes else None,
            in_flight=self._slots.taken,
            limit=self._slots.limit,
            throttle_wait_seconds=standing.backed_off_seconds,
            met=standing.met,
        )

    @property
    def _state(self) -> State:
        return self._standing.state

    async def _enter(self, call: Call) -> None:
        await self._line.stand()
        # no await from here: the slot, the pace and the probe are ours in one step
        call.began_at = self._clock.monotonic()
        call.round = self._slots.take()
        call.epoch = self._epoch
        call.probe = self._state is not State.OPEN
        self._probing = self._probing or call.probe
        self._pace.spend(call.began_at)
        self._line.wake_next()

    def _leave(self, call: Call) -> None:
        self._slots.give_back()
        if call.probe and call.epoch == self._epoch:
            self._probing = False
        if not call.learned:
            self._pace.refund()
        self._line.wake_next()

    def _must_wait(self) -> float:
        """Seconds until a call may pass: 0 for now, infinity for "when something changes"."""
        slots = self._slots
        if self.is_blocked or self.gave_up:
            return FOREVER
        if slots.taken >= (slots.limit if self._state is State.OPEN else slots.most):
            return FOREVER
        now = self._clock.monotonic()
        if self._state is not State.OPEN:
            if self._probing:
                return FOREVER
            if self._closed_until > now:
                return self._closed_until - now
        return self._pace.wait(now)

    def _end_pauses(self) -> None:
        for word in self._pausing:
            resolve(word)
        self._line.wake_next()

    def _learn(self, call: Call, batch: Batch, results: Results, apart: bool) -> Verdict:
        self._learned_from = max(self._learned_from, call.began_at)
        if Kind.DELIVERED in map(_kind_of, results.outcomes):
            self._delivered_at = self._clock.monotonic()
            self._suspects.clear()
        aside = None
        if results.status is CallStatus.OK:
            self._answered(call)
            self._count_answer(call, results)
        elif results.status is CallStatus.REFUSED:
            self._refused(call, batch, results)
        elif apart:
            self._answered(call)
        elif results.status is CallStatus.HELD and results.called and results.code in codes.OF_A_PART:
            aside = self._step_aside(call, results)
        else:
            self._trouble(call, results)
        return Verdict(self._delivered_at is not None, aside)

    def _answered(self, call: Call) -> None:
        if self._state is not State.OPEN and call.epoch == self._epoch:
            self._open()

    def _count_answer(self, call: Call, results: Results) -> None:
        """An answer of AWS's tells the slots how long it took, or that single entries were throttled."""
        if not codes.OVERLOADED.isdisjoint(map(_code_of, results.outcomes)):
            self._slots.troubled(call.round)
        elif results.called:
            self._slots.answered(call.round, self._clock.monotonic() - call.began_at)

    def _refused(self, call: Call, batch: Batch, results: Results) -> None:
        """AWS answered, so the gate is open; if all it ever said is no, the envelope is to blame."""
        if len(batch.events) == 1 and self._delivered_at is None and len(self._suspects) < SUSPECTS:
            self._suspects.add(batch.events[0].id)
        if len(self._suspects) >= SUSPECTS:
            self._trouble(call, msgspec.structs.replace(results, status=CallStatus.HELD))
        else:
            self._answered(call)

    def _step_aside(self, call: Call, results: Results) -> float:
        """Hold the target only if nothing else got through for a while; the seconds to step aside for.

        What never left tells nothing of the others: it neither holds the target nor ends a hold.
        """
        never_left = results.code == codes.ENDPOINT and not self._draining
        if never_left or self._others_get_through():
            reason = codes.reason_of(results.status, results.code)
            log = limited(self._log, f"{self._name} aside {reason}")
            log.warning("events set aside", reason=reason, error=_sentence(results))
            if not never_left:
                self._answered(call)
        else:
            self._trouble(call, results)
        return self._options.probe

    def _others_get_through(self) -> bool:
        """Something was delivered lately; or a drain has just begun, and others had no turn in it yet."""
        window, last = self._options.probe, self._delivered_at
        if self._draining:
            window = DRAIN_PATIENCE
            last = last if self._state is State.HELD else max(last or 0.0, self._drained_at)
        return last is not None and self._clock.monotonic() - last < window

    def _trouble(self, call: Call, results: Results) -> None:
        state = _CLOSED_STATES[results.status]
        stale = call.epoch != self._epoch
        news = state is State.HELD and self._state is State.BACKING_OFF and not self._probing
        if stale and not news:
            return
        if state is State.BACKING_OFF and self._state is State.OPEN:
            self._slots.troubled(call.round)
        self._failures = 1 if state is not self._state else self._failures + 1
        self._epoch += 1
        self._probing = False
        self._last_try_failed = self._draining and state is self._state is State.HELD  # not when it was news
        self._closed_until = self._clock.monotonic() + self._pause(state, results.delay)
        self._standing.enter(state, codes.reason_of(results.status, results.code), _sentence(results))
        self._line.wake_next()

    def _pause(self, state: State, asked_for: float | None) -> float:
        options = self._options
        if state is State.HELD and self._draining:
            return min(options.probe, DRAIN_BACKOFF_CAP)
        if state is State.HELD:
            return min(options.probe_cap, options.probe * 2.0 ** min(self._failures - 1, 32))
        pause = full_jitter(self._failures, options.backoff_base, options.backoff_cap, self._chance)
        if asked_for is not None:
            pause = max(pause, asked_for * (1 + self._chance() / 10))
        return min(pause, DRAIN_BACKOFF_CAP) if self._draining else pause

    def _open(self) -> None:
        self._failures = 0
        self._probing = False
        self._standing.enter(State.OPEN)
        self._line.wake_next()


_kind_of = attrgetter("kind")
_code_of = attrgetter("code")


def _sentence(results: Results) -> str:
    return f"{results.code}: {results.message}" if results.message else results.code
