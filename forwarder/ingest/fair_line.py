"""A wait queue that serves peers in turn: a peer with many requests delays its own, not those of others.

Invariants:
- Within one peer the order is first come, first served.
- A waiter whose future is done is skipped. It no longer counts once it is skipped or removed.
- The owner of the queue decides who proceeds, and wakes the waiters. The queue does neither.
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
        """The first waiter of each peer, beginning with the peer whose turn it is."""
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
        """Remove this peer's first waiter; the peer's next turn comes after all other peers'."""
        line = self._peers[peer]
        one = line.popleft()
        self._count -= 1
        if line:
            self._peers.move_to_end(peer)
        else:
            del self._peers[peer]
        return one
