"""One body after the other through a dialect, from the parsing to the queue and the answer: what must hold.

Invariants:
- Nothing but the dialect's own error comes out of it; that, and every answer, is short and valid JSON.
- One result per event; in the queue exactly those that were taken, each valid for AWS in the judge's eyes.
- The memory that a body may take was leased before, and came back; no body leaves anything behind.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from forwarder.ingest.bindings import Bindings
from forwarder.ingest.budget import Budget, Lease
from forwarder.ingest.errors import BadRequest
from forwarder.model import Event, Refusal, SystemClock
from forwarder.queues.queue import Settlement
from tests.fuzz.dialects import Dialect, entries_in, read, values_in
from tests.support.ingest import MIB, one_of_each

ROOM = MIB // 4
SAID_PER_EVENT = 2000
"""Bytes of answer that an event may cost, whatever it says."""
CALLS_PER_BYTE = 2
CALLS_AT_LEAST = 2000
"""Calls of functions that a body may cost, in a sample: work must not grow faster than what is sent."""


BLANK = " \t\r\x0b\x0c"


class Violation(AssertionError):
    """What must hold does not."""


@dataclass
class Judge:
    """A dialect with a target, a queue and a budget, and what it made of the bodies so far."""

    dialect: Dialect
    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0

    def __post_init__(self) -> None:
        routes = one_of_each()
        self._bindings = Bindings(routes.routes)
        self._operation = self.dialect.operation(self._bindings, SystemClock(), routes.metrics.unbound)
        [self._queue] = (each.queue for each in self._bindings.routes if each.name == self.dialect.target)
        self._budget = Budget(ROOM)
        self._said: set[str] = set()

    async def judge(self, body: bytes, *, count_calls: bool = False) -> None:
        """Violation, with the body, when something does not hold."""
        try:
            if count_calls:
                with Calls() as calls:
                    await self._judge(body)
                _must(calls.number <= CALLS_AT_LEAST + CALLS_PER_BYTE * len(body), f"{calls.number} calls")
            else:
                await self._judge(body)
        except Exception as problem:
            raise Violation(f"{self.dialect.label}: {problem!r} for {body!r}") from problem

    async def _judge(self, body: bytes) -> None:
        call = self._operation.open(self.dialect.name, self.dialect.headers)
        try:
            with Lease(self._budget) as lease:
                lease.check_parsing(body)
                results = await call.take(body, self.dialect.lines, lease, None)
        except BadRequest as problem:
            _must(self._budget.used == 0, "the lease came back")
            self._is_refused(problem)
            return
        taken = self._taken()
        self._is_answered(body, call.reply(results, None).body, results)
        ids = [result for result in results if isinstance(result, str)]
        _must([event.id for event in taken] == self._new(ids), "the queue holds what was taken, in order")
        for event in taken:
            said = read(event.body.decode())
            _must(self.dialect.is_good(said, event.key.decode()), f"AWS takes {said}")
        self.outcomes["taken" if len(ids) == len(results) else "some refused"] += 1
        self.events += len(results)

    def _new(self, ids: list[str]) -> list[str]:
        """Those that were not said before, where an event is taken once."""
        if not self.dialect.once:
            return ids
        new = [id for id in dict.fromkeys(ids) if id not in self._said]
        self._said.update(new)
        return new

    def _taken(self) -> list[Event]:
        self._queue.drain()
        events: list[Event] = []
        while (batch := self._queue.take()) is not None:
            self._queue.settle(Settlement(gone=batch.events))
            events += batch.events
        return sorted(events, key=lambda event: event.id)

    def _is_refused(self, problem: BadRequest) -> None:
        said = self._operation.dialect.error(problem)
        json.loads(said)
        _must(400 <= problem.status < 500, f"status {problem.status}")
        _must(bool(problem.code and problem.message), "it says why")
        _must(len(said) <= SAID_PER_EVENT * (1 + len(problem.refusals)), f"it says {len(said)} bytes")
        _must(self._queue.view().waiting_events == 0, "nothing was taken")
        self.outcomes[f"{problem.status} {problem.code}"] += 1

    def _is_answered(self, body: bytes, said: bytes, results: list[str | Refusal]) -> None:
        answer = json.loads(said)
        rows = answer.get("Entries", answer.get("eventResults", answer.get("results", results)))
        _must(len(rows) == len(results), "one row per result")
        _must(len(said) <= SAID_PER_EVENT * (1 + len(results)), f"it says {len(said)} bytes")
        expected = self._expected(body)
        _must(len(results) in expected, f"{len(results)} results for {expected} events")

    def _expected(self, body: bytes) -> Collection[int]:
        """How many events there may be in a body: one a line, but values may span lines, or share one.

        Where one of several values is no JSON, nobody knows where it ends: as many as there are brackets.
        """
        text = body.decode("utf-8", "replace")
        values, whole = values_in(text), sum(1 for line in text.split("\n") if line.strip(BLANK))
        lines: Collection[int] = {whole, values}
        if not values:
            lines = range(1, whole + sum(map(text.count, "{}[]")) + 1)
        if self.dialect.lines:
            return lines
        try:
            return {self.dialect.events(read(text) if text else None)}
        except ValueError:  # one of several entries is no JSON, and costs no other
            is_list = self.dialect.member or text.lstrip(BLANK + "\n").startswith("[")
            return {entries_in(text, self.dialect.member)} if is_list else lines


class Calls:
    """Counts the calls of functions, Python's and C's, in its block."""

    def __init__(self) -> None:
        self.number = 0

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self.number += event in ("call", "c_call")

    def __enter__(self) -> Calls:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *problem: object) -> None:
        sys.setprofile(None)


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
