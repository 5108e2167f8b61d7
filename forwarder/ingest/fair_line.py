"""A wait queue that serves peers in turn: a peer with many requests delays its own, not those of others.

Invariants:
- Within one peer the order is first come, first served.
- Who stopped waiting (its future is done) is skipped, and counts no more once it was skipped or removed.
- It decides nothing and wakes nobody: whoever owns it does.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    @property
    def over(self) -> bool:
        """Whether it waits no more."""


W = TypeVar("W", bound=Waiting)


class FairLine(Generic[W]):
    """``len()`` counts those that wait."""

    def __init__(self) -> None:
        self._peers: OrderedDict[str, deque[W]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, peer: str, one: W) -> None:
        self._peers.setdefault(peer, deque()).append(one)
        self._count += 1

    def firsts(self) -> Iterator[tuple[str, W]]:
        """The first of each peer, the peer whose turn it is before all others."""
        for peer in list(self._peers):
            line = self._peers[peer]
            while line and line[0].over:
                line.popleft()
                self._count -= 1
            if line:
                yield peer, line[0]
            else:
                del self._peers[peer]

    def pop(self, peer: str) -> W:
        """Remove the first of this peer; its next turn is after all others."""
        line = self._peers[peer]
        one = line.popleft()
        self._count -= 1
        if line:
            self._peers.move_to_end(peer)
        else:
            del self._peers[peer]
        return one
