"""Rate limit of the admin listener, whose answers use the event loop that ingest needs as well.

Invariants:
- Requests of people and scrapers are answered at once. Only requests beyond ``burst`` that arrive faster than
  ``rate`` wait, in order, and for at most ``longest`` seconds.
- Health checks have a separate rate, so no other request delays them.
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
        """Seconds that a request arriving now must wait for its answer."""
        earliest = now - self._burst * self._each
        latest = now + self._longest
        self._next_at = min(max(self._next_at, earliest) + self._each, latest)
        return max(0.0, self._next_at - now)
