"""The numbers behind the metrics: plain ints, moved by plain methods, once per request or batch.

Invariants:
- The hot path only adds; names, labels and text exist at a scrape and nowhere else.
- Counters move after the fact, in the same step that moves the events they count.
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from forwarder import __version__
from forwarder.metrics.families import (
    ADMIN_REFUSALS,
    CALL_OUTCOMES,
    DEATH_REASONS,
    DISK_OPERATIONS,
    DROP_REASONS,
    FLUSH_REASONS,
    OTHER,
    REFUSAL_REASONS,
    RETRY_REASONS,
)
from forwarder.model import SystemClock

MAX_CODES = 64
"""Error codes and routes are closed sets elsewhere; this bound holds should one of them not be."""

SEND_BOUNDS = (0.05, 0.1, 0.25, 1.0, 5.0, 15.0)
LATENCY_BOUNDS = (0.25, 1.0, 5.0, 30.0, 300.0, 3_600.0)
"""Few: each target has a series for every bound, and there may be hundreds of targets."""
HTTP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
COMMIT_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Histogram:
    """Counts per bucket, the last one without an upper bound. Without bounds it is a summary."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, n: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += n
        self.sum += value * n

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound as text, observations up to it), as the exposition wants them."""
        total = 0
        rows: list[tuple[str, float]] = []
        for bound, count in zip(_bound_names(self.bounds), self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


@functools.cache
def _bound_names(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(str, bounds), "+Inf")


Value = float | Histogram
Sample = tuple[str, tuple[str, ...], Value]
"""(family, label values, number)."""


class TargetMetrics:
    """One target's numbers. Its methods are called once per request or batch, next to what they count."""

    __slots__ = (
        "_wall",
        "accepted",
        "accepted_bytes",
        "batch_bytes",
        "batch_events",
        "calls",
        "dead_lettered",
        "dead_letters_dropped",
        "delivered",
        "delivery_latency",
        "dropped",
        "event_attempts",
        "failures",
        "flushes",
        "last_success",
        "name",
        "recovered",
        "refused",
        "replayed",
        "retried",
        "sends",
    )

    def __init__(self, name: str, wall: Callable[[], float] = SystemClock.wall) -> None:
        self.name = name
        self._wall = wall
        self.accepted = 0
        self.accepted_bytes = 0
        self.recovered = 0
        self.replayed = 0
        self.delivered = 0
        self.dead_letters_dropped = 0
        self.last_success = 0.0
        self.refused = dict.fromkeys(REFUSAL_REASONS, 0)
        self.retried = dict.fromkeys(RETRY_REASONS, 0)
        self.dead_lettered = dict.fromkeys(DEATH_REASONS, 0)
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self.flushes = dict.fromkeys(FLUSH_REASONS, 0)
        self.failures: dict[str, int] = {}
        self.batch_events = Histogram(())
        self.batch_bytes = Histogram(())
        self.calls = dict.fromkeys(CALL_OUTCOMES, 0)
        self.sends = Histogram(SEND_BOUNDS)
        self.event_attempts = Histogram(())
        self.delivery_latency = Histogram(LATENCY_BOUNDS)

    def add_accepted(self, events: int, bytes_: int) -> None:
        """The queue's ``put`` returned: the events are ours."""
        self.accepted += events
        self.accepted_bytes += bytes_

    def add_refused(self, reason: str, n: int = 1) -> None:
        """The sender was told no, for one of REFUSAL_REASONS."""
        _add(self.refused, reason, n)

    def settled(
        self,
        delivered: int = 0,
        retried: Mapping[str, int] | None = None,
        dead: Mapping[str, int] | None = None,
        dropped: Mapping[str, int] | None = None,
    ) -> None:
        """Events left the queue, or went back to it; each mapping is reason -> events."""
        if delivered:
            self.delivered += delivered
            self.last_success = self._wall()
        for counts, moved in ((self.retried, retried), (self.dead_lettered, dead), (self.dropped, dropped)):
            if moved:
                for reason, n in moved.items():
                    _add(counts, reason, n)

    def call(self, outcome: str, seconds: float, batch_events: int, batch_bytes: int, flush: str) -> None:
        """One call was answered or given up, with one of CALL_OUTCOMES."""
        _add(self.calls, outcome, 1)
        self.sends.observe(seconds)
        self.batch_events.observe(batch_events)
        self.batch_bytes.observe(batch_bytes)
        _add(self.flushes, flush, 1)

    def failed(self, code: str, n: int = 1) -> None:
        """A try failed ``n`` events with this code, which is of a closed set."""
        known = code in self.failures or len(self.failures) < MAX_CODES
        code = code if known and code else OTHER
        self.failures[code] = self.failures.get(code, 0) + n

    def attempts(self, tries: int, n: int = 1) -> None:
        """``n`` events were delivered, each with its ``tries``-th try."""
        self.event_attempts.observe(tries, n)

    def latency(self, seconds: float, n: int = 1) -> None:
        """``n`` events were delivered that long after they became ours."""
        self.delivery_latency.observe(seconds, n)

    def samples(self) -> Iterator[Sample]:
        own = (self.name,)
        yield "events_accepted_total", own, self.accepted
        yield "event_bytes_accepted_total", own, self.accepted_bytes
        yield "events_delivered_total", own, self.delivered
        yield "events_recovered_total", own, self.recovered
        yield "events_replayed_total", own, self.replayed
        yield "dead_letters_dropped_total", own, self.dead_letters_dropped
        yield "target_last_success_timestamp_seconds", own, self.last_success
        yield "batch_events", own, self.batch_events
        yield "batch_bytes", own, self.batch_bytes
        yield "send_duration_seconds", own, self.sends
        yield "event_attempts", own, self.event_attempts
        yield "delivery_latency_seconds", own, self.delivery_latency
        yield from self.refusals()
        for family, values in (
            ("events_retried_total", self.retried),
            ("events_dead_lettered_total", self.dead_lettered),
            ("events_dropped_total", self.dropped),
            ("batch_flushes_total", self.flushes),
            ("event_failures_total", self.failures),
            ("calls_total", self.calls),
        ):
            for label, value in values.items():
                yield family, (self.name, label), value

    def refusals(self) -> Iterator[Sample]:
        for reason, n in self.refused.items():
            yield "events_refused_total", (self.name, reason), n


