"""The record: every event that arrived at the sandbox, in the order of arrival, and what became of calls.

Invariants:
- An event is recorded when the sandbox takes it, whatever the caller hears of that (``slow`` and
  ``reset_after`` answer late or never); an event that was refused or failed is not recorded.
- Two events are the same when their entries are, byte for byte; the second is a duplicate. An event that
  AWS would drop in silence is recorded as dropped and is no arrival.
- Without ``keep`` the events themselves are forgotten; all numbers stay right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from forwarder.apis.api import Api
from forwarder.sandbox.calls import Item
from forwarder.sandbox.settings import BUILT_IN


class Arrival(msgspec.Struct, gc=False, eq=False):
    """One event that was taken. ``copy`` is 1 for the first arrival of an entry, more for duplicates.

    ``event_id`` is what it is called here, which RUM tells nobody.
    """

    number: int
    at: float
    api: str
    call: int
    name: str
    copy: int
    dropped: bool
    envelope: bytes
    entry: bytes
    event_id: str


class _Line(msgspec.Struct):
    """An Arrival as a line of JSON: ``name`` is the bus, app monitor or project."""

    number: int
    at: float
    api: str
    call: int
    name: str
    copy: int
    dropped: bool
    envelope: msgspec.Raw
    entry: msgspec.Raw
    event_id: str


class Hits(msgspec.Struct):
    """How often a fault or a marker struck: calls, and events in them (for entries: the entries alone)."""

    calls: int = 0
    events: int = 0


class Counts(msgspec.Struct):
    """What one API saw. ``calls_answered`` were told their results; ``events`` are those that arrived."""

    calls: int = 0
    calls_answered: int = 0
    throttled_calls: int = 0
    events: int = 0
    distinct: int = 0
    duplicates: int = 0
    dropped: int = 0
    failed_entries: int = 0
    entries_answered: int = 0
    injected: dict[str, Hits] = {}

    @property
    def mean_batch(self) -> float:
        """Entries per answered call, refused and dropped ones included."""
        return round(self.entries_answered / self.calls_answered, 2) if self.calls_answered else 0.0


class Record:
    """Counts everything, by the kinds of the APIs, and, with ``keep``, remembers the events."""

    __slots__ = ("_calls", "_copies", "_keep", "_kinds", "arrivals", "counts", "redirects_followed")

    def __init__(self, keep: bool = True, apis: Iterable[type[Api]] = BUILT_IN) -> None:
        self._keep = keep
        self._kinds = [api.kind for api in apis]
        self.clear()

    def clear(self) -> None:
        self._calls = 0
        self._copies: dict[bytes, int] = {}
        self.arrivals: list[Arrival] = []
        self.counts: dict[str, Counts] = {kind: Counts() for kind in self._kinds}
        self.redirects_followed = 0

    def call(self, api: str) -> int:
        """A call that carries events came in; its number."""
        self._calls += 1
        self.counts[api].calls += 1
        return self._calls

    def answered(self, api: str, entries: int, failed: int) -> None:
        """A call was told its results."""
        counts = self.counts[api]
        counts.calls_answered += 1
        counts.entries_answered += entries
        counts.failed_entries += failed

    def hit(self, api: str, kind: str, calls: int, events: int) -> None:
        """A fault or a marker struck."""
        hits = self.counts[api].injected.setdefault(kind, Hits())
        hits.calls += calls
        hits.events += events

    def take(self, api: str, call: int, at: float, envelope: bytes, item: Item, event_id: str) -> None:
        """An event was taken (or taken and lost, as AWS would lose it)."""
        counts = self.counts[api]
        copy = 1
        if item.dropped:
            counts.dropped += 1
        else:
            copy = self._copies.get(item.digest, 0) + 1
            self._copies[item.digest] = copy
            counts.events += 1
            counts.distinct += copy == 1
            counts.duplicates += copy > 1
        if self._keep:
            number = len(self.arrivals) + 1
            what = (item.name, copy, item.dropped, envelope, item.entry, event_id)
            self.arrivals.append(Arrival(number, at, api, call, *what))

    def lines(self, api: str | None = None, since: int = 0, dropped: bool = False) -> Iterator[bytes]:
        """JSON lines of the events numbered above ``since``: those that arrived, or those dropped."""
        arrivals = self.arrivals  # a reset in between takes nothing from who reads
        for i in range(max(since, 0), len(arrivals)):
            arrival = arrivals[i]
            if arrival.dropped == dropped and api in (None, arrival.api):
                yield msgspec.json.encode(_line(arrival)) + b"\n"


def _line(a: Arrival) -> _Line:
    envelope, entry = msgspec.Raw(a.envelope), msgspec.Raw(a.entry)
    what = (a.name, a.copy, a.dropped, envelope, entry, a.event_id)
    return _Line(a.number, round(a.at, 6), a.api, a.call, *what)
