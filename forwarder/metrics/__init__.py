"""What the daemon counts, and how it tells: numbers, families, and the exposition of both.

Invariants:
- The ledger balances at every scrape, since one reads everything without an await.
- Depths are asked of the queue at the scrape, never computed as a difference of counters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from forwarder.metrics.exposition import Exposition
from forwarder.metrics.families import DISK_OPERATIONS, FAMILIES, Family
from forwarder.metrics.history import History, Reading
from forwarder.metrics.numbers import (
    Histogram,
    HttpMetrics,
    ProcessMetrics,
    Sample,
    StorageMetrics,
    TargetMetrics,
    versions,
)
from forwarder.metrics.senders import SenderMetrics
from forwarder.model import Clock, QueueView, SystemClock
from forwarder.states import Reason, State

__all__ = [
    "DISK_OPERATIONS",
    "FAMILIES",
    "CredentialsView",
    "Family",
    "GateView",
    "Histogram",
    "HttpMetrics",
    "Ledger",
    "Metrics",
    "NamesView",
    "ProcessMetrics",
    "Rates",
    "SenderMetrics",
    "StorageMetrics",
    "TargetMetrics",
    "versions",
]

TICK_SECONDS = 0.5
RATE_WINDOW_TICKS = 20
"""Rates are over the last ten seconds."""


class GateView(msgspec.Struct, frozen=True):
    """A gate at one moment. ``message`` is AWS's own sentence; no ``next_probe_in`` when open or blocked."""

    state: State
    reason: Reason
    since_wall: float
    message: str
    next_probe_in: float | None
    in_flight: int
    limit: int
    throttle_wait_seconds: float


class CredentialsView(msgspec.Struct, frozen=True):
    """A target's credentials at one moment. ``ends_at`` (wall clock) is None when they do not end.

    ``source``: where the last ones came from, in words; "" before the first.
    """

    ends_at: float | None
    refreshed: int
    failed: int
    source: str = ""


class Rates(msgspec.Struct, frozen=True):
    """Events a second over the last ten seconds or so."""

    received_per_second: float
    delivered_per_second: float


class NamesView(msgspec.Struct, frozen=True):
    """A target's names at one moment: events set aside by reason, questions by answer, and of the delivered
    events those that AWS may have dropped (``unconfirmed``) and those of buses that could not be verified."""

    set_aside: Mapping[str, int]
    questions: Mapping[str, int]
    unconfirmed: int = 0
    unverified: int = 0


class Ledger(msgspec.Struct, frozen=True):
    """Where every event of a target is: came in on the left, is or went on the right.

    ``unconfirmed`` is no part of the sum: these are among those delivered, by this run or the one before."""

    accepted: int
    recovered: int
    replayed: int
    delivered: int
    dead_lettered: int
    dropped: int
    in_queue: int
    unconfirmed: int = 0

    @property
    def balanced(self) -> bool:
        came = self.accepted + self.recovered + self.replayed
        return came == self.delivered + self.dead_lettered + self.dropped + self.in_queue


_Tick = tuple[float, dict[str, tuple[int, int]]]


