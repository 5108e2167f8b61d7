"""Whether the endpoint answers questions about event buses, and when it may be asked the next one. Pure.

One question is under way at a time.

Invariants:
- After a question that was not answered there is a pause: longer after each, with full jitter, and never
  shorter than AWS asked for.
- Nothing counts as answering before the first answer came, nor while an answer takes long.
- An answer of any kind ends the trouble.
"""

from __future__ import annotations

from forwarder.model import Chance, full_jitter

SLOW_ANSWER_SECONDS = 5.0
"""A question that waits longer than this is not being answered."""

BACKOFF_BASE, BACKOFF_CAP = 0.2, 30.0
GIVE_UP_FAILURES = 3
"""After so many failures a stop waits for no further answer."""


class Answering:
    """``cap``: seconds that a pause has at most, unless AWS asks for more."""

    def __init__(self, cap: float, chance: Chance) -> None:
        self._cap = min(BACKOFF_CAP, cap)
        self._chance = chance
        self._has_answered = False
        self._failures = 0
        self._asked_at: float | None = None
        self._resumes_at = 0.0
        self.trouble = ""
        """Why the last question was not answered; "" once one was, or before the first failed."""

    def ask(self, now: float) -> None:
        """A question is under way, until ``answered`` or ``failed``."""
        self._asked_at = now

    def answered(self) -> None:
        self._asked_at = None
        self._has_answered, self._failures, self.trouble, self._resumes_at = True, 0, "", 0.0

    def failed(self, sentence: str, delay: float, now: float) -> None:
        """No answer, because of ``sentence``. ``delay``: seconds that AWS asked us to wait, if it did."""
        self._asked_at = None
        self._failures += 1
        self.trouble = sentence
        pause = full_jitter(self._failures, BACKOFF_BASE, self._cap, self._chance)
        self._resumes_at = now + max(pause, min(delay, BACKOFF_CAP) * (1 + self._chance() / 10))

    def hurry(self) -> None:
        """End the pause."""
        self._resumes_at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next question may be asked."""
        return max(0.0, self._resumes_at - now)

    @property
    def is_under_way(self) -> bool:
        return self._asked_at is not None

    @property
    def is_failing(self) -> bool:
        """The last question was not answered."""
        return self._failures > 0

    @property
    def is_given_up(self) -> bool:
        return self._failures >= GIVE_UP_FAILURES

    def is_slow(self, now: float) -> bool:
        """The question that is under way waits too long."""
        return self._asked_at is not None and now - self._asked_at > SLOW_ANSWER_SECONDS

    def is_working(self, now: float) -> bool:
        """Whether questions are being answered."""
        return self._has_answered and not self.is_failing and not self.is_slow(now)
