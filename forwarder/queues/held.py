"""The rows of one disk queue whose events are in memory, by event.

Invariants:
- An event of a disk queue that is in memory has a row here until it is settled.
- Events are known by their identity, since two may have one id.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.model import Event
from forwarder.queues.settling import Row, Settling

ROW_OVERHEAD_BYTES = 400
"""What a row holds in memory beside its events: 380 by tracemalloc, of rows of one event."""


class HeldRows:
    """The row of each event; settled ones go on to ``settling``. ``by_wall`` counts the rows that only
    the wall clock can age."""

    def __init__(self, settling: Settling) -> None:
        self._settling = settling
        self._of: dict[int, Row] = {}
        self._count = self.by_wall = 0

    @property
    def bytes(self) -> int:
        return self._count * ROW_OVERHEAD_BYTES

    def enter(self, row: Row, events: Sequence[Event]) -> None:
        self._count += 1
        self.by_wall += row.received is not None
        self._of.update(dict.fromkeys(map(id, events), row))

    def of(self, event: Event) -> Row:
        return self._of[id(event)]

    def received(self, event: Event) -> float | None:
        """When its row was received by the wall clock, if only that knows."""
        row = self._of.get(id(event))
        return None if row is None else row.received

    def settle(self, events: Sequence[Event]) -> None:
        """These no longer need to be in the file."""
        changed = None
        for event in events:
            row = self._of.pop(id(event))
            row.settle(event)
            if not row.left:
                self._count -= 1
                self.by_wall -= row.received is not None
            if row is not changed:  # neighbours are mostly of one row
                self._settling.add(row)
                changed = row

    def clear(self) -> None:
        self._of = {}
        self._count = self.by_wall = 0
