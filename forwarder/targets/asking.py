"""Tasks beside the workers that verify a target's names with AWS and update its queue.

Invariants:
- One question of a target is in flight at a time, on a connection that the workers do not use.
- The queue is updated in the same step as the verdict. No answer closes the gate. Only calls with events
  close it, and ``hold``: if the only bus of a target does not exist, and while no question can even be asked
  because there are no credentials or the configuration is wrong.
- Names in the queue with no question planned (there was no place, or they were forgotten) are found again, a
  bounded number at a time.
- A change of state is logged; names that senders chose are cut, made one line, and logged rarely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from forwarder.apis.codes import reason_of
from forwarder.logs import limited, moment
from forwarder.model import Results
from forwarder.queues.queue import Queue
from forwarder.states import Reason
from forwarder.targets.buses import ELSEWHERE, UNASKABLE, UNVERIFIED, BusNames
from forwarder.targets.names import CalledNames, TargetNames, display_name
from forwarder.targets.questions import Answer, Judge, Learned, Question
from forwarder.targets.turns import FOREVER

Hold = Callable[[str | None, Reason], None]
"""Hold the whole target for this sentence and reason; None ends the hold."""

LOOK_SECONDS = 5.0
FOUND_AT_ONCE = 1_000
SLICE = 500
MAX_WAITERS = 100


class Alarm:
    """Sleeps for some seconds, or until ``ring``."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if seconds == FOREVER else seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


class Asker:
    """Asks whether event buses exist. ``describe`` asks about one."""

    def __init__(
        self, target: str, names: BusNames, describe: Callable[[str], Awaitable[tuple[Results, str]]]
    ) -> None:
        self._target = target
        self.names = self._names = names
        self._describe = describe
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._waiting = 0
        self._judge = Judge()
        self._logged: set[str] = set()
        self._log = structlog.get_logger("target").bind(target=target)

    async def run(self, queue: Queue, hold: Hold) -> None:
        """Until cancelled."""
        rounds = _Rounds(queue, self._names)
        try:
            while True:
                self._say_deliveries()
                await rounds.begin()
                question = self._names.next_question()
                if question is None:
                    await rounds.end()
                    continue
                await self._ask(question, queue, hold)
        finally:
            self._say_deliveries()

    async def _ask(self, question: Question, queue: Queue, hold: Hold) -> None:
        results, arn = await self._describe(question.name)
        # no await from here until the queue knows
        learned = self._learn(question, results, arn)
        for name in learned.opened:
            queue.release(name)
        for name in learned.closed:
            queue.set_aside(name)
        if (missing := self._names.held()) is not None:
            hold(missing, Reason.MISSING)
        elif not results.called:
            hold(results.sentence, reason_of(results.status, results.code))
        else:
            hold(None, Reason.NONE)
        if learned.all:
            await self._release_all(queue)

    async def answered(self, name: str, seconds: float) -> None:
        """Wait for an answer about this name, at most so long."""
        if self._waiting >= MAX_WAITERS:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(name, []).append(waiter)
        self._waiting += 1
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiting -= 1
            waiters = self._waiters.get(name)
            if waiters is not None and waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[name]

    def _learn(self, question: Question, results: Results, arn: str) -> Learned:
        answer, name = self._judge(results, has_answered=self._names.has_answers), question.name
        why = self._names.why(name)
        learned = self._names.learn(question, answer, results.sentence, results.delay or 0.0, arn)
        self._log_answer(answer, name, why, results.sentence)
        if answer is not Answer.UNANSWERED:
            for waiter in self._waiters.pop(name, ()):
                if not waiter.done():
                    waiter.set_result(None)
        return learned

    def _log_answer(self, answer: Answer, name: str, why: str, sentence: str) -> None:
        log, bus = limited(self._log, f"{self._target} bus {answer}"), display_name(name)
        if answer is Answer.MISSING and why != "missing":
            log.warning("events set aside: their event bus does not exist", bus=bus)
        elif answer is Answer.EXISTS and why == "missing":
            log.info("event bus exists now", bus=bus)
        elif answer is Answer.UNANSWERED:
            log.warning("cannot verify event buses", error=sentence)
        elif answer in (Answer.DENIED, Answer.UNASKABLE) and answer not in self._logged:
            self._logged.add(answer)
            self._log.warning(UNVERIFIED if answer is Answer.DENIED else UNASKABLE, bus=bus, error=sentence)

    def _say_deliveries(self) -> None:
        """Log deliveries that nobody can confirm. Those of calls that were in flight when the answer came
        follow in a second line."""
        for each in self._names.deliveries.unsaid():
            self._log.error(
                "delivered events are unconfirmed and may be lost: their event bus was deleted",
                bus=display_name(each.name),
                events=each.unsaid,
                count="exact" if each.exact else "at least",
                since=moment(each.since),
                until=moment(each.until),
            )
        if self._names.elsewhere and ELSEWHERE not in self._logged:
            self._logged.add(ELSEWHERE)
            self._log.warning(ELSEWHERE, bus=display_name(self._names.elsewhere))

    async def _release_all(self, queue: Queue) -> None:
        for number, name in enumerate(list(queue.aside_view())):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if not self._names.why(name):
                queue.release(name)


class Prober:
    """Lets events of unknown and of barred app monitors or projects go, in their turns."""

    def __init__(self, target: str, names: CalledNames) -> None:
        self._names = names

    async def run(self, queue: Queue, hold: Hold | None = None) -> None:
        """Until cancelled. Nothing that is found out here holds the target."""
        rounds = _Rounds(queue, self._names)
        while True:
            await rounds.begin()
            while (name := self._names.next_turn()) is not None:
                queue.release(name)
            await rounds.end()


class _Rounds:
    """The rounds of both tasks: a look at the queue now and then, probes, and the wait."""

    def __init__(self, queue: Queue, names: BusNames | CalledNames) -> None:
        self._queue = queue
        self._names = names
        self._alarm = Alarm()
        self._looks_at = 0.0
        self._time = asyncio.get_running_loop().time
        names.wanted = self._alarm.ring

    async def begin(self) -> None:
        if self._time() >= self._looks_at:
            await find_waiting(self._queue, self._names)
            self._looks_at = self._time() + LOOK_SECONDS
        _probe(self._queue, self._names)

    async def end(self) -> None:
        """Wait until there is something to do."""
        await self._alarm.sleep(min(self._names.wait(), max(0.0, self._looks_at - self._time())))


def _probe(queue: Queue, names: BusNames | CalledNames) -> None:
    while (name := names.next_probe()) is not None:
        if queue.probe(name):
            return
        names.barred.missed(name)


async def find_waiting(queue: Queue, names: TargetNames) -> None:
    """Plan questions for names in the queue that have none planned."""
    found = 0
    for number, name in enumerate(list(queue.aside_view())):
        if number % SLICE == SLICE - 1:
            await asyncio.sleep(0)
        if names.is_waiting(name):
            continue
        if names.is_open(name, ""):
            queue.release(name)
            continue
        found += 1
        if found >= FOUND_AT_ONCE:
            return
