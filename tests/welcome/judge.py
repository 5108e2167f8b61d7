"""What a daemon says it refused, read from outside; and the table of all that was tried.

Invariants:
- A counter is judged by its name, so that one that is added later is judged too: any whose name has a word of
  ``WORDS``, and any answer of 4xx or 5xx.
- An event arrived when the sandbox has it, known by a name that the test gave it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.e2e.processes import Daemon, Sandbox, ask

WORDS = {
    "refused",
    "refusals",
    "rejected",
    "rejections",
    "limited",
    "cut",
    "dropped",
    "unauthenticated",
    "paused",
}
"""A counter or gauge with one of these in its name is 0 while nobody but honest clients send. Events that are
set aside were accepted: those of a new bus are, until AWS has answered whether it exists."""

ROW = "welcome"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_CODE = re.compile(r'\bcode="([45]\d\d)"')
_MARKER = re.compile(r"welcome-[\w.+-]+")


class Row(NamedTuple):
    """One case: who sent, what it showed of itself, by which way, how many events, how many were refused."""

    client: str
    proof: str
    path: str
    events: int
    refused: int


def refusals(metrics: str) -> dict[str, float]:
    """Every counter of a refusal that is not 0, by its name and labels."""
    found = {}
    for name, labels, value in _SAMPLE.findall(metrics):
        is_refusal = WORDS & set(name.split("_")) or (
            name.endswith(("http_requests_total", "handshake_failures_total")) and _is_failure(name, labels)
        )
        if is_refusal and not name.endswith("_created") and float(value):
            found[f"{name}{{{labels}}}"] = float(value)
    return found


def _is_failure(name: str, labels: str) -> bool:
    return name.endswith("handshake_failures_total") or _CODE.search(labels) is not None


def refused_by(daemon: Daemon) -> dict[str, float]:
    return refusals(ask(f"{daemon.admin}/metrics").decode())


def arrived(sandbox: Sandbox, apis: Iterable[str]) -> list[str]:
    """The names of the events that arrived, each as often as it did."""
    return sorted(
        name for api in apis for line in sandbox.arrived(api) for name in _MARKER.findall(str(line["entry"]))
    )


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The table as it is printed at the end of a run."""
    lines = [("client", "proof", "path", "events", "refused"), *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
