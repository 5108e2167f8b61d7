"""Whether a target may be called: open, backing off or held. A pure state machine, without clock, timer or
log.

Invariants:
- Trouble of a call closes the target once. Every close begins a new epoch; calls of an earlier epoch can
  neither lengthen the back-off nor open the target again.
- A closed target is tried by one call at a time (a probe). The first answer from AWS opens it for all.
- ``held`` needs a person. Probes come one per interval, and the interval doubles up to its cap.
- Every trouble has a reason from a closed set, by one table (``codes.reason_of``).
- Trouble that may concern one bus, app monitor or project alone closes nothing while other events are
  delivered: the events of that call are set aside. They are set aside in a hold as well, so that the next
  probe may carry other events.
- Every moment is an argument, in monotonic seconds.
"""

from __future__ import annotations

import enum
import math
import random
from operator import attrgetter
from typing import NamedTuple

import msgspec

from forwarder.apis import codes
from forwarder.model import Batch, CallStatus, Chance, Kind, Results, full_jitter
from forwarder.states import Reason, State

SUSPECTS = 3
"""So many different events refused, and none ever delivered: the envelope is to blame, not the events."""

DRAIN_BACKOFF_CAP = 1.0
"""Seconds. A longer back-off could take up the whole drain."""

DRAIN_WINDOW = 2 * DRAIN_BACKOFF_CAP
"""Seconds of a drain without a delivery, after which trouble of a part counts as trouble of the target."""

_CLOSED_STATES = {
    CallStatus.THROTTLED: State.BACKING_OFF,
    CallStatus.UNAVAILABLE: State.BACKING_OFF,
    CallStatus.HELD: State.HELD,
}


class HealthOptions(msgspec.Struct, frozen=True):
    """Durations in seconds. ``probe``: the first interval between the probes of a held target.

    ``overloaded``: codes of single entries that mean that the service has too much to do.
    """

    backoff_base: float = 0.2
    backoff_cap: float = 30.0
    probe: float = 30.0
    probe_cap: float = 300.0
    overloaded: frozenset[str] = codes.OVERLOADED


class Passage(NamedTuple):
    """What a call was when it began."""

    began_at: float
    epoch: int
    probe: bool


class Load(enum.Enum):
    """What a call showed about how busy the service is."""

    UNKNOWN = enum.auto()
    NORMAL = enum.auto()
    OVERLOADED = enum.auto()


class Verdict(NamedTuple):
    """What the call means for its events.

    ``proven``: AWS has accepted events of this target, so that a refusal is about the event. ``aside``:
    seconds for which the events are set aside; None if they are not.
    """

    proven: bool
    aside: float | None = None


class Entered(NamedTuple):
    """The state that the target is in from now on; the same as before if a probe met the same trouble."""

    state: State
    reason: Reason = Reason.NONE
    message: str = ""


class Decision(NamedTuple):
    """``entered`` is None if the call changes nothing."""

    verdict: Verdict
    load: Load = Load.UNKNOWN
    entered: Entered | None = None

    @property
    def only_sets_aside(self) -> bool:
        """The events are set aside, and the target is not closed for them."""
        closed = self.entered is not None and self.entered.state is not State.OPEN
        return self.verdict.aside is not None and not closed


