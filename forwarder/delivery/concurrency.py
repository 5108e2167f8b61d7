"""How many calls of a target may be in flight: a limit between two bounds, found by what calls show.

Invariants:
- The limit never leaves its bounds; equal bounds make it a fixed number.
- It grows only after a round in which it held calls back and they were about as quick as ever: it doubles
  until the first fall, then goes up by one; after falls that were in vain it doubles again.
- It falls to three quarters for a throttle, and when calls take twice as long as they used to. If falls do
  not make calls quicker, then not their number was the cause: what they take now is what they take.
- A round is as many answers as the limit. Calls that began before the round teach nothing about its limit,
  so a throttle that strikes all calls in flight counts once.
- Pure: no clock, no timer; durations are arguments, in seconds.
"""

from __future__ import annotations

START = 4
"""The limit before anything is known: few enough to see how quick calls are when they are few."""

FEWEST_ANSWERS = 5
"""A round has at least so many answers, that one slow call among them decides nothing."""

SLOW = 2.0
FALL = 0.75
HELPED = 0.9
"""A fall to three quarters makes a service that has a line of calls quicker by a quarter; noise is less."""

VAIN_FALLS = 2
"""One may seem to be in vain while a line is still growing."""

SHORT_SECONDS = 0.005
"""Durations under this are those of a loop that has other work, whatever the service does."""


class ConcurrencyLimit:
    """The slots of one target. ``take`` gives a call the round it belongs to; its answer is told with it."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most
        self.limit = min(max(START, least), most)
        self.taken = 0
        self._most_taken = 0
        self._round = 0
        self._answers: list[float] = []
        self._usual = float("inf")
        self._before_fall: float | None = None
        self._vain_falls = 0
        self._doubling = True

    def take(self) -> int:
        self.taken += 1
        self._most_taken = max(self._most_taken, self.taken)
        return self._round

    def give_back(self) -> None:
        self.taken -= 1

    def answered(self, round_: int, seconds: float) -> None:
        """A call was answered, after so long."""
        if round_ != self._round or self.least == self.most:
            return
        self._answers.append(seconds)
        if len(self._answers) >= max(self.limit, FEWEST_ANSWERS):
            self._decide(sorted(self._answers)[len(self._answers) // 2])

    def troubled(self, round_: int) -> None:
        """A call met a service that has too much to do."""
        if round_ == self._round:
            self._fall(min(self.limit, self._most_taken))
            self._before_fall = None
            self._next_round()

    def _decide(self, seconds: float) -> None:
        seconds = max(seconds, SHORT_SECONDS)
        if self._before_fall is not None:
            self._vain_falls = 0 if seconds <= self._before_fall * HELPED else self._vain_falls + 1
        self._before_fall = None
        if self._vain_falls == VAIN_FALLS:
            self._measure_anew(seconds)
        self._usual = min(self._usual, seconds)
        if self._most_taken >= self.limit:  # else it held nobody back: it is neither too low nor too high
            self._move(seconds)
        self._next_round()

    def _move(self, seconds: float) -> None:
        if seconds <= self._usual * SLOW:
            self.limit = min(self.most, self.limit * 2 if self._doubling else self.limit + 1)
            self._vain_falls = 0
        elif self.limit == self.least:
            self._measure_anew(seconds)
        else:
            self._before_fall = seconds
            self._fall(self.limit)

    def _measure_anew(self, seconds: float) -> None:
        self._usual = seconds
        self._vain_falls = 0
        self._doubling = True

    def _fall(self, from_: int) -> None:
        self.limit = max(self.least, int(from_ * FALL))
        self._doubling = False

    def _next_round(self) -> None:
        self._round += 1
        self._answers.clear()
        self._most_taken = self.taken
