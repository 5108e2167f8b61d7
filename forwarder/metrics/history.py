"""The last quarter of an hour, for plots: a bounded ring of counters, read now and then.

Invariants:
- Nothing is done per event or per batch: a reading every SAMPLE_SECONDS is all it costs.
- A rate is over the time that really passed between two readings, by the monotonic clock.
- What is counted and what waits comes from the same numbers as the metrics.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

SAMPLE_SECONDS = 5.0
KEPT_SECONDS = 900.0
MAX_READINGS = int(KEPT_SECONDS / SAMPLE_SECONDS) + 1

COUNTED = ("accepted", "delivered", "retried", "dead_lettered", "dropped", "refused")


class Reading(NamedTuple):
    """One target at one moment: its counters, in the order of COUNTED, and what waits."""

    accepted: int
    delivered: int
    retried: int
    dead_lettered: int
    dropped: int
    refused: int
    waiting: int


_NONE = Reading(0, 0, 0, 0, 0, 0, 0)


class History:
    """``look`` is asked for a reading of every target; ``clock`` is monotonic."""

    def __init__(self, look: Callable[[], Mapping[str, Reading]], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._readings: deque[tuple[float, Mapping[str, Reading]]] = deque(maxlen=MAX_READINGS)

    def read_if_due(self) -> None:
        """Call it as often as is convenient."""
        now = self._clock()
        if not self._readings or now - self._readings[-1][0] >= SAMPLE_SECONDS:
            self._readings.append((now, self._look()))

    def report(self) -> dict[str, Any]:
        """Per target, events a second between readings, and what waited at the end of each.

        ``seconds_ago`` has the same places: when each of them ended. Empty until there were two readings.
        """
        now = self._clock()
        recent = [each for each in self._readings if now - each[0] <= KEPT_SECONDS]
        names = recent[-1][1] if recent else ()
        return {
            "kept_seconds": KEPT_SECONDS,
            "sample_seconds": SAMPLE_SECONDS,
            "seconds_ago": [round(now - at, 1) for at, _ in recent[1:]],
            "targets": {name: _series(recent, name) for name in names},
        }


def _series(readings: list[tuple[float, Mapping[str, Reading]]], name: str) -> dict[str, list[float]]:
    series: dict[str, list[float]] = {word: [] for word in (*COUNTED, "waiting")}
    for (began, before), (ended, after) in pairwise(readings):
        seconds = max(ended - began, 1e-9)
        old, new = before.get(name, _NONE), after[name]
        for word, earlier, later in zip(COUNTED, old, new, strict=False):
            series[word].append(round((later - earlier) / seconds, 1))
        series["waiting"].append(new.waiting)
    return series
