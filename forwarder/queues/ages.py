"""How old the rows of a disk queue are.

Invariants:
- Rows of this boot of the machine are aged by the monotonic clock, which nobody can set.
- Rows of an earlier boot are aged by the wall clock as it was when it was last seen to be stepped. Until it
  was steady for an hour their ages are in doubt.
- A row that is written anew for events of an earlier boot says so: ``since`` is NOT_KNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from forwarder.clock import ClockWatch
from forwarder.model import Clock, Event

if TYPE_CHECKING:
    from forwarder.queues.rows import Head

NOT_KNOWN = float("inf")
"""An earlier version takes it for a moment in the future, and gives such a row no age."""


class Ages(NamedTuple):
    """How moments become monotonic seconds of this boot, in which was written what is after ``own_after``."""

    own_after: int
    wall: float
    now: float

    def are_by_wall(self, head: Head) -> bool:
        """Whether only the wall clock knows the age of this row."""
        return head.place <= self.own_after or head.since == NOT_KNOWN

    def received_at(self, head: Head) -> float:
        return self.by_wall(head.received) if self.are_by_wall(head) else min(head.since, self.now)

    def by_wall(self, received: float) -> float:
        return self.now - max(0.0, self.wall - received)  # a wall clock that was set back: no age

    def give(self, events: Iterable[Event], received: float | None) -> None:
        """Age these by the wall clock, if ``received`` is when they were received by it."""
        if received is not None:
            for event in events:
                event.received_at = self.by_wall(received)

    def wall_of(self, head: Head) -> float | None:
        """When it was received by the wall clock, if only that knows its age."""
        return head.received if self.are_by_wall(head) else None


class RowAges:
    """The ages of one queue's rows. ``are_doubted``: there are rows that only the wall clock can age."""

    def __init__(self, clock: Clock, watch: ClockWatch) -> None:
        self._clock = clock
        self._watch = watch
        self._to_wall = watch.offset
        self._own_after = 0
        self.are_doubted = False

    def open(self, own_after: int, heads: Iterable[Head]) -> None:
        self._own_after = own_after
        self.catch_up()
        ages = self.now()
        self.are_doubted = any(map(ages.are_by_wall, heads))

    def now(self) -> Ages:
        now = self._clock.monotonic()
        return Ages(self._own_after, now + self._to_wall, now)

    @property
    def are_known(self) -> bool:
        """Whether events may expire."""
        return not self.are_doubted or self._watch.is_proven

    def catch_up(self) -> bool:
        """Look at the clock; whether it was stepped, so that ages by the wall clock are different now."""
        self._watch.look()
        before, self._to_wall = self._to_wall, self._watch.offset
        return self._to_wall != before