def _add(counts: dict[str, int], label: str, n: int) -> None:
    label = label if label in counts else OTHER
    counts[label] = counts.get(label, 0) + n


class StorageMetrics:
    """The storage's file. ``size`` answers (bytes on the disk, bytes it may have)."""

    __slots__ = ("commits", "errors", "size")

    def __init__(self) -> None:
        self.commits = Histogram(COMMIT_BOUNDS)
        self.errors = dict.fromkeys(DISK_OPERATIONS, 0)
        self.size: Callable[[], tuple[int, int]] = lambda: (0, 0)

    def commit(self, seconds: float) -> None:
        """One group of jobs was committed and synced."""
        self.commits.observe(seconds)

    def failed(self, operation: str) -> None:
        """A job was not done, since the disk failed at one of DISK_OPERATIONS."""
        _add(self.errors, operation, 1)

    def samples(self) -> Iterator[Sample]:
        used, capacity = self.size()
        yield "queue_disk_bytes", (), used
        yield "queue_disk_capacity_bytes", (), capacity
        yield "queue_disk_commit_duration_seconds", (), self.commits
        for operation, n in self.errors.items():
            yield "queue_disk_errors_total", (operation,), n


class HttpMetrics:
    """The ingest listener's requests. ``route`` is a pattern of a closed set, never a path as it came.

    ``waits`` answers how many events have a request that waits for AWS's word.
    """

    __slots__ = (
        "descriptors_used_up",
        "displaced_connections",
        "durations",
        "refused_connections",
        "repeats",
        "requests",
        "unread_answers",
        "waits",
    )

    def __init__(self) -> None:
        self.refused_connections = 0
        self.displaced_connections = 0
        self.unread_answers = 0
        self.descriptors_used_up = 0
        self.repeats: dict[str, int] = {}
        self.waits: Callable[[], int] = lambda: 0
        self.requests: dict[tuple[str, int], int] = {}
        self.durations: dict[str, Histogram] = {}

    def request(self, route: str, status: int, seconds: float) -> None:
        if route not in self.durations:
            route = route if len(self.durations) < MAX_CODES else OTHER
            self.durations.setdefault(route, Histogram(HTTP_BOUNDS))
        self.durations[route].observe(seconds)
        self.requests[route, status] = self.requests.get((route, status), 0) + 1

    def malformed(self, status: int) -> None:
        """An answer to what never became a request, and so took no time."""
        self.requests[OTHER, status] = self.requests.get((OTHER, status), 0) + 1

    def repeat(self, route: str) -> None:
        """A request came again, and gets the answer of the first."""
        self.repeats[route] = self.repeats.get(route, 0) + 1

    def samples(self) -> Iterator[Sample]:
        for (route, status), n in self.requests.items():
            yield "http_requests_total", (route, str(status)), n
        yield "http_connections_refused_total", (), self.refused_connections
        yield "http_connections_displaced_total", (), self.displaced_connections
        yield "http_unread_answers_total", (), self.unread_answers
        yield "open_files_exhausted_total", (), self.descriptors_used_up
        for route, n in self.repeats.items():
            yield "http_repeated_requests_total", (route,), n
        yield "events_awaited", (), self.waits()
        for route, histogram in self.durations.items():
            yield "http_request_duration_seconds", (route,), histogram


class ProcessMetrics:
    """The process itself. ``budget`` answers (used, limit) in bytes; a stop sets ``draining``.

    ``log_lines_dropped`` answers how many were.
    """

    __slots__ = ("admin_refused", "budget", "draining", "log_lines_dropped", "loop_lag")

    def __init__(self) -> None:
        self.loop_lag = Histogram(LAG_BOUNDS)
        self.admin_refused = dict.fromkeys(ADMIN_REFUSALS, 0)
        self.draining = False
        self.budget: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self.log_lines_dropped: Callable[[], int] = lambda: 0

    def samples(self) -> Iterator[Sample]:
        used, limit = self.budget()
        yield "event_loop_lag_seconds", (), self.loop_lag
        yield "log_lines_dropped_total", (), self.log_lines_dropped()
        for reason, refused in self.admin_refused.items():
            yield "admin_requests_refused_total", (reason,), refused
        yield "draining", (), int(self.draining)
        yield "memory_budget_bytes", ("used",), used
        yield "memory_budget_bytes", ("limit",), limit
        yield "build_info", (__version__, *versions().values()), 1


@functools.cache
def versions() -> dict[str, str]:
    """What this runs on."""
    return {
        "python": platform.python_version(),
        "aiobotocore": importlib.metadata.version("aiobotocore"),
    }
