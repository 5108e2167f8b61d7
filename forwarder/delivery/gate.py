"""The gate: when a target may be called. Open slots, pace, throttle back-off, hold.

Invariants:
- Trouble of a call closes the gate for the whole target, once: calls that started before it closed can
  neither lengthen the back-off nor open the gate again.
- A closed gate opens for one call at a time; the first that AWS answers opens it for all.
- ``held`` is trouble that only a person can end; one probe per interval, which grows up to its cap.
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
from forwarder.delivery.concurrency import ConcurrencyLimit
from forwarder.delivery.pace import Pace
from forwarder.logs import limited
from forwarder.metrics import GateView
from forwarder.model import Batch, CallStatus, Chance, Clock, Kind, Results, full_jitter
from forwarder.waiters import FOREVER, Line, resolve

SUSPECTS = 3
"""Different events refused, with nothing ever taken, before the envelope is blamed and not the events."""

DRAIN_BACKOFF_CAP = 1.0
"""Seconds; longer back-offs than this would sleep the drain away."""

DRAIN_PATIENCE = 2 * DRAIN_BACKOFF_CAP
"""Seconds without a delivery after which a drain takes the trouble of a part for the whole target's."""

_CLOSED_STATES = {
    CallStatus.THROTTLED: "throttled",
    CallStatus.UNAVAILABLE: "throttled",
    CallStatus.HELD: "held",
}


class GateOptions(msgspec.Struct, frozen=True):
    """``slots``: calls in flight, at most and at least; ``pace``: calls a second, None for any.

    Durations in seconds. ``overloaded``: entries of an answer that fail with one of these codes make it fewer
    calls at once.
    """

    slots: int = 8
    min_slots: int = 1
    pace: float | None = None
    backoff_base: float = 0.2
    backoff_cap: float = 30.0
    probe: float = 30.0
    probe_cap: float = 300.0
    overloaded: frozenset[str] = codes.OVERLOADED


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
        self._state = self._said = "open"
        self._message = ""
        self._closed_for = 0.0
        self._since = clock.monotonic()
        self._since_wall = clock.wall()
        self._closed_until = 0.0
        self._epoch = 0
        self._failures = 0
        self._slots = ConcurrencyLimit(options.min_slots, options.slots)
        self._pace = Pace(options.pace)
        self._probing = False
        self._throttled_seconds = 0.0
        self._blocks: dict[str, str] = {}
        self._delivered_at: float | None = None
        self._suspects: set[str] = set()
        self._draining = False
        self._drained_at = 0.0
        self._blocked_at = 0.0
        self._last_try_failed = False
        self._line = Line(self._must_wait)
        self._pausing: set[asyncio.Future[None]] = set()

    def call(self) -> Call:
        return Call(self)

    def block(self, owner: str, message: str) -> None:
        """Hold the target for a reason of the owner's, until ``unblock``."""
        if owner not in self._blocks:
            self._blocked_at = self._clock.monotonic()
            self._log.warning("target held", reason=message)
        self._blocks[owner] = message

    def unblock(self, owner: str) -> None:
        if self._blocks.pop(owner, None) is not None:
            self._log.info("target no longer held", owner=owner)
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
        blocked_for = self._clock.monotonic() - max(self._drained_at, self._blocked_at)
        return self._last_try_failed or (bool(self._blocks) and blocked_for > DRAIN_BACKOFF_CAP)

    @property
    def calling(self) -> bool:
        """Whether calls are in flight."""
        return self._slots.taken > 0

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
        closed = self._state != "open"
        blocked = bool(self._blocks)
        return GateView(
            state="held" if blocked else self._state,
            since_wall=self._since_wall,
            message="; ".join(self._blocks.values()) if blocked else self._message,
            next_probe_in=max(0.0, self._closed_until - now) if closed and not blocked else None,
            in_flight=self._slots.taken,
            limit=self._slots.limit,
            throttle_wait_seconds=self._throttled_seconds + self._throttled_now(now),
        )

    async def _enter(self, call: Call) -> None:
        await self._line.stand()
        # no await from here: the slot, the pace and the probe are ours in one step
        call.began_at = self._clock.monotonic()
        call.round = self._slots.take()
        call.epoch = self._epoch
        call.probe = self._state != "open"
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
        if self._blocks or self.gave_up:
            return FOREVER
        if slots.taken >= (slots.limit if self._state == "open" else slots.most):
            return FOREVER
        now = self._clock.monotonic()
        if self._state != "open":
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
        if self._state != "open" and call.epoch == self._epoch:
            self._open()
        elif self._said != self._state:
            self._say()

    def _count_answer(self, call: Call, results: Results) -> None:
        """An answer of AWS's tells the slots how long it took, or that single entries were throttled."""
        if not self._options.overloaded.isdisjoint(map(_code_of, results.outcomes)):
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
            limited(self._log, f"{self._name} aside").warning("some events held", reason=_sentence(results))
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
            last = last if self._state == "held" else max(last or 0.0, self._drained_at)
        return last is not None and self._clock.monotonic() - last < window

    def _trouble(self, call: Call, results: Results) -> None:
        state = _CLOSED_STATES[results.status]
        stale = call.epoch != self._epoch
        news = state == "held" and self._state == "throttled" and not self._probing
        if stale and not news:
            return
        if state == "throttled" and self._state == "open":
            self._slots.troubled(call.round)
        self._failures = 1 if state != self._state else self._failures + 1
        self._epoch += 1
        self._probing = False
        self._last_try_failed = self._draining and state == self._state == "held"  # not when it was news
        self._closed_until = self._clock.monotonic() + self._pause(state, results.delay)
        self._enter_state(state, _sentence(results))
        self._line.wake_next()

    def _pause(self, state: str, asked_for: float | None) -> float:
        options = self._options
        if state == "held" and self._draining:
            return min(options.probe, DRAIN_BACKOFF_CAP)
        if state == "held":
            return min(options.probe_cap, options.probe * 2.0 ** min(self._failures - 1, 32))
        pause = full_jitter(self._failures, options.backoff_base, options.backoff_cap, self._chance)
        if asked_for is not None:
            pause = max(pause, asked_for * (1 + self._chance() / 10))
        return min(pause, DRAIN_BACKOFF_CAP) if self._draining else pause

    def _open(self) -> None:
        self._failures = 0
        self._probing = False
        self._enter_state("open", "")
        self._line.wake_next()

    def _enter_state(self, state: str, message: str) -> None:
        changed = state != self._state
        if changed:
            now = self._clock.monotonic()
            self._closed_for = round(now - self._since, 3)
            self._throttled_seconds += self._throttled_now(now)
            self._state, self._since, self._since_wall = state, now, self._clock.wall()
        self._message = message
        self._say()

    def _say(self) -> None:
        """Log the state, unless it was logged last; what comes too often is said with a later call."""
        state = self._state
        if state == self._said or not (log := limited(self._log, f"{self._name} {state}")):
            return
        if state == "held":
            log.warning("target held", reason=self._message)
        elif state == "throttled":
            log.info("target backing off", reason=self._message)
        else:
            log.info("target recovered", was=self._said, after_seconds=self._closed_for)
        self._said = state

    def _throttled_now(self, now: float) -> float:
        return now - self._since if self._state == "throttled" else 0.0


_kind_of = attrgetter("kind")
_code_of = attrgetter("code")


def _sentence(results: Results) -> str:
    return f"{results.code}: {results.message}" if results.message else results.code
