"""Events that are set aside, by name, because their names may not be sent to now.

Invariants:
- The events of one name keep their order of arrival, in memory and parked on the disk alike. Events that
  a worker returns go to the front of their name.
- A sealed clump (a client's own batch, a part of a refused one) stays whole.
- A clump whose ``moving`` is set is being written to the disk, and is not taken before that ends.
- Cost does not grow with the number of names, except for ``oldest_at``, ``remove`` and iteration over
  ``view``.
- Memory that names use beside their events is counted in ``names_bytes``.
- Pure: no clock, no loop, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter

from forwarder.model import AsideView, Event, memory_bytes
from forwarder.queues.clumps import Clump, Parked, go_together

CLUMP_EVENTS = 500
"""Events of one clump, at most, unless it is sealed: what moves in one step is bounded by this."""

NAME_BYTES = 700
"""What a name holds beside its events: its places in dicts, its list and clump, its counts by peer. Measured
with tracemalloc: 686 B."""

Moved = Callable[[str, str, int, int], None]
"""Told of every change: the name, the peer, events and bytes more (negative: fewer)."""


class _Named:
    """The events of one name."""

    __slots__ = ("bytes", "clumps", "events", "items", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: list[Clump | Parked] = []  # a deque of one item takes 600 bytes more
        self.events = self.bytes = self.clumps = 0


class AsidePlace:
    """The events of one queue that are set aside. ``events`` and ``bytes`` are those in memory."""

    def __init__(self, moved: Moved | None = None) -> None:
        self._names: dict[str, _Named] = {}
        self._in_memory: dict[str, None] = {}  # names with clumps, the longest there first
        self._moved = moved
        self.events = self.bytes = 0
        self.parked_events = self.parked_bytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> list[str]:
        return list(self._names)

    def add(
        self,
        name: str,
        events: Sequence[Event],
        *,
        sealed: bool = False,
        part: bool = False,
        back: bool = False,
    ) -> None:
        """Set events of this name aside: behind the others, or (``back``: from a worker) before them."""
        named = self._named(name)
        self._in_memory.setdefault(name)
        if sealed:
            self._put(named, Clump(list(events), memory_bytes(events), sealed=True, part=part), back)
            return
        runs = [list(run) for _, run in groupby(events, _peer_of)]
        for run in reversed(runs) if back else runs:
            last = named.items[-1] if named.items and not back else None
            if isinstance(last, Clump) and last.takes_more_of(run[0].peer):
                run = self._join(named, last, run)
            pieces = [run[at : at + CLUMP_EVENTS] for at in range(0, len(run), CLUMP_EVENTS)]
            for some in reversed(pieces) if back else pieces:
                self._put(named, Clump(some, memory_bytes(some)), back)

    def _named(self, name: str) -> _Named:
        named = self._names.get(name)
        if named is None:
            named = self._names[name] = _Named(name)
        return named

    def _join(self, named: _Named, last: Clump, events: list[Event]) -> list[Event]:
        """Fill the last clump up; the events that are left."""
        room = max(0, CLUMP_EVENTS - len(last.events))
        if some := events[:room]:
            size = memory_bytes(some)
            last.events += some
            last.size += size
            self._count(named, some, size)
        return events[room:]

    def _put(self, named: _Named, clump: Clump, back: bool) -> None:
        if back:
            named.items.insert(0, clump)
        else:
            named.items.append(clump)
        named.clumps += 1
        self._count(named, clump.events, clump.size)

    def _count(self, named: _Named, events: Sequence[Event], size: int, sign: int = 1) -> None:
        named.events += sign * len(events)
        named.bytes += sign * size
        self.events += sign * len(events)
        self.bytes += sign * size
        if self._moved is not None:
            self._moved(named.name, events[0].peer, sign * len(events), sign * size)

    def first(self, name: str) -> Clump | Parked | None:
        """The next clump of this name, or None."""
        named = self._names.get(name)
        return named.items[0] if named is not None else None

    def pop(self, name: str) -> Clump:
        """Take the first clump of this name out."""
        named = self._names[name]
        clump = named.items.pop(0)
        assert isinstance(clump, Clump)
        assert not clump.moving
        self._forget(name, named, clump)
        return clump

    def pop_batch(self, name: str, max_events: int, max_bytes: int) -> Clump:
        """Take out what one call can carry of the first clump of this name: events of one key."""
        clump = self.pop(name)
        if clump.sealed:
            return clump
        count = size = 0
        for event in islice(clump.events, max_events):
            size += event.size
            if event.key != clump.events[0].key or (count and size > max_bytes):
                break
            count += 1
        if rest := clump.events[count:]:
            self.add(name, rest, back=True)
        some = clump.events[:count]
        return Clump(some, memory_bytes(some))

    def remove(self, is_wanted: Callable[[Event], bool], most: int | None = None) -> list[Event]:
        """Take out the events in memory that are wanted (``most``: about so many); of a sealed clump all or
        none."""
        taken: list[Event] = []
        for name in list(self._in_memory):
            named = self._names[name]
            clumps = [item for item in named.items if isinstance(item, Clump) and not item.moving]
            for clump in clumps:
                if most is not None and len(taken) >= most:
                    return taken
                taken += self._thin(name, named, clump, is_wanted)
        return taken

    def _thin(
        self, name: str, named: _Named, clump: Clump, is_wanted: Callable[[Event], bool]
    ) -> list[Event]:
        wanted = [event for event in clump.events if is_wanted(event)]
        if len(wanted) == len(clump.events):
            named.items.remove(clump)
            self._forget(name, named, clump)
        elif wanted and not clump.sealed:
            size = memory_bytes(wanted)
            clump.events = [event for event in clump.events if not is_wanted(event)]
            clump.size -= size
            self._count(named, wanted, size, -1)
        else:
            return []
        return wanted

    def _forget(self, name: str, named: _Named, clump: Clump) -> None:
        self._count(named, clump.events, clump.size, -1)
        named.clumps -= 1
        self._tidy(name, named)

    def _tidy(self, name: str, named: _Named) -> None:
        if not named.clumps:
            self._in_memory.pop(name, None)
        if not named.items:
            del self._names[name]

    def clear(self) -> None:
        """Forget everything, without a call of ``moved``."""
        self._names.clear()
        self._in_memory.clear()
        self.events = self.bytes = self.parked_events = self.parked_bytes = 0

    # --- parked on the disk

    def movable(self) -> Iterator[tuple[str, list[Clump]]]:
        """Neighbouring clumps that could be parked, of one name after the other."""
        for name in list(self._in_memory):
            run: list[Clump] = []
            for item in list(self._names[name].items) if name in self._names else []:
                if isinstance(item, Clump) and not item.moving:
                    if run and not go_together(run[-1], item):
                        yield name, run
                        run = []
                    run.append(item)
                elif run:
                    yield name, run
                    run = []
            if run:
                yield name, run

    def park(self, clumps: Sequence[Clump], parked: Parked) -> list[Event]:
        """These neighbours are on the disk now, as this row; the events, which are no longer in memory."""
        named = self._names[parked.name]
        at = named.items.index(clumps[0])
        events = [event for clump in clumps for event in clump.events]
        for _ in clumps:
            del named.items[at]
        named.items.insert(at, parked)
        named.clumps -= len(clumps)
        size = sum(clump.size for clump in clumps)
        self.events -= len(events)
        self.bytes -= size
        self.parked_events += parked.count
        self.parked_bytes += parked.size
        self._tidy(parked.name, named)
        return events

    def found(self, parked: Parked) -> None:
        """An earlier process parked this row."""
        named = self._named(parked.name)
        named.items.append(parked)
        self._count_parked(named, parked, 1)

    def unpark(self, parked: Parked, events: Sequence[Event], sealed: bool) -> None:
        """The row was read: its events are in memory, where it was."""
        named = self._names[parked.name]
        at = named.items.index(parked)
        self._count_parked(named, parked, -1)
        del named.items[at]
        step = len(events) if sealed else CLUMP_EVENTS
        pieces = [list(events[start : start + step]) for start in range(0, len(events), step or 1)]
        for some in reversed(pieces):
            named.items.insert(at, clump := Clump(some, memory_bytes(some), sealed=sealed))
            named.clumps += 1
            self._in_memory.setdefault(parked.name)
            self._count(named, some, clump.size)
        self._tidy(parked.name, named)

    def thinned(self, parked: Parked, events: int, size: int) -> None:
        """So many events of the row are left on the disk (0: it is gone)."""
        named = self._names[parked.name]
        at = named.items.index(parked)
        self._count_parked(named, parked, -1)
        if events:
            parked.count, parked.size = events, size
            self._count_parked(named, parked, 1)
            return
        del named.items[at]
        self._tidy(parked.name, named)

    def _count_parked(self, named: _Named, parked: Parked, sign: int) -> None:
        named.events += sign * parked.count
        named.bytes += sign * parked.size
        self.parked_events += sign * parked.count
        self.parked_bytes += sign * parked.size
        if self._moved is not None:
            self._moved(parked.name, parked.peer, sign * parked.count, sign * parked.size)

    def parked(self, name: str | None = None) -> Iterator[Parked]:
        """The rows that are parked, of every name or of one."""
        chosen = list(self._names.values()) if name is None else [self._names[name]] if name in self else []
        for named in chosen:
            yield from [item for item in named.items if isinstance(item, Parked)]

    def next_parked(self, name: str, most: int) -> Iterator[Parked]:
        """The parked rows that come first of this name, without a clump between them."""
        named = self._names.get(name)
        for item in named.items[:most] if named is not None else []:
            if not isinstance(item, Parked):
                return
            yield item

    # --- looking

    def __iter__(self) -> Iterator[Event]:
        for name in self._in_memory:
            for item in self._names[name].items:
                if isinstance(item, Clump):
                    yield from item.events

    def oldest_at(self) -> float | None:
        return min((named.items[0].oldest_at for named in self._names.values()), default=None)

    @property
    def names_bytes(self) -> int:
        return len(self._names) * NAME_BYTES

    def view(self) -> Mapping[str, AsideView]:
        """By name; computed on access."""
        return _View(self._names)


class _View(Mapping[str, AsideView]):
    def __init__(self, names: dict[str, _Named]) -> None:
        self._names = names

    def __getitem__(self, name: str) -> AsideView:
        named = self._names[name]
        return AsideView(named.events, named.bytes, named.items[0].oldest_at)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_peer_of = attrgetter("peer")