class Metrics:
    """All numbers of the daemon. ``unbound`` counts events refused before any target was found for them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._targets: dict[str, TargetMetrics] = {}
        self._views: dict[str, tuple[Callable[[], QueueView], Callable[[], GateView]]] = {}
        self._transports: dict[str, Callable[[], str]] = {}
        self._credentials: dict[str, Callable[[], CredentialsView]] = {}
        self._names: dict[str, Callable[[], NamesView]] = {}
        self._letters: Callable[[], Mapping[str, tuple[int, int]]] = dict
        self._ticks: deque[_Tick] = deque(maxlen=RATE_WINDOW_TICKS + 1)
        self.unbound = TargetMetrics("", self._clock.wall)
        self.http = HttpMetrics()
        self.senders = SenderMetrics()
        self.process = ProcessMetrics()
        self.storage = StorageMetrics()
        self.history = History(self._readings, self._clock.monotonic)
        self._registry = CollectorRegistry()
        self._registry.register(Exposition(self.samples))
        ProcessCollector(registry=self._registry)

    def for_target(self, name: str) -> TargetMetrics:
        """The target's numbers, made at the first call."""
        if name not in self._targets:
            self._targets[name] = TargetMetrics(name, self._clock.wall)
        return self._targets[name]

    def targets(self) -> Collection[TargetMetrics]:
        """Every target's numbers."""
        return self._targets.values()

    def watch(
        self,
        target: str,
        queue_view: Callable[[], QueueView],
        gate_view: Callable[[], GateView],
        transport: Callable[[], str] = str,
    ) -> None:
        """Ask these for the target's depth, state and transport at every scrape."""
        self.for_target(target)
        self._views[target] = (queue_view, gate_view)
        self._transports[target] = transport

    def watch_credentials(self, target: str, view: Callable[[], CredentialsView]) -> None:
        """Ask this at every scrape for the target's credentials."""
        self._credentials[target] = view

    def watch_names(self, target: str, view: Callable[[], NamesView]) -> None:
        """Ask this at every scrape for the target's names."""
        self._names[target] = view

    def watch_dead_letters(self, view: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
        """Ask this at every scrape for target -> (events, bytes) of the dead letters kept."""
        self._letters = view

    def ledger(self, target: str) -> dict[str, int | bool]:
        """The target's ledger by name, and ``balanced``."""
        own = self.for_target(target)
        views, names = self._views.get(target), self._names.get(target)
        ledger = Ledger(
            accepted=own.accepted,
            recovered=own.recovered,
            replayed=own.replayed,
            delivered=own.delivered,
            dead_lettered=sum(own.dead_lettered.values()),
            dropped=sum(own.dropped.values()),
            in_queue=views[0]().events if views else 0,
            unconfirmed=names().unconfirmed if names is not None else 0,
        )
        return {**msgspec.structs.asdict(ledger), "balanced": ledger.balanced}

    def tick(self) -> None:
        """Note the counters that ``rates`` is computed from."""
        counts = {name: (each.accepted, each.delivered) for name, each in self._targets.items()}
        self._ticks.append((self._clock.monotonic(), counts))

    def rates(self, target: str) -> Rates:
        """Zero until there were two ticks."""
        if len(self._ticks) < 2:
            return Rates(0.0, 0.0)
        (began, before), (ended, after) = self._ticks[0], self._ticks[-1]
        seconds = max(ended - began, 1e-9)
        old, new = before.get(target, (0, 0)), after.get(target, (0, 0))
        return Rates(round((new[0] - old[0]) / seconds, 1), round((new[1] - old[1]) / seconds, 1))

    def _readings(self) -> dict[str, Reading]:
        return {name: self._reading(name, views[0]()) for name, views in self._views.items()}

    def _reading(self, name: str, queue: QueueView) -> Reading:
        own = self._targets[name]
        return Reading(
            accepted=own.accepted,
            delivered=own.delivered,
            retried=sum(own.retried.values()),
            dead_lettered=sum(own.dead_lettered.values()),
            dropped=sum(own.dropped.values()),
            refused=sum(own.refused.values()),
            waiting=queue.waiting_events,
        )

    async def run(self) -> None:
        """Until cancelled: measure the loop's lag, and tick."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.process.loop_lag.observe(max(0.0, loop.time() - due))
            self.tick()
            self.history.read_if_due()

    def expose(self, encoder: Callable[[Collector], bytes] = generate_latest) -> bytes:
        """The exposition, by default as text. Call it on the loop's thread: it reads all without an await."""
        return encoder(self._registry)

    def samples(self) -> Iterator[Sample]:
        """Every number there is, now."""
        yield from self.unbound.refusals()
        yield from self.http.samples()
        yield from self.senders.samples()
        yield from self.process.samples()
        yield from self.storage.samples()
        now = self._clock.monotonic()
        for name, own in self._targets.items():
            yield from own.samples()
            if views := self._views.get(name):
                yield from _queue_samples(name, views[0](), now)
                yield from _gate_samples(name, views[1]())
                yield from _transport_samples(name, self._transports[name]())
        for name, credentials in self._credentials.items():
            yield from _credentials_samples(name, credentials())
        for name, names in self._names.items():
            yield from _names_samples(name, names())
        for name, (events, bytes_) in self._letters().items():
            yield "dead_letters_events", (name,), events
            yield "dead_letters_bytes", (name,), bytes_


def _queue_samples(name: str, view: QueueView, now: float) -> Iterator[Sample]:
    yield "queue_events", (name, "waiting"), view.waiting_events
    yield "queue_events", (name, "in_flight"), view.in_flight_events
    yield "queue_bytes", (name, "waiting"), view.waiting_bytes
    yield "queue_bytes", (name, "in_flight"), view.in_flight_bytes
    yield "queue_capacity_events", (name,), view.capacity_events
    yield "queue_capacity_bytes", (name,), view.capacity_bytes
    age = 0.0 if view.oldest_at is None else max(0.0, now - view.oldest_at)
    yield "queue_oldest_event_age_seconds", (name,), age


def _gate_samples(name: str, view: GateView) -> Iterator[Sample]:
    yield "target_state", (name, view.state, view.reason), 1
    yield "send_in_flight", (name,), view.in_flight
    yield "send_concurrency_limit", (name,), view.limit
    yield "throttle_wait_seconds_total", (name,), view.throttle_wait_seconds


def _names_samples(name: str, view: NamesView) -> Iterator[Sample]:
    yield "events_unconfirmed_total", (name,), view.unconfirmed
    yield "events_unverified_total", (name,), view.unverified
    for reason, events in view.set_aside.items():
        yield "set_aside_events", (name, reason), events
    for answer, count in view.questions.items():
        yield "name_questions_total", (name, answer), count


def _transport_samples(name: str, taken: str) -> Iterator[Sample]:
    if taken:
        yield "transport", (name, taken), 1


def _credentials_samples(name: str, view: CredentialsView) -> Iterator[Sample]:
    if view.ends_at is not None:
        yield "credentials_expiry_timestamp_seconds", (name,), view.ends_at
    yield "credentials_refresh_total", (name, "ok"), view.refreshed
    yield "credentials_refresh_total", (name, "failed"), view.failed
