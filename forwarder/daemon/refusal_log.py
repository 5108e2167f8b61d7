"""Log lines about what senders are refused: by listener, target and reason, with the number of events.

Invariants:
- Nothing that a sender chose is in a line, and the number of targets and reasons is bounded.
- A reason is logged within a second of its first refusal, then at most once in EVERY_SECONDS.
- A line has the number of all refusals since the one before.
- Events that are wrong by themselves (``QUIET``) wait until there are MANY of them. What still waits is
  logged at the end.
- The numbers of a reason's lines add up to that of the metric.
- It reads counters, so refusing costs no more than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import structlog

from forwarder.cures import RUNBOOK
from forwarder.metrics import Metrics

EVERY_SECONDS = 10.0
QUIET = frozenset({"invalid"})
MANY = 10

_SECTIONS = {
    "unauthenticated": "forwardersendersunknown",
    "memory": "forwardermemorybudget",
    "set_aside_full": "forwardereventssetaside",
}
_SECTION = "forwardersendersrefused"


class Place(NamedTuple):
    """Where something is refused, and why. ``target`` is "" where none was found for it."""

    listener: str
    target: str
    reason: str


class Logged(msgspec.Struct):
    """How many were refused up to the last line, and when that was."""

    count: int = 0
    at: float = float("-inf")


class RefusalLog:
    """``look`` about every second, and a ``last`` time at the end."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._logged: dict[Place, Logged] = {}
        self._log = structlog.get_logger("ingest")

    def look(self, now: float, *, last: bool = False) -> None:
        for place, count in self._counts():
            logged = self._logged.get(place)
            if count == (logged.count if logged is not None else 0):
                continue
            logged = self._logged.setdefault(place, Logged())
            few = place.reason in QUIET and count - logged.count < MANY
            if last or (now - logged.at >= EVERY_SECONDS and not few):
                self._log_refusals(place, count - logged.count)
                logged.count, logged.at = count, now

    def _log_refusals(self, place: Place, new: int) -> None:
        what = "connections refused" if place.reason == "connections" else "events refused"
        if place.listener == "admin":
            what = "requests refused"
        named = {"target": place.target} if place.target else {}
        section = _SECTIONS.get(place.reason, _SECTION)
        self._log.warning(
            what,
            **named,
            listener=place.listener,
            reason=place.reason,
            count=new,
            runbook=f"{RUNBOOK}#{section}",
        )

    def _counts(self) -> Iterator[tuple[Place, int]]:
        metrics = self._metrics
        for each in (metrics.unbound, *metrics.targets()):
            for reason, count in each.refused.items():
                yield Place("ingest", each.name, reason), count
        yield Place("ingest", "", "connections"), metrics.http.refused_connections
        for reason, count in metrics.process.admin_refused.items():
            yield Place("admin", "", reason), count
