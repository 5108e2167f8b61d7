"""The set-aside share: how much of a queue may wait for names that are not known to exist.

Invariants:
- At most a tenth of the queue, in events and in bytes; a quarter more for peers that hold less than their
  part of it. Events already in the queue are never removed for this.
- A peer that is alone may use the whole share.
- The names that count may change at any time. They are recomputed at most once a second, and only if all
  events that are set aside would exceed the share. Many are recomputed in slices, one in a turn of the event
  loop; until then the others count as they did.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from forwarder.model import Clock, Names
from forwarder.queues.bounds import Bounds

SHARE = 10
"""One part in so many of the queue."""

HARD = 1.25
"""Of the share, for all peers together."""

LOOK_AGAIN_SECONDS = 1.0
FEW_NAMES = 100
"""So many are looked at each time."""

SLICE = 1_000
"""Names that are looked at in one turn of the event loop."""

K = TypeVar("K")
Amount = tuple[int, int]
NOTHING: Amount = (0, 0)


class Shares:
    """Counts events and bytes by name and peer; ``move`` is told of every change."""

    def __init__(self, names: Names, bounds: Bounds, clock: Clock) -> None:
        self._names = names
        self._share = max(1, bounds.max_events // SHARE), max(1, bounds.max_bytes // SHARE)
        self._clock = clock
        self._of: dict[tuple[str, str], Amount] = {}  # by name and peer
        self._all: Amount = NOTHING
        self._limited: dict[str, Amount] = {}  # by peer, of what is in ``_counted``
        self._used: Amount = NOTHING  # the sum of these
        self._counted: set[tuple[str, str]] = set()
        self._looked_at = float("-inf")
        self._left: list[tuple[str, str]] = []  # to be looked at in the turns after this one

    def move(self, name: str, peer: str, events: int, size: int) -> None:
        """So many more are set aside for this name, or are on their way (negative: fewer)."""
        self._all = _sum(self._all, events, size)
        key = (name, peer)
        if key not in self._of and self._names.has_share(name):
            self._counted.add(key)
        _move(self._of, key, events, size)
        if key in self._counted:
            self._limit(peer, events, size)
        if key not in self._of:
            self._counted.discard(key)

    def refusal(self, name: str, peer: str, events: int, size: int) -> str | None:
        """Why so many more events are refused now; None if they are accepted."""
        if not self._names.has_share(name) or self._fits(self._all, events, size):
            return None
        self._look_again()
        used = self._used
        if self._fits(used, events, size):
            return None
        if self._is_below_its_part(peer) and self._fits(used, events, size, HARD):
            return None
        why = self._names.reason(name) or f"{name} is not known to exist"
        return (
            f"{why.rstrip('.')}. Events for such names may fill a tenth of the queue ({self._share[0]} "
            f"events, {self._share[1]} bytes), and {used[0]} events of {used[1]} bytes are queued. "
            "Correct the name, bind it in the configuration, or remove events with 'forwarder queue purge'"
        )

    def _limit(self, peer: str, events: int, size: int) -> None:
        _move(self._limited, peer, events, size)
        self._used = _sum(self._used, events, size)

    def _fits(self, used: Amount, events: int, size: int, times: float = 1.0) -> bool:
        most_events, most_bytes = self._share
        return used[0] + events <= times * most_events and used[1] + size <= times * most_bytes

    def _is_below_its_part(self, peer: str) -> bool:
        """Of the share, divided by the peers that hold some; a peer that is alone has all of it anyway."""
        held = self._limited.get(peer, NOTHING)
        peers = len(self._limited) + (peer not in self._limited)
        return peers > 1 and held[0] < self._share[0] / peers and held[1] < self._share[1] / peers

    def _look_again(self) -> None:
        """Recompute which names count: an outage may have ended, or an answer may have arrived."""
        if len(self._of) <= FEW_NAMES:
            self._look_at(list(self._of))
            return
        now = self._clock.monotonic()
        if self._left or now < self._looked_at + LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        self._left = list(self._of)
        self._look_on()

    def _look_on(self) -> None:
        some = self._left[-SLICE:]
        del self._left[-SLICE:]
        self._look_at(some)
        if self._left:
            asyncio.get_running_loop().call_soon(self._look_on)

    def _look_at(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            amount = self._of.get(key)
            counts = amount is not None and self._names.has_share(key[0])
            if amount is None or counts is (key in self._counted):
                continue
            sign = 1 if counts else -1
            self._limit(key[1], sign * amount[0], sign * amount[1])
            (self._counted.add if counts else self._counted.discard)(key)


def _sum(amount: Amount, events: int, size: int) -> Amount:
    return amount[0] + events, amount[1] + size


def _move(amounts: dict[K, Amount], key: K, events: int, size: int) -> None:
    amount = _sum(amounts.get(key, NOTHING), events, size)
    if amount == NOTHING:
        amounts.pop(key, None)
    else:
        amounts[key] = amount
