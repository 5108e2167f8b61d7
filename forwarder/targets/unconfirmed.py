"""Counts the events delivered to each event bus since AWS last answered that it exists. Pure.

EventBridge reports success for a bus that was deleted, and drops the event. So only the next answer about the
bus confirms a delivery. If that answer is "it does not exist", the deliveries before it are unconfirmed: AWS
accepted some before the bus was deleted, and dropped the others.

Invariants:
- A window starts when the question was asked that AWS answered with "it exists", not when the answer came:
  the bus may have been deleted between these two moments.
- No failed question starts or ends a window.
- A bus that is known by two names has one window: whoever knows that calls ``merge``.
- Counts change once per batch. Nothing is done per event where a batch has one name.
- Everything remembered is bounded. A count that may be too low is marked: ``exact`` is False.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import msgspec

from forwarder.model import Batch, CallStatus, Kind, Results

MAX_WINDOWS = 20_000
MAX_FOUND = 20
"""So many buses are listed at most; all of them are counted."""


class Window(msgspec.Struct):
    """One bus. ``since``: monotonic seconds."""

    since: float
    events: int = 0
    exact: bool = True


class Kept(NamedTuple):
    """A window as it is stored. ``since``: seconds since 1970."""

    name: str
    since: float
    events: int
    exact: bool


class Unconfirmed(msgspec.Struct):
    """Events delivered to a bus between two answers. ``since`` and ``until``: seconds since 1970. ``events``
    is a lower bound unless ``exact``. ``unsaid``: of ``events``, those that are not in the log yet."""

    name: str
    events: int
    since: float
    until: float
    exact: bool
    unsaid: int = 0


class _Asked(NamedTuple):
    name: str
    at: float
    events: int


class Deliveries:
    """The deliveries of one target. ``total``: unconfirmed events so far."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        self._now = now
        self._wall = wall
        self._windows: OrderedDict[str, Window] = OrderedDict()
        self._asked = _Asked("", 0.0, 0)
        self._complete = True  # no window was lost
        self._unsaved: set[str] = set()
        self._found: OrderedDict[str, Unconfirmed] = OrderedDict()
        self._unsaid: dict[str, Unconfirmed] = {}
        self.total = 0

    # --- counting

    def add(self, name: str, events: int) -> None:
        """These were delivered. The bus may not have been verified; then the window starts here."""
        window = self._windows.get(name)
        if window is None:
            window = self._put(name, Window(self._now(), exact=self._complete))
        window.events += events
        self._unsaved.add(name)

    def add_late(self, name: str, events: int) -> None:
        """These were delivered by calls that ended after AWS answered that the bus does not exist."""
        found = self._found.get(name)
        if found is None:
            wall = self._wall()
            found = self._find(Unconfirmed(name, 0, wall, wall, exact=True))
        found.until = self._wall()
        self._count(found, events)

    # --- questions and answers, one at a time

    def ask(self, name: str) -> None:
        """The question about this name is asked now."""
        window = self._windows.get(name)
        self._asked = _Asked(name, self._now(), window.events if window is not None else 0)

    def confirm(self, name: str) -> None:
        """The bus existed when it was asked about, so what was delivered before that is confirmed."""
        asked, window = self._asked, self._windows.pop(name, None)
        if asked.name != name:
            asked = _Asked(name, self._now(), 0)
        events = window.events if window is not None else 0
        self._put(name, Window(asked.at, max(0, events - asked.events)))
        if events or (window is not None and not window.exact):
            self._unsaved.add(name)

    def deny(self, name: str) -> None:
        """The bus does not exist, so what was delivered since the last good answer is unconfirmed."""
        window = self._windows.pop(name, None)
        if window is None:
            return
        self._unsaved.add(name)
        if window.events or not window.exact:
            until = self._wall()
            since = until - max(0.0, self._now() - window.since)
            self._count(self._find(Unconfirmed(name, 0, since, until, window.exact)), window.events)

    # --- two names of one bus

    def merge(self, other: str, name: str) -> None:
        """Both are names of one bus: its window is that of ``name``."""
        window = self._windows.pop(other, None)
        if window is None:
            return
        self._unsaved.update((other, name))
        known = self._windows.get(name)
        if known is None:
            self._put(name, window)
            return
        known.since = min(known.since, window.since)
        known.events += window.events
        known.exact = known.exact and window.exact

    def part(self, name: str, other: str) -> None:
        """They may be two buses from now on. Nobody knows which of them the events before went to."""
        window = self._windows.get(name)
        if window is not None:
            self._restore(other, Window(window.since, exact=False))

    # --- what others read

    def found(self) -> list[Unconfirmed]:
        """The buses with unconfirmed events, the latest first."""
        return list(reversed(self._found.values()))

    def unsaid(self) -> list[Unconfirmed]:
        """What is to be logged now: each with the count since it was last logged, as ``unsaid``."""
        said = list(map(msgspec.structs.replace, self._unsaid.values()))
        for found in self._unsaid.values():
            found.unsaid = 0
        self._unsaid.clear()
        return said

    # --- storage

    def restore(self, kept: Iterable[Kept], verified: Mapping[str, float], *, complete: bool) -> None:
        """Continue the windows of an earlier run. ``verified``: the names it knew to exist, and since when.
        ``complete``: it stopped in order, so its counts are exact."""
        if not complete:
            for name, at in verified.items():
                self._restore(name, Window(self._ago(at), exact=False))
        for each in kept:
            self._restore(each.name, Window(self._ago(each.since), each.events, each.exact and complete))

    def lose(self) -> None:
        """The windows of an earlier run are not known."""
        self._complete = False

    def unsaved(self, most: int | None = None) -> tuple[list[Kept], list[str]]:
        """Windows to be stored, and names of which nothing is to be stored any more. ``most``: so many."""
        now, wall = self._now(), self._wall()
        names = list(islice(self._unsaved, most))
        self._unsaved.difference_update(names)
        keep, drop = [], []
        for name in names:
            window = self._windows.get(name)
            if window is None or (window.exact and not window.events):
                drop.append(name)
            else:
                keep.append(Kept(name, wall - (now - window.since), window.events, window.exact))
        return keep, drop

    def save_all(self) -> None:
        """Have every window stored again: nothing is known of what is stored."""
        self._unsaved.update(self._windows)

    def not_saved(self, names: Iterable[str]) -> None:
        """These could not be stored."""
        self._unsaved.update(names)

    # --- inside

    def _put(self, name: str, window: Window) -> Window:
        self._windows[name] = window
        if len(self._windows) > MAX_WINDOWS:
            oldest, lost = self._windows.popitem(last=False)
            self._unsaved.add(oldest)
            self._complete = self._complete and not lost.events and lost.exact
        return window

    def _restore(self, name: str, window: Window) -> None:
        self._put(name, window)
        self._unsaved.add(name)

    def _ago(self, wall: float) -> float:
        return self._now() - max(0.0, self._wall() - wall)

    def _find(self, found: Unconfirmed) -> Unconfirmed:
        if (earlier := self._unsaid.get(found.name)) is not None:
            found.unsaid = earlier.unsaid
        self._found[found.name] = found
        self._found.move_to_end(found.name)
        if len(self._found) > MAX_FOUND:
            self._found.popitem(last=False)
        return found

    def _count(self, found: Unconfirmed, events: int) -> None:
        self.total += events
        found.events += events
        found.unsaid += events
        self._unsaid[found.name] = found


def delivered(batch: Batch, results: Results) -> dict[str, int]:
    """Events of the batch that were delivered, by the name of their bus; those of the default bus are not
    counted."""
    if results.status is CallStatus.REFUSED:
        return {}
    names = list(map(_name_of, batch.events))
    if results.status is not CallStatus.OK or any(map(_code_of, results.outcomes)):
        pairs = zip(names, results.outcomes, strict=True)
        names = [name for name, outcome in pairs if outcome.kind is Kind.DELIVERED]
    if not any(names):
        return {}
    if names.count(names[0]) == len(names):
        return {names[0]: len(names)}
    counts = Counter(names)
    del counts[""]
    return counts


_name_of = attrgetter("name")
_code_of = attrgetter("code")
