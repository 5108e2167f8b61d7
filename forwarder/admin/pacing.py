"""How fast the admin listener answers: making an answer costs the event loop that ingest needs as well.

Invariants:
- What people and scrapers ask is answered at once; only what comes faster than ``rate`` for longer than
  ``burst`` requests waits, in its turn, and never longer than ``longest`` seconds.
- Health checks have a rate of their own: nothing else that is asked delays them.
- Pure: every moment is an argument, in monotonic seconds.
"""

from __future__ import annotations

import math


class AnswerPace:
    """``rate``: answers a second; ``burst``: answers at once; ``longest``: seconds that one may wait."""

    __slots__ = ("_burst", "_each", "_longest", "_next_at")

    def __init__(self, rate: float, burst: int, longest: float) -> None:
        self._each = 1 / rate
        self._burst = burst
        self._longest = longest
        self._next_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds that the request which is here now waits for its answer."""
        earliest = now - self._burst * self._each
        latest = now + self._longest
        self._next_at = min(max(self._next_at, earliest) + self._each, latest)
        return max(0.0, self._next_at - now)
