"""Shares the event loop between ingest and delivery: ingest gets a third of it while calls are in flight.

Otherwise a turn of the loop would handle all requests that arrived in it. A call to AWS takes several turns,
so senders that never pause would leave little of the machine to delivery.

Invariants:
- Requests enter a turn of the loop until ingest has used ``TURN_SECONDS`` of it. The next ones wait for the
  next turn, so that a turn stays short however many requests arrived in it.
- While no call is in flight, or the loop has no other work, ingest waits for nothing else.
- The time that ingest uses is measured by the clock, for each step of each request, and nothing else counts.
- At least one request enters in a turn in which nothing else ran, so an idle loop makes no request wait.
- After ``MOST_TURNS`` turns in which none entered one enters, so that large requests that use up the share do
  not keep the others out.
- Peers enter in turn, each in the order of its requests.
- If no request has to wait, entering is only a check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from types import coroutine
from typing import Any, TypeVar

from forwarder.ingest.fair_line import FairLine

T = TypeVar("T")

GIVEN_BY_OTHERS = 0.5
"""Seconds for ingest for each second of everything else: a third of the whole."""

BURST_SECONDS = 0.002
"""What ingest may use at once when it has used less than its share."""

MOST_OWED = 0.02
"""Seconds that ingest can owe others, at most: work that goes on in slices, on what one sender sent, must not
keep the requests of all others out until it is paid back."""

MOST_TURNS = 4
"""Turns in which requests may wait and none enters; in the next one does."""

TURN_SECONDS = 0.005
"""What ingest may use of one turn of the loop before no further request enters in it."""

IDLE_SECONDS = 0.000_05
"""A loop turn that leaves others less than this had no work for them."""


class _Turn(asyncio.Future[None]):
    @property
    def over(self) -> bool:
        return self.done()


class Turns:
    """``sending`` tells whether calls to AWS are in flight."""

    def __init__(
        self, sending: Callable[[], bool] = lambda: False, timer: Callable[[], float] = perf_counter
    ) -> None:
        self._sending = sending
        self._timer = timer
        self._waiting: FairLine[_Turn] = FairLine()
        self._credit = BURST_SECONDS
        self._counted_at = timer()
        self._used = 0.0  # by ingest since then
        self._used_of_turn = 0.0
        self._turns_without = 0  # turns of the loop in which requests waited and none entered
        self._usual = 0.0  # what a request uses, about

    def may_enter(self) -> bool:
        """Whether a request may go on at once; else it awaits ``enter``."""
        if self._used_of_turn >= TURN_SECONDS:
            return False
        if self._credit > 0 and not self._waiting:
            return True
        self._count()
        return not self._waiting and (self._credit > 0 or not self._sending())

    async def enter(self, peer: str = "") -> None:
        """Wait until it is this request's turn."""
        turn = _Turn()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._waiting.add(peer, turn)
        await turn

    @coroutine
    def measured(self, work: Coroutine[Any, Any, T]) -> Generator[Any, None, T]:
        """The same work, each step of which is counted as ingest's."""
        timer, used = self._timer, 0.0
        problem: BaseException | None = None
        while True:
            began = timer()
            try:
                waits_for = work.send(None) if problem is None else work.throw(problem)
            except StopIteration as done:
                seconds = timer() - began
                self.spend(seconds)
                self._usual += (used + seconds - self._usual) / 16 if self._usual else used + seconds
                result: T = done.value
                return result
            except BaseException:
                self.spend(timer() - began)
                raise
            seconds = timer() - began
            used += seconds
            self.spend(seconds)
            problem = None
            try:
                yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as thrown:
                problem = thrown

    def spend(self, seconds: float) -> None:
        self._credit = max(self._credit - seconds, -MOST_OWED)
        self._used += seconds
        if not self._used_of_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._used_of_turn += seconds

    def _end_turn(self) -> None:
        self._used_of_turn = 0.0

    def _count(self) -> float:
        """Credit what others had of the time; the seconds they had."""
        now = self._timer()
        others = max(0.0, now - self._counted_at - self._used)
        self._credit = min(BURST_SECONDS, self._credit + others * GIVEN_BY_OTHERS)
        self._counted_at, self._used = now, 0.0
        return others

    def _next_turn(self) -> None:
        """Once in each turn of the loop, while requests wait."""
        idle = self._count() < IDLE_SECONDS
        if not self._sending():
            self._wake(self._number(TURN_SECONDS))
        elif self._credit > 0:
            self._wake(self._number(self._credit))
        elif idle or self._turns_without >= MOST_TURNS:
            self._wake(1)
        else:
            self._turns_without += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _number(self, seconds: float) -> int:
        return 1 + int(seconds / max(self._usual, IDLE_SECONDS))

    def _wake(self, count: int) -> None:
        self._turns_without = 0
        while count > 0 and self._waiting:
            for peer, turn in self._waiting.firsts():
                self._waiting.pop(peer)
                turn.set_result(None)
                count -= 1
                if not count:
                    return
