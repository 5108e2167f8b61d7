"""How the events of a put are told apart before they are written as rows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from forwarder.model import Event, memory_bytes


class Piece(NamedTuple):
    """Events of a put that lie in rows of their own; ``name``: they are set aside for."""

    events: Sequence[Event]
    size: int
    name: str = ""


def pieces_of(events: Sequence[Event], closed: Collection[str], complete: bool) -> list[Piece]:
    """The events by what is to be one row, or some: those of closed names by name and peer."""
    if not closed:
        return [Piece(events, memory_bytes(events))]
    groups: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        name = event.name if event.name in closed else ""
        groups.setdefault((name, event.peer if name else ""), []).append(event)
    if complete and len(groups) > 1:  # equal keys and not one name: such a batch does not stay whole
        return [Piece(events, memory_bytes(events))]
    return [Piece(some, memory_bytes(some), name) for (name, _), some in groups.items()]
