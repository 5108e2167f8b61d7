"""The local AWS itself, without the network: what becomes of each call, and the record of it. No I/O.

A call is judged first (``judge``) and concluded when its events are taken (``conclude``); between the two an
upstream may be asked, when there is one.

Invariants:
- The order is AWS's: trouble of the call, then what is wrong with the request, then entry by entry.
- An event is recorded if and only if it is taken: not in a call that failed, and not an entry that failed.
  A ``wrong_shape`` or ``missing_results`` takes nothing; ``slow`` and ``reset_after`` take as ever.
- Every fault and every marker that strikes is counted under its own name.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from forwarder.apis.api import Api
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.model import Chance, Clock, Refusal, SystemClock, new_ids
from forwarder.sandbox.answers import (
    Answer,
    Ending,
    entry_failure,
    entry_rejection,
    entry_throttle,
    error,
    internal_code,
    of_fault,
    words,
)
from forwarder.sandbox.any_api import AnyApi
from forwarder.sandbox.calls import NOT_FOUND, VALIDATION, Call, Item, Service
from forwarder.sandbox.eventbridge import EventBridge, bus_name
from forwarder.sandbox.evidently import Evidently
from forwarder.sandbox.faults import DESCRIBE, CallFault, Fault, FaultPlan, has_results
from forwarder.sandbox.markers import Strikes, Word
from forwarder.sandbox.record import Record
from forwarder.sandbox.rum import Rum
from forwarder.sandbox.settings import SandboxSettings

REFUSED = "The event's data asked the sandbox to refuse it."
_ENTRY_WORDS: dict[Word, tuple[Callable[[type[Api]], str], str]] = {
    "reject": (entry_rejection, "The event's data asked the sandbox to reject it."),
    "fail-once": (entry_failure, "The event's data asked the sandbox to fail it."),
    "fail-twice": (entry_failure, "The event's data asked the sandbox to fail it."),
    "throttle-once": (entry_throttle, "The event's data asked the sandbox to throttle it."),
}


class Verdict(msgspec.Struct, eq=False):
    """What a call will get: ``answer`` when that is settled, else a refusal per item that is not taken."""

    service: Service
    call: Call
    number: int
    refusals: list[Refusal | None]
    delay: float = 0.0
    answer: Answer | None = None
    fault: Fault | None = None

    @property
    def to_take(self) -> list[int]:
        """The places of the events that are neither refused nor failed."""
        return [i for i, refusal in enumerate(self.refusals) if refusal is None]

    @property
    def kind(self) -> str | None:
        """The fault that does not settle the answer but spoils it."""
        return self.fault.fault if self.fault is not None else None


class Cloud:
    """The services, the faults in force and the record."""

    def __init__(
        self, settings: SandboxSettings, clock: Clock | None = None, chance: Chance = random.random
    ) -> None:
        self.settings = settings
        self.eventbridge = EventBridge(settings)
        own: dict[type[Api], Service] = {
            PutEvents: self.eventbridge,
            PutRumEvents: Rum(settings),
            PutProjectEvents: Evidently(settings),
        }
        others: Sequence[Any] = [api for api in settings.apis if api not in own]
        self.services: dict[type[Api], Service] = {**own, **{api: AnyApi(api) for api in others}}
        self.faults = FaultPlan(chance, self.services)
        self.access_keys: frozenset[str] | None = None
        """The access keys that have not expired; None: any is good."""
        self.record = Record(settings.keep, self.services)
        self._strikes = Strikes()
        self._clock = clock or SystemClock()

    def reset(self) -> None:
        """As it was at the start: no record, no faults, the configured buses."""
        self.record.clear()
        self.faults.clear()
        self._strikes.clear()
        self.eventbridge.reset()
        self.access_keys = None

    def order(self, faults: Sequence[Fault]) -> None:
        self.faults.order(faults, self.now)

    @property
    def now(self) -> float:
        return self._clock.monotonic()

    @property
    def wall(self) -> float:
        return self._clock.wall()

    def judge(self, api: type[Api], name: str, body: bytes) -> Verdict:
        """What a call that carries events will get."""
        service = self.services[api]
        call = service.read(name, body, self.wall)
        verdict = Verdict(service, call, self.record.call(api.kind), [])
        self._judge_call(verdict)
        if verdict.answer is None:
            self._judge_items(verdict)
        if verdict.answer is not None:
            verdict.answer.delay = verdict.delay
        return verdict

    def conclude(self, verdict: Verdict, taken: Sequence[str | Refusal] | None = None) -> Answer:
        """Take what is to be taken, and say so; ``taken``: what an upstream said of each of these events."""
        places = verdict.to_take
        if taken is None:
            taken = new_ids(len(places), self.wall)
        results: list[str | Refusal] = [refusal or "" for refusal in verdict.refusals]
        for place, result in zip(places, taken, strict=True):
            results[place] = result
        return self._answer(verdict, results)

    def bus_fault(self, name_or_arn: str) -> CallFault:
        """The fault that hits a DescribeEventBus call, counted."""
        name = bus_name(name_or_arn)
        hit = self.faults.for_call(PutEvents, DESCRIBE, (name,), 0, self.now)
        if hit.delay:
            self.record.hit(PutEvents.kind, "slow", 1, 0)
        if hit.fault is not None:
            self.record.hit(PutEvents.kind, hit.fault.fault, 1, 0)
        return hit

    def describe_bus(self, name_or_arn: str, region: str) -> Answer:
        """What DescribeEventBus answers."""
        name, service = bus_name(name_or_arn), self.eventbridge
        if name not in service.buses:
            return error(service.api, NOT_FOUND, f"Event bus {name} does not exist.")
        arn = f"arn:aws:events:{region}:{self.settings.account}:event-bus/{name}"
        return Answer(200, msgspec.json.encode({"Arn": arn, "Name": name}), service.api.codec.content_type)

    def _judge_call(self, verdict: Verdict) -> None:
        api, call = verdict.service.api, verdict.call
        hit = self.faults.for_call(api, api.operation, call.names, len(call.items), self.now)
        verdict.delay, verdict.fault = hit.delay, hit.fault
        if hit.delay:
            self.record.hit(api.kind, "slow", 1, len(call.items))
        if hit.fault is not None:
            self.record.hit(api.kind, hit.fault.fault, 1, len(call.items))
            verdict.answer = of_fault(api, hit.fault)
            self.record.counts[api.kind].throttled_calls += hit.fault.fault == "throttle"
        if verdict.answer is None and call.refusal is not None:
            verdict.answer = error(api, call.refusal.code, call.refusal.message, call.status)
        if verdict.answer is None:
            verdict.answer = self._struck_whole(api, call.items)

    def _struck_whole(self, api: type[Api], items: Sequence[Item]) -> Answer | None:
        """The answer to a call that an event in it spoils: ``refuse`` anywhere, any marker
        where events have no results."""
        for item in items:
            if item.word is None or (has_results(api) and item.word != "refuse"):
                continue
            if self._strikes.strike(item.word, item.digest):
                self.record.hit(api.kind, item.word, 1, len(items))
                return self._spoilt(api, item.word)
        return None

    def _spoilt(self, api: type[Api], word: Word) -> Answer:
        if word in ("refuse", "reject"):
            return error(api, VALIDATION, REFUSED)
        code_of, message = _ENTRY_WORDS[word]
        if word == "throttle-once":
            self.record.counts[api.kind].throttled_calls += 1
            return error(api, code_of(api), message)
        return error(api, internal_code(api), message, 500)

    def _judge_items(self, verdict: Verdict) -> None:
        api, items = verdict.service.api, verdict.call.items
        verdict.refusals = [item.refusal for item in items]
        hits: Counter[str] = Counter()
        if any(item.word is not None for item in items):
            for i, item in enumerate(items):
                if item.word and not item.refusal and self._strikes.strike(item.word, item.digest):
                    verdict.refusals[i] = _entry_refusal(api, item.word)
                    hits[item.word] += 1
        if self.faults:
            places = verdict.to_take
            faults = self.faults.for_entries(api, [items[i].name for i in places], self.now)
            for i, fault in zip(places, faults, strict=True):
                if fault is not None:
                    _, code, message = words(api, fault)
                    verdict.refusals[i] = Refusal(code, message)
                    hits["entry"] += 1
        for kind, events in hits.items():
            self.record.hit(api.kind, kind, 1, events)

    def _answer(self, verdict: Verdict, results: list[str | Refusal]) -> Answer:
        service, kind = verdict.service, verdict.kind
        if kind == "missing_results":
            results = results[:-1]
        else:
            self._take(verdict, results)
            failed = sum(isinstance(result, Refusal) for result in results)
            if kind != "reset_after":
                self.record.answered(service.api.kind, len(results), failed)
        ending = Ending.RESET if kind == "reset_after" else Ending.ANSWER
        return Answer(
            200, service.render(results), service.api.codec.content_type, delay=verdict.delay, ending=ending
        )

    def _take(self, verdict: Verdict, results: Sequence[str | Refusal]) -> None:
        kind, call, wall = verdict.service.api.kind, verdict.call, self.wall
        for item, result in zip(call.items, results, strict=True):
            if not isinstance(result, Refusal):
                self.record.take(kind, verdict.number, wall, call.envelope, item, result)


def _entry_refusal(api: type[Api], word: Word) -> Refusal:
    """The error of a marked entry, in its API's codes."""
    code_of, message = _ENTRY_WORDS[word]
    return Refusal(code_of(api), message)
