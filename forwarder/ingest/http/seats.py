"""The places of ``max_connections``, shared by peers.

Invariants:
- A place is given back once, by whatever ends its holder; more than ``limit`` are never taken.
- While places are free, no connection is closed. When all are taken, the longest idle connection of the peer
  with the most places is closed for the new one.
- A connection without a complete request (silent, slow headers, a body still arriving) is closed only for a
  peer with fewer places. A request that is being handled is never cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

RETRY_SECONDS = 0.1
"""After a search for a place fails, none is made for so long for a peer that holds as many places or more, as
it would find no more: a search visits every connection."""


class Holder(Protocol):
    def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
        """Whether it may be closed for another: a rank, the lowest goes first; None if it must stay.

        ``fair``: the other is of a peer that holds fewer places.
        """

    def leave(self) -> None:
        """Close, now or as soon as an answer is written."""


class Seats:
    def __init__(self, limit: int, now: Callable[[], float]) -> None:
        self.limit = limit
        self.taken = 0
        self.displaced = 0
        self._now = now
        self._by_peer: dict[str, dict[Holder, None]] = {}
        self._found: list[tuple[tuple[int, float], int, Holder]] = []
        self._found_for: tuple[str, bool] = ("", False)
        self._none_until = float("-inf")
        self._none_from = 0  # places that a peer held for which nothing was found

    def take(self, holder: Holder, peer: str) -> bool:
        """A place for one more connection of this peer; False when none can be had."""
        if self.taken >= self.limit and not self.make_room(peer):
            return False
        self._by_peer.setdefault(peer, {})[holder] = None
        self.taken += 1
        return True

    def give_back(self, holder: Holder, peer: str) -> None:
        own = self._by_peer.get(peer)
        if own is not None and holder in own:
            del own[holder]
            self.taken -= 1
            if not own:
                del self._by_peer[peer]

    def make_room(self, peer: str) -> bool:
        """Close another connection if all places are taken. False: there is none that may go."""
        if self.taken < self.limit:
            return True
        now, mine = self._now(), len(self._by_peer.get(peer, ()))
        if now < self._none_until and mine >= self._none_from:
            return False
        found = self._find(peer, now)
        if found is None:
            self._none_until, self._none_from = now + RETRY_SECONDS, mine
            return False
        of_peer, holder = found
        self.give_back(holder, of_peer)
        self.displaced += 1
        holder.leave()
        return True

    def _find(self, peer: str, now: float) -> tuple[str, Holder] | None:
        mine = len(self._by_peer.get(peer, ()))
        by_number = sorted(self._by_peer, key=lambda each: len(self._by_peer[each]), reverse=True)
        for other in by_number:
            if len(self._by_peer[other]) < mine:
                return None
            fair = len(self._by_peer[other]) > mine + 1
            holder = self._first(other, fair, now)
            if holder is not None:
                return other, holder
        return None

    def _first(self, peer: str, fair: bool, now: float) -> Holder | None:
        """The connection of this peer that goes first. One look serves many newcomers."""
        own = self._by_peer[peer]
        if self._found_for != (peer, fair) or not self._found:
            ranked = [(rank, id(each), each) for each in own if (rank := each.may_leave(now, fair))]
            self._found = sorted(ranked, reverse=True)
            self._found_for = peer, fair
        while self._found:
            rank, _, holder = self._found.pop()
            if holder in own and holder.may_leave(now, fair) == rank:
                return holder
        return None
