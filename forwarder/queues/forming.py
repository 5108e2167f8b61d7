"""Forming: events become groups at put, and a group becomes a batch as late as possible, at take.

Invariants:
- One open group per key. A group is due when full, when ``max_wait`` has passed since its first event, or
  when it was complete as it came; until taken it goes on filling, so a closed gate makes fuller batches.
- ``take`` pops the due group whose turn is first, whatever its key: keys never wait for each other, and
  neither ``add`` nor ``take`` gets dearer with the number of keys.
- Events that come back from a delay form groups of their own, before those that were never tried: so they do
  not wait behind a backlog, and still leave in company.
- What steps aside has its turn behind all that waits when its delay ends: so it is never the same batch that
  is tried again and again while others wait.
- A sealed group (a client's own batch, a part of a refused one) leaves exactly as it is.
- Pure: no clock, no loop, no I/O; every moment is an argument in monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count

from forwarder.model import Batch, Event, Flush, Limits

NEVER = float("inf")
DUE = float("-inf")
"""``opened_at`` of a group that waits for nothing any more, ``turn`` of one that was tried before."""

DRAIN_DELAY = 1.0
"""Seconds; longer delays than this would sleep the drain away."""


class Group:
    """Events of one key on their way to become a batch; due ``max_wait`` after ``opened_at``."""

    __slots__ = ("events", "key", "oldest_at", "opened_at", "part", "reason", "sealed", "size", "turn")

    def __init__(
        self, key: bytes, opened_at: float, turn: float, reason: Flush = Flush.TIME, *, sealed: bool = False
    ) -> None:
        self.key = key
        self.events: list[Event] = []
        self.size = 0
        self.oldest_at = NEVER
        self.opened_at = opened_at
        self.turn = turn
        self.reason = reason
        self.sealed = sealed
        self.part = False

    def append(self, event: Event) -> None:
        self.events.append(event)
        self.size += event.size
        if event.received_at < self.oldest_at:
            self.oldest_at = event.received_at

    def fill(self, events: Iterable[Event]) -> Group:
        """Append events without a look at the limits; returns itself."""
        before = len(self.events)
        self.events += events
        added = self.events[before:] if before else self.events
        if added:
            self.size += sum([event.size for event in added])
            self.oldest_at = min(self.oldest_at, min([event.received_at for event in added]))
        return self


Groups = OrderedDict[bytes, Group]


class Forming:
    """The groups of one queue. ``len()`` is the number of events in them, kept as they come and go."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Groups = OrderedDict()  # by when they were opened
        self._again: Groups = OrderedDict()  # the same, of events back from a delay
        self._due: deque[Group] = deque()  # complete ones, tried ones at the front
        self._delayed: list[tuple[float, int, Group]] = []  # heap by the moment the delay ends
        self._order = count()  # breaks ties in the heap
        self._count = 0
        self.delayed_count = 0
        """Events that wait for the end of a delay."""
        self._draining = False

    def __len__(self) -> int:
        return self._count

    def add(self, events: Iterable[Event], now: float) -> None:
        """Put events into the open groups of their keys."""
        self._count += self._join(self._open, events, now, now)

    def add_complete(self, events: Sequence[Event], now: float, *, part: bool = False) -> None:
        """Put events that are one batch already: due at once, never joined or split."""
        group = Group(events[0].key, now, now, Flush.KEY, sealed=True).fill(events)
        group.part = part
        self._due.append(group)
        self._count += len(events)

    def put_back(self, events: Sequence[Event], *, part: bool = False, sealed: bool = False) -> None:
        """Return the events of one tried batch to the front, due at once."""
        # To the front: these are older than all that waits for their key.
        group = self._tried(events, DUE, part=part)
        group.sealed |= sealed
        self._due.appendleft(group)
        self._count += len(events)

    def delay(self, events: Sequence[Event], now: float) -> None:
        """Return events that have a ``not_before``; then they are before all that were never tried."""
        # One group per event, because each has its own delay. They join again when the delays end.
        for together in [events] if self._limits.whole else [[event] for event in events]:
            self._push(self._tried(together, DUE), now)
        self._count += len(events)

    def step_aside(self, events: Sequence[Event], now: float, *, part: bool) -> None:
        """Return a batch that has a ``not_before``: to be tried by itself, behind all that waits by then."""
        group = self._tried(events, now, part=part)
        # Sealed, so that no other event is tried together with these: they may be what the call fails for.
        group.sealed = True
        group.turn = self._push(group, now)
        self._count += len(events)

    def drain(self, now: float) -> None:
        """From now on every group is due, and delays are short."""
        self._draining = True
        self._ripen(NEVER, now)

    def flush(self, now: float) -> None:
        """What waits is due now, whatever it waits for; what comes later is not."""
        self._ripen(NEVER, now)
        for groups in (self._again, self._open):
            for group in list(groups.values()):
                self._complete(groups, group, Flush.DRAIN)

    def next_due_at(self, now: float) -> float | None:
        """When the next group is due: not after ``now`` means there is one; None, there is nothing."""
        # Every open group waits equally long, so the first one of each dict is the next one that is due. No
        # look at the others: this runs after each put and each take.
        self._ripen(now, now)
        if self._due:
            return DUE
        moments = [_first(groups).opened_at + self._wait() for groups in (self._again, self._open) if groups]
        moments += [self._delayed[0][0]] if self._delayed else []
        return min(moments, default=None)

    def take(self, now: float) -> Batch | None:
        """The due group whose turn it is as a batch, filled up from its key's open group if there is room."""
        group = self._pop_due(now)
        if group is None:
            return None
        # Only now, and not when the group became due: while all workers were busy its key may have got more
        # events, and a fuller call costs AWS, and us, as much as this one.
        if not group.sealed:
            self._top_up(group)
        self._count -= len(group.events)
        reason = Flush.DRAIN if self._draining and group.reason is Flush.TIME else group.reason
        return Batch(group.key, group.events, group.size, reason, group.part)

    def remove(self, is_wanted: Callable[[Event], bool], most: int | None = None) -> list[Event]:
        """Take out the events that are wanted, wherever they wait; of a sealed group all or none. ``most``:
        about so many."""
        taken: list[Event] = []
        for events, _, _ in self.remove_groups(is_wanted, most):
            taken += events
        return taken

    def remove_groups(
        self, is_wanted: Callable[[Event], bool], most: int | None = None
    ) -> list[tuple[list[Event], bool, bool]]:
        """The same, group by group: the events, whether the group was sealed, and a part."""
        taken: list[tuple[list[Event], bool, bool]] = []
        count = 0
        for group in self._groups():
            if most is not None and count >= most:
                break
            wanted = [event for event in group.events if is_wanted(event)]
            if wanted and (not group.sealed or len(wanted) == len(group.events)):
                taken.append((wanted, group.sealed, group.part))
                count += len(wanted)
                rest = [event for event in group.events if not is_wanted(event)]
                group.events, group.size, group.oldest_at = [], 0, NEVER
                group.fill(rest)
        if taken:
            self._drop_empty()
        self._count -= count
        return taken

    def age_again(self) -> None:
        """The events' moments are others now."""
        for group in self._groups():
            group.oldest_at = min((event.received_at for event in group.events), default=NEVER)

    def __iter__(self) -> Iterator[Event]:
        for group in self._groups():
            yield from group.events

    def oldest_at(self) -> float | None:
        """When the oldest waiting event was received. Walks the groups."""
        return min((group.oldest_at for group in self._groups()), default=None)

    def _wait(self) -> float:
        return DUE if self._draining else self._limits.max_wait

    def _groups(self) -> Iterator[Group]:
        yield from self._due
        yield from self._again.values()
        yield from self._open.values()
        yield from (group for _, _, group in self._delayed)

    def _tried(self, events: Sequence[Event], turn: float, *, part: bool = False) -> Group:
        group = Group(events[0].key, DUE, turn, Flush.RETRY, sealed=part or self._limits.whole)
        group.part = part
        return group.fill(events)

    def _push(self, group: Group, now: float) -> float:
        """Delay a group until the last ``not_before`` of its events; that moment."""
        moment = max(event.not_before for event in group.events)
        if self._draining:
            moment = min(moment, now + DRAIN_DELAY)
        heapq.heappush(self._delayed, (moment, next(self._order), group))
        self.delayed_count += len(group.events)
        return moment

    def _ripen(self, until: float, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= until:
            group = heapq.heappop(self._delayed)[2]
            self.delayed_count -= len(group.events)
            if not group.sealed:
                # Not due at once: delays of single events end one by one, and each would leave alone.
                self._join(self._again, group.events, now, DUE)
            elif group.turn == DUE:
                self._due.appendleft(group)
            else:
                self._due.append(group)

    def _join(self, groups: Groups, events: Iterable[Event], now: float, turn: float) -> int:
        """Put events into these open groups; how many that were. Full groups are due."""
        max_events, max_bytes, joined = self._limits.max_events, self._limits.max_bytes, 0
        for event in events:
            group = groups.get(event.key)
            # The event that does not fit completes the group and begins the next. A better fit would change
            # the order of the events of one key.
            if group is not None and group.size + event.size > max_bytes:
                self._complete(groups, group, Flush.BYTES)
                group = None
            if group is None:
                group = groups[event.key] = Group(event.key, now, turn)
            group.append(event)
            joined += 1
            if len(group.events) >= max_events:
                self._complete(groups, group, Flush.COUNT)
        return joined

    def _complete(self, groups: Groups, group: Group, reason: Flush) -> None:
        del groups[group.key]
        group.reason = reason
        if group.turn == DUE:
            self._due.appendleft(group)
        else:
            self._due.append(group)

    def _pop_due(self, now: float) -> Group | None:
        self._ripen(now, now)
        # Three candidates, whatever the number of keys: the first of what is complete, and the oldest of each
        # kind of open group. The earliest turn wins, so that a busy key cannot keep others waiting.
        chosen: Group | None = self._due[0] if self._due else None
        source: Groups | None = None
        for groups in (self._again, self._open):
            first = _first(groups) if groups else None
            if first is None or first.opened_at + self._wait() > now:
                continue
            if chosen is None or first.turn < chosen.turn:
                chosen, source = first, groups
        if chosen is None:
            return None
        return self._due.popleft() if source is None else source.pop(chosen.key)

    def _top_up(self, group: Group) -> None:
        """Fill a batch that leaves with room in it from the group that is open for its key."""
        donor = self._open.get(group.key)
        if donor is None:
            return
        # Its oldest events first, as many as fit in a row: skipping one that is too large would let younger
        # events of its key pass it.
        room = self._limits.max_events - len(group.events)
        size, fits = group.size, 0
        for event in donor.events[:room]:
            size += event.size
            if size > self._limits.max_bytes:
                break
            fits += 1
        if fits:
            group.fill(donor.events[:fits])
            donor.size -= sum(event.size for event in donor.events[:fits])
            del donor.events[:fits]
            if not donor.events:
                del self._open[group.key]

    def _drop_empty(self) -> None:
        self._due = deque(group for group in self._due if group.events)
        for groups in (self._open, self._again):
            for key in [key for key, group in groups.items() if not group.events]:
                del groups[key]
        self._delayed = [item for item in self._delayed if item[2].events]
        heapq.heapify(self._delayed)
        self.delayed_count = sum(len(group.events) for _, _, group in self._delayed)


def _first(groups: Groups) -> Group:
    return next(iter(groups.values()))
