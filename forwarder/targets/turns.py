"""Chooses the next name to ask about, peer by peer.

Invariants:
- Peers with something to ask take turns, one name a turn, however many names one of them has.
- A peer has ``burst`` questions at once and then ``rate`` a second; unused ones are not saved
  beyond the burst.
- The numbers of names and peers are bounded. When there are too many names, a peer with more than its part
  gets no further place. For a peer with less, the newest name of the largest peer is dropped.
- Pure: every moment is an argument in monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from itertools import count
from typing import NamedTuple

FOREVER = float("inf")
MAX_PEERS = 1_000
MOST_STALE = 1_000
NEAR = 10
"""A name with fewer names before it is about to be asked, also where its peer has used up its burst."""

REST = ""
"""Peers beyond ``MAX_PEERS`` take their turns as one."""


class Bucket:
    """``burst`` at once, then ``rate`` a second."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._at = 0.0

    def level(self, now: float) -> float:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        return self._tokens

    def wait(self, now: float) -> float:
        """Seconds until one may be taken."""
        missing = 1.0 - self.level(now)
        return 0.0 if missing <= 1e-9 else missing / self._rate

    def take(self, now: float) -> None:
        self._tokens = self.level(now) - 1.0

    def give_back(self) -> None:
        self._tokens = min(self._burst, self._tokens + 1.0)

    def fill(self) -> None:
        self._tokens = self._burst

    def is_full(self, now: float) -> bool:
        return self.level(now) >= self._burst


class Agenda:
    """Names that are due at a moment each, at a rate for all of them."""

    def __init__(self, burst: float, rate: float) -> None:
        self._bucket = Bucket(burst, rate)
        self._heap: list[tuple[float, int, str]] = []
        self._due: dict[str, float] = {}
        self._order = count()

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def add(self, name: str, due: float) -> None:
        """In place of an earlier moment, if there is one."""
        self._due[name] = due
        heapq.heappush(self._heap, (due, next(self._order), name))
        if len(self._heap) > 2 * len(self._due) + MOST_STALE:
            self._heap = [item for item in self._heap if self._is_current(item)]
            heapq.heapify(self._heap)

    def discard(self, name: str) -> None:
        self._due.pop(name, None)

    def next(self, now: float) -> str | None:
        if self.wait(now) > 0:
            return None
        _, _, name = heapq.heappop(self._heap)
        del self._due[name]
        self._bucket.take(now)
        return name

    def wait(self, now: float) -> float:
        """Seconds until ``next`` has a name; FOREVER when there is none."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        if not self._heap:
            return FOREVER
        return max(0.0, self._heap[0][0] - now, self._bucket.wait(now))

    def fill(self) -> None:
        self._bucket.fill()

    def _is_current(self, item: tuple[float, int, str]) -> bool:
        return self._due.get(item[2]) == item[0]


class Turn(NamedTuple):
    name: str
    peer: str


class _Place(NamedTuple):
    due: float
    number: int


class _Peer:
    __slots__ = ("bucket", "names", "numbered")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.names: OrderedDict[str, _Place] = OrderedDict()
        self.numbered = 0


class Turns:
    """At most ``most`` names in all. A name may wait in several peers' places at once."""

    def __init__(self, most: int, burst: float, rate: float) -> None:
        self._most = most
        self._burst = burst
        self._rate = rate
        self._peers: OrderedDict[str, _Peer] = OrderedDict()  # whose turn is next, first
        self._peers_of: dict[str, set[str]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        return name in self._peers_of

    def names(self) -> list[str]:
        return list(self._peers_of)

    def add(self, name: str, peer: str, now: float, due: float = 0.0) -> bool:
        """Put the name behind the others of this peer, unless it is there; False when there is no place."""
        peer, own = self._find(peer, now)
        if name in own.names:
            return True
        if self._count >= self._most and not self._make_place(own):
            return False
        own.names[name] = _Place(due, own.numbered)
        own.numbered += 1
        self._peers_of.setdefault(name, set()).add(peer)
        self._count += 1
        return True

    def discard(self, name: str) -> None:
        """The name has its answer, whoever asked."""
        for peer in self._peers_of.pop(name, ()):
            del self._peers[peer].names[name]
            self._count -= 1

    def clear(self) -> None:
        for own in self._peers.values():
            own.names.clear()
        self._peers_of.clear()
        self._count = 0

    def next(self, now: float) -> Turn | None:
        """The name whose turn it is, taken out for its peer; it costs this peer one question."""
        for peer, own in self._peers.items():
            if own.names and _first(own).due <= now and own.bucket.wait(now) <= 0:
                name = next(iter(own.names))
                self._remove(name, peer, own)
                own.bucket.take(now)
                self._peers.move_to_end(peer)
                return Turn(name, peer)
        return None

    def wait(self, now: float) -> float:
        """Seconds until ``next`` has something; FOREVER when nothing waits."""
        waits = [
            max(_first(own).due - now, own.bucket.wait(now)) for own in self._peers.values() if own.names
        ]
        return max(0.0, min(waits, default=FOREVER))

    def refund(self, turn: Turn) -> None:
        """The question was not answered, so it does not count against the peer."""
        if turn.peer in self._peers:
            self._peers[turn.peer].bucket.give_back()

    def is_near(self, name: str, now: float) -> bool:
        """Whether the name is about to be asked, for one of its peers."""
        for peer in self._peers_of.get(name, ()):
            own = self._peers[peer]
            if own.names[name].number - _first(own).number < max(own.bucket.level(now), NEAR):
                return True
        return False

    def hurry(self) -> None:
        """Everything is due now."""
        for own in self._peers.values():
            for name, place in own.names.items():
                own.names[name] = _Place(0.0, place.number)

    def oldest(self) -> str | None:
        """The first name of the peer that holds most."""
        own = max(self._peers.values(), key=_size, default=None)
        return next(iter(own.names), None) if own is not None else None

    def _find(self, peer: str, now: float) -> tuple[str, _Peer]:
        own = self._peers.get(peer)
        if own is None:
            if len(self._peers) >= MAX_PEERS and not self._forget_one(now):
                peer = REST
                own = self._peers.get(peer)
            if own is None:
                own = self._peers[peer] = _Peer(Bucket(self._burst, self._rate))
        return peer, own

    def _forget_one(self, now: float) -> bool:
        """Forget a peer that asks nothing and that nothing would be given back to."""
        for peer, own in self._peers.items():
            if not own.names and own.bucket.is_full(now):
                del self._peers[peer]
                return True
        return False

    def _make_place(self, own: _Peer) -> bool:
        if len(own.names) >= self._most / max(1, len(self._peers)):
            return False
        peer, largest = max(self._peers.items(), key=lambda item: len(item[1].names))
        if largest is own:
            return False
        self._remove(next(reversed(largest.names)), peer, largest)
        return True

    def _remove(self, name: str, peer: str, own: _Peer) -> None:
        del own.names[name]
        self._count -= 1
        peers = self._peers_of[name]
        peers.discard(peer)
        if not peers:
            del self._peers_of[name]


def _first(own: _Peer) -> _Place:
    return next(iter(own.names.values()))


def _size(own: _Peer) -> int:
    return len(own.names)
