"""Events that name themselves (CloudEvents), sent again: each is taken once, whatever request it comes in.

Invariants:
- Known are events that a queue took, and only these: what was refused is new when it comes again.
- An event that comes while the same one is still being put waits for what becomes of that one; by then the
  own events of who waits are put and recorded, so no two requests wait for each other.
- Bounded: two generations, the older forgotten when the younger is full or old. A restart forgets all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from forwarder.model import Clock

MAX_EVENTS = 35_000
MAX_AGE_SECONDS = 300.0
"""Of one generation, whichever ends it first: known is what was taken within one, and at most within two. An
event holds about 230 bytes, both generations 16 MiB."""

Pending = asyncio.Future[str | None]


class SeenEvents:
    """Our ids of the events taken lately, by what the events call themselves."""

    __slots__ = ("_clock", "_max_age", "_max_events", "_old", "_pending", "_since", "_young")

    def __init__(
        self, clock: Clock, *, max_events: int = MAX_EVENTS, max_age: float = MAX_AGE_SECONDS
    ) -> None:
        self._clock = clock
        self._max_events = max_events
        self._max_age = max_age
        self._since = clock.monotonic()
        self._young: dict[bytes, str] = {}
        self._old: dict[bytes, str] = {}
        self._pending: dict[bytes, Pending | None] = {}  # a future only where another request waits

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def claim(self, key: bytes) -> str | Pending | None:
        """None: the event is new, and the caller's to put and to ``settle``. Else its id, or who is at it."""
        self._grow_old()
        known = self._young.get(key) or self._old.get(key)
        if known is not None:
            return known
        if key not in self._pending:
            self._pending[key] = None
            return None
        pending = self._pending[key]
        if pending is None:
            pending = self._pending[key] = asyncio.get_running_loop().create_future()
        return pending

    def settle(self, keys: Iterable[bytes], ids: Sequence[str | None]) -> None:
        """What became of claimed events: our id of each that was taken, else None."""
        for key, id in zip(keys, ids, strict=True):
            if id is not None:
                self._young[key] = id
            pending = self._pending.pop(key)
            if pending is not None and not pending.done():  # a request that waited may have been cancelled
                pending.set_result(id)

    def _grow_old(self) -> None:
        now = self._clock.monotonic()
        if len(self._young) < self._max_events and now - self._since < self._max_age:
            return
        self._old = self._young if now - self._since < 2 * self._max_age else {}
        self._young = {}
        self._since = now
