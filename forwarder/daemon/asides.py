"""Summary of the events set aside in a target's queue, and why, for the status and the metrics.

Invariants:
- Senders choose the names, so names are shortened to one line, and only those with the most events are
  listed.
- Counting looks at every name, so it is done at most once a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import msgspec

from forwarder.cures import OF_SET_ASIDE, Cure
from forwarder.metrics.families import SET_ASIDE_REASONS
from forwarder.model import AsideView, Clock
from forwarder.queues.queue import Queue
from forwarder.targets.names import TargetNames, display_name

LISTED = 20
COUNT_AGAIN_SECONDS = 1.0
FEW = 100
"""So few names are counted each time."""


class Summary(msgspec.Struct, frozen=True):
    """``events`` by reason; the largest names first, with their sentences."""

    events: Mapping[str, int]
    bytes: int
    names: int
    largest: list[tuple[str, AsideView]]

    @property
    def total(self) -> int:
        return sum(self.events.values())


class SetAside:
    """One target's; call it for the summary of now."""

    def __init__(self, queue: Queue, names: TargetNames, clock: Clock) -> None:
        self._queue = queue
        self._names = names
        self._clock = clock
        self._summary: Summary | None = None
        self._counted_at = 0.0

    def __call__(self) -> Summary:
        now = self._clock.monotonic()
        kept = self._summary
        if kept is not None and kept.names > FEW and now - self._counted_at < COUNT_AGAIN_SECONDS:
            return kept
        self._summary, self._counted_at = self._count(), now
        return self._summary

    def counts(self) -> Mapping[str, int]:
        """Events by reason, for metrics."""
        return self().events

    def sentence(self) -> str:
        """One for people; "" when nothing is set aside."""
        summary = self()
        if not summary.total:
            return ""
        name, _ = summary.largest[0]
        more = f" (and {summary.names - 1} more)" if summary.names > 1 else ""
        events = "1 event is" if summary.total == 1 else f"{summary.total} events are"
        return f"{events} set aside: {self._names.reason(name) or _LEAVING}{more}"

    def cure(self) -> Cure | None:
        """For the name that the sentence names."""
        largest = self().largest
        return self._cure(largest[0][0]) if largest else None

    def _cure(self, name: str) -> Cure | None:
        return OF_SET_ASIDE.get(self._names.why(name))

    def described(self) -> dict[str, Any]:
        """As ``/status`` shows it."""
        summary, now = self(), self._clock.monotonic()
        return {
            "events": summary.total,
            "bytes": summary.bytes,
            "reasons": {why: count for why, count in summary.events.items() if count},
            "names": summary.names,
            "largest": [self._described(name, view, now) for name, view in summary.largest],
        }

    def _described(self, name: str, view: AsideView, now: float) -> dict[str, Any]:
        return {
            "name": display_name(name),
            "reason": self._names.why(name),
            "message": self._names.reason(name) or _LEAVING,
            "cure": found.text if (found := self._cure(name)) else "",
            "events": view.events,
            "bytes": view.bytes,
            "oldest_age_seconds": round(max(0.0, now - view.oldest_at), 3),
        }

    def _count(self) -> Summary:
        events = dict.fromkeys(SET_ASIDE_REASONS, 0)
        view = self._queue.aside_view()
        for name, each in view.items():
            events[self._names.why(name) or "released"] += each.events
        size = sum(each.bytes for each in view.values())
        largest = heapq.nlargest(LISTED, view.items(), key=_events_of)
        return Summary(events, size, len(view), largest)


_LEAVING = "now being sent"


def _events_of(item: tuple[str, AsideView]) -> int:
    return item[1].events
