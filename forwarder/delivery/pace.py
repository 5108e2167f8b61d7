"""A pace of calls, so that a target's share of an account's quota is kept, and reached.

Invariants:
- Over any long time there are no more calls than the pace allows; a timer that fired late may be made up for.
- Pure: every moment is an argument, in monotonic seconds.
"""

from __future__ import annotations

SLACK_CALLS = 2
SLACK_SECONDS = 0.05
"""Calls, or what the pace allows in this time if it is more, may make up for a timer that fired late, so that
the pace is reached and not only approached."""


class Pace:
    """At most so many calls a second; None for any number."""

    def __init__(self, calls_per_second: float | None) -> None:
        self._calls_per_second = calls_per_second
        self._next_call_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next call may be made."""
        return max(0.0, self._next_call_at - now)

    def spend(self, now: float) -> None:
        """A call is made now."""
        pace = self._calls_per_second
        if pace is not None:
            slack = max(SLACK_CALLS / pace, SLACK_SECONDS)
            self._next_call_at = max(self._next_call_at, now - slack) + 1 / pace

    def refund(self) -> None:
        """A call was not made after all."""
        if self._calls_per_second is not None:
            self._next_call_at -= 1 / self._calls_per_second
