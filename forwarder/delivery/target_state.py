"""The state of one target as others see it: its own, and what blocks it, since when; and its log lines.

Invariants:
- What others see is a block before the target's own state, and an operator's pause before every other block.
- ``since`` is the moment at which this state began for this reason. Probes that meet the same trouble keep
  it; another reason begins anew.
- Every change of state or reason is logged (``changes``); another sentence for the same is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from forwarder.apis import codes
from forwarder.changes import Changes, Level
from forwarder.cures import cure
from forwarder.logs import Log, limited
from forwarder.metrics import GateView
from forwarder.model import Clock, Results
from forwarder.states import Reason, State


class Seen(msgspec.Struct, frozen=True):
    """The state that others see. ``since`` in monotonic, ``since_wall`` in wall clock seconds."""

    state: State
    reason: Reason
    message: str
    since: float
    since_wall: float


class Block(NamedTuple):
    reason: Reason
    message: str
    since: float
    since_wall: float


class TargetState:
    """``enter`` a state; ``block`` and ``unblock`` under the name of an owner; see ``seen``."""

    def __init__(self, changes: Changes, clock: Clock) -> None:
        self._changes = changes
        self._clock = clock
        self._own = Seen(State.OPEN, Reason.NONE, "", clock.monotonic(), clock.wall())
        self._blocks: dict[str, Block] = {}
        self._said = self._own
        self.on_change: Callable[[], None] = lambda: None
        self._left_open = clock.monotonic()
        self._backed_off = 0.0

    @property
    def state(self) -> State:
        """The target's own, whatever blocks it."""
        return self._own.state

    @property
    def blocked_at(self) -> float | None:
        """When the latest block began; None without one."""
        return max((block.since for block in self._blocks.values()), default=None)

    @property
    def seen(self) -> Seen:
        if not self._blocks:
            return self._own
        blocks = sorted(self._blocks.values(), key=_others_after_operator)
        message = "; ".join(dict.fromkeys(block.message for block in blocks))
        first = blocks[0]
        return Seen(State.HELD, first.reason, message, first.since, first.since_wall)

    @property
    def backed_off_seconds(self) -> float:
        """How long the target was backing off, so far."""
        own = self._own
        now = self._clock.monotonic() - own.since if own.state is State.BACKING_OFF else 0.0
        return self._backed_off + now

    def view(self, probe_in: float | None, in_flight: int, limit: int) -> GateView:
        """What others see, with what the gate counts."""
        seen = self.seen
        return GateView(
            state=seen.state,
            reason=seen.reason,
            since_wall=seen.since_wall,
            message=seen.message,
            next_probe_in=probe_in,
            in_flight=in_flight,
            limit=limit,
            throttle_wait_seconds=self.backed_off_seconds,
        )

    def enter(self, state: State, reason: Reason = Reason.NONE, message: str = "") -> None:
        own = self._own
        if (state, reason) == (own.state, own.reason):
            self._own = msgspec.structs.replace(own, message=message)
            return
        self._backed_off = self.backed_off_seconds
        self._own = Seen(state, reason, message, self._clock.monotonic(), self._clock.wall())
        self._say()

    def block(self, owner: str, reason: Reason, message: str) -> None:
        before = self._blocks.get(owner)
        if before is not None and before.reason is reason:
            self._blocks[owner] = before._replace(message=message)
            return
        self._blocks[owner] = Block(reason, message, self._clock.monotonic(), self._clock.wall())
        self._say()

    def unblock(self, owner: str) -> bool:
        """Whether there was such a block."""
        if self._blocks.pop(owner, None) is None:
            return False
        if not self._blocks and self._own.state is State.OPEN:
            self._own = Seen(State.OPEN, Reason.NONE, "", self._clock.monotonic(), self._clock.wall())
        self._say()
        return True

    def _say(self) -> None:
        seen, said = self.seen, self._said
        if (seen.state, seen.reason) == (said.state, said.reason):
            return
        self.on_change()
        if said.state is State.OPEN:
            self._left_open = self._clock.monotonic()
        self._said = seen
        if seen.state is State.OPEN:
            seconds = round(self._clock.monotonic() - self._left_open, 3)
            self._changes.say(
                "info", "target recovered", was=said.state, reason=said.reason, after_seconds=seconds
            )
            return
        level: Level = "warning" if seen.state is State.HELD else "info"
        event = "target held" if seen.state is State.HELD else "target backing off"
        cause = {} if seen.reason is Reason.OPERATOR else {"error": seen.message}
        self._changes.say(
            level, event, reason=seen.reason, **cause, runbook=cure(seen.state, seen.reason).page
        )


def say_set_aside(log: Log, target: str, results: Results) -> None:
    """Log that events are set aside, at most once in a while for each reason."""
    reason = codes.reason_of(results.status, results.code)
    log = limited(log, f"{target} aside {reason}")
    log.warning("events set aside", reason=reason, error=results.sentence)


def _others_after_operator(block: Block) -> bool:
    return block.reason is not Reason.OPERATOR