class Health:
    """One target's health. ``begin`` and ``end`` enclose every call; ``on_result`` decides in between."""

    def __init__(self, options: HealthOptions, chance: Chance = random.random) -> None:
        self.state = State.OPEN
        self.closed_until = 0.0
        self.newest_began_at = -1.0  # of the calls with a result
        self._options = options
        self._chance = chance
        self._epoch = 0
        self._failures = 0
        self._probing = False
        self._suspects: set[str] = set()
        self._delivered_at: float | None = None
        self._drained_at: float | None = None
        self._last_try_failed = False

    @property
    def draining(self) -> bool:
        return self._drained_at is not None

    def wait(self, now: float) -> float:
        """Seconds until the next call may begin: 0 for now, infinity while a probe is in flight."""
        if self.state is State.OPEN:
            return 0.0
        return math.inf if self._probing else max(0.0, self.closed_until - now)

    def probe_in(self, now: float) -> float | None:
        """Seconds until a closed target is tried again; None for an open one."""
        return None if self.state is State.OPEN else max(0.0, self.closed_until - now)

    def begin(self, now: float) -> Passage:
        """A call begins, after ``wait`` allowed it."""
        # One probe at a time. A dead AWS costs one call a back-off, and not as many as there are workers.
        probe = self.state is not State.OPEN
        self._probing = self._probing or probe
        return Passage(now, self._epoch, probe)

    def end(self, call: Passage) -> None:
        """The call is over, whatever became of it."""
        # A probe without a result (cancelled, or nothing to send) lets the next one go. One with a result has
        # decided already.
        if call.probe and call.epoch == self._epoch:
            self._probing = False

    def retry_now(self) -> None:
        """End the present back-off, or the present wait for a probe."""
        self.closed_until = 0.0

    def drain(self, now: float) -> None:
        """End every back-off, and keep later ones short. A held target gets one more try."""
        self._drained_at = now
        self.closed_until = 0.0
        self._failures = 0

    def gave_up(self, now: float, blocked_at: float | None) -> bool:
        """Whether a drain can deliver no more: its last try failed, or it was blocked for a while.

        ``blocked_at``: since when the target is blocked; None if it is not.
        """
        if self._drained_at is None:
            return False
        if blocked_at is not None and now - max(self._drained_at, blocked_at) > DRAIN_BACKOFF_CAP:
            return True
        return self._last_try_failed

    def on_result(
        self, call: Passage, batch: Batch, results: Results, now: float, *, apart: bool = False
    ) -> Decision:
        """Decide what a call means.

        ``apart``: its trouble concerns only names that wait by themselves from now on.
        """
        self.newest_began_at = max(self.newest_began_at, call.began_at)
        if Kind.DELIVERED in map(_kind_of, results.outcomes):
            self._delivered_at = now
            self._suspects.clear()  # the envelope is good, so that each refusal was about its event
        if results.status is CallStatus.OK:
            return self._answered(call, self._load(results))
        if results.status is CallStatus.REFUSED:
            return self._refused(call, batch, results, now)
        if apart:
            return self._answered(call)
        if results.status is CallStatus.HELD and results.called and results.code in codes.OF_A_PART:
            return self._trouble_of_a_part(call, results, now)
        return self._trouble(call, results, now)

    def _verdict(self, aside: float | None = None) -> Verdict:
        return Verdict(self._delivered_at is not None, aside)

    def _load(self, results: Results) -> Load:
        """Single entries can be throttled in an answered call."""
        if not self._options.overloaded.isdisjoint(map(_code_of, results.outcomes)):
            return Load.OVERLOADED
        return Load.NORMAL if results.called else Load.UNKNOWN

    def _answered(self, call: Passage, load: Load = Load.UNKNOWN, aside: float | None = None) -> Decision:
        """An answer opens a closed target, unless the call began before the target was closed."""
        verdict = self._verdict(aside)
        # A call of an earlier epoch began before the trouble, so that its answer says nothing about now.
        if self.state is State.OPEN or call.epoch != self._epoch:
            return Decision(verdict, load)
        self.state = State.OPEN
        self._failures = 0
        self._probing = False
        return Decision(verdict, load, Entered(State.OPEN))

    def _refused(self, call: Passage, batch: Batch, results: Results, now: float) -> Decision:
        """AWS refused the whole call. If it has never accepted anything, the envelope is to blame: hold."""
        # Only events that were refused alone are evidence: in a larger batch any one could be to blame.
        # By id, so that one bad event that is tried again and again does not hold the target.
        suspects = self._suspects
        if len(batch.events) == 1 and self._delivered_at is None and len(suspects) < SUSPECTS:
            suspects.add(batch.events[0].id)
        if len(suspects) < SUSPECTS:
            return self._answered(call)
        return self._trouble(call, msgspec.structs.replace(results, status=CallStatus.HELD), now)

    def _trouble_of_a_part(self, call: Passage, results: Results, now: float) -> Decision:
        """Set the events aside, and hold the target as well if nothing else was delivered for a while.

        A call that could not be made says nothing about calls that go elsewhere: it neither holds the target
        nor ends a hold.
        """
        aside = self._options.probe
        if results.code == codes.ENDPOINT and not self.draining:
            return Decision(self._verdict(aside))
        if self._others_get_through(now):
            return self._answered(call, aside=aside)
        return self._trouble(call, results, now, aside)

    def _others_get_through(self, now: float) -> bool:
        """Something was delivered lately; or a drain has just begun, in which the others had no turn yet."""
        window, last = self._options.probe, self._delivered_at
        if self._drained_at is not None:
            window = DRAIN_WINDOW
            last = last if self.state is State.HELD else max(last or 0.0, self._drained_at)
        return last is not None and now - last < window

    def _trouble(self, call: Passage, results: Results, now: float, aside: float | None = None) -> Decision:
        """Close the target, or keep it closed for longer."""
        state, before = _CLOSED_STATES[results.status], self.state
        stale = call.epoch != self._epoch
        # A hold is worth knowing even from a call of an earlier epoch; only a probe in flight would tell
        # sooner.
        news = state is State.HELD and before is State.BACKING_OFF and not self._probing
        if stale and not news:
            return Decision(self._verdict(aside))
        load = Load.OVERLOADED if state is State.BACKING_OFF and before is State.OPEN else Load.UNKNOWN
        # The new epoch counts trouble once. Of 32 calls that fail together, only the first lengthens the
        # back-off: the others are of an epoch that has ended.
        self._failures = self._failures + 1 if state is before else 1
        self._epoch += 1
        self._probing = False
        # The first hold of a drain is news, and gets another try; the second ends it.
        self._last_try_failed = self.draining and state is before is State.HELD
        self.state = state
        self.closed_until = now + self._pause(results.delay)
        entered = Entered(state, codes.reason_of(results.status, results.code), results.sentence)
        return Decision(self._verdict(aside), load, entered)

    def _pause(self, asked_for: float | None) -> float:
        """Seconds until the next try, after so many failures. ``asked_for``: the delay that AWS asked for."""
        options, draining = self._options, self.draining
        if self.state is State.HELD:
            doubled = options.probe * 2.0 ** min(self._failures - 1, 32)
            return min(options.probe, DRAIN_BACKOFF_CAP) if draining else min(options.probe_cap, doubled)
        pause = full_jitter(self._failures, options.backoff_base, options.backoff_cap, self._chance)
        if asked_for is not None:
            # Not sooner than AWS asked for, and a little later at random: it asked others for the same delay.
            pause = max(pause, asked_for * (1 + self._chance() / 10))
        return min(pause, DRAIN_BACKOFF_CAP) if draining else pause


_kind_of = attrgetter("kind")
_code_of = attrgetter("code")
