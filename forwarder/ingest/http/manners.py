"""How a connection behaves after refusals: if it does not heed Retry-After, its next refusal comes later."""

from __future__ import annotations

FORGET_SECONDS = 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Manners:
    """How a connection behaved after its refusals."""

    __slots__ = ("_next", "has_waited", "pause", "refused_at")

    def __init__(self) -> None:
        self.has_waited = False  # the request that is in hand
        self.pause = self._next = 0.0
        self.refused_at = float("-inf")

    def asked(self, now: float) -> float:
        """A request meets a full queue: how many seconds its refusal waits."""
        forgotten = now - self.refused_at >= FORGET_SECONDS
        self._next = FIRST_PAUSE if forgotten else min(LONGEST_PAUSE, self.pause * 2)
        return self._next

    def refused(self, now: float) -> None:
        self.refused_at, self.pause, self.has_waited = now, self._next, False
