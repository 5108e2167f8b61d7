"""Neighbouring events that are set aside together: in memory, or in a row on the disk.

Invariants:
- The events of a clump are of one name and one peer. What is sealed or being moved gets no more.
- Pure: no clock, no loop, no I/O.
"""

from __future__ import annotations

from forwarder.model import Event


class Clump:
    """Neighbouring events of one name and one peer, in memory."""

    __slots__ = ("events", "moving", "part", "sealed", "size")

    def __init__(self, events: list[Event], size: int, *, sealed: bool = False, part: bool = False) -> None:
        self.events = events
        self.size = size
        self.sealed = sealed
        self.part = part
        self.moving = False

    @property
    def oldest_at(self) -> float:
        return self.events[0].received_at

    def takes_more_of(self, peer: str) -> bool:
        return not self.sealed and not self.moving and self.events[0].peer == peer


class Parked:
    """Neighbouring events of one name and one peer that are in a row on the disk. ``received``: the moment of
    the oldest by the wall clock, if only that knows it; else None."""

    __slots__ = ("count", "name", "oldest_at", "peer", "place", "received", "size")

    def __init__(
        self,
        name: str,
        place: int,
        count: int,
        size: int,
        oldest_at: float,
        peer: str = "",
        received: float | None = None,
    ) -> None:
        self.name = name
        self.place = place
        self.count = count
        self.size = size
        self.oldest_at = oldest_at
        self.peer = peer
        self.received = received


def go_together(one: Clump, other: Clump) -> bool:
    return not one.sealed and not other.sealed and one.events[0].peer == other.events[0].peer
