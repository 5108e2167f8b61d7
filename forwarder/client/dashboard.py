"""The daemon's status and its last minutes as lines of text that fit a terminal. Plain functions.

Invariants:
- No line is wider than the terminal: tables and plots are cut or made to fit, sentences are wrapped.
- What is wrong stands above the table; where it is much, the rest of it stands below the table.
- What others say is printed without line breaks and terminal sequences.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forwarder.client.order import TROUBLE, ordered
from forwarder.client.status import as_table, head_of, notes_of, table_of, tail_of
from forwarder.logs import one_line

WIDEST_PLOT = 90
"""Columns; more would show no more than the daemon remembers."""

NOTES_ABOVE = 12
"""Lines of what is wrong that stand above the table, so that the table can be seen."""

SERIES = {
    "in/s": ("accepted",),
    "out/s": ("delivered",),
    "failures/s": ("retried", "refused", "dead_lettered"),
    "waiting": ("waiting",),
}
FATES = {
    "dead_lettered": "dead letter",
    "dropped": "lost",
    "refused": "refused",
    "retried": "retried",
}
BLOCKS, ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"
"""From the least that is more than nothing to the most; nothing is ``_``, and what is not known a space."""


def picture(
    status: Mapping[str, Any],
    history: Mapping[str, Any],
    width: int,
    steps: str = BLOCKS,
    order: str = TROUBLE,
) -> list[str]:
    """Everything, in lines of at most ``width`` characters. ``order`` of the targets: one of ORDERS."""
    report = {**status, "targets": ordered(status["targets"], order)}
    on = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    first, second = head_of(report)
    notes = notes_of({**report, "targets": ordered(status["targets"])})
    first_notes, more_notes = _divided([one_line(each) for each in notes])
    series = {name: history["targets"][name] for name in report["targets"] if name in history["targets"]}
    lines = [
        first,
        f"{second}; {on}",
        "",
        *_wrapped(first_notes, width),
        *table_of(report),
        "",
        *_wrapped(more_notes, width),
        f"the last {history['kept_seconds'] / 60:.0f} minutes; each plot shows its latest and its highest "
        "value",
        *_plots({**history, "targets": series}, width, steps),
        "",
        "since the start",
        *as_table(list(_reasons(report)) or [("nothing was refused, retried, dead-lettered or lost",)]),
        "",
        tail_of(report),
    ]
    return [line[:width] for line in lines]


def _divided(notes: list[str]) -> tuple[list[str], list[str]]:
    """The notes above the table, and those below it; what belongs to a note stays with it."""
    end = min(NOTES_ABOVE, len(notes))
    while end < len(notes) and notes[end].startswith(" "):
        end += 1
    return notes[:end], notes[end:]


def _wrapped(notes: list[str], width: int) -> list[str]:
    """With an empty line behind them, where there are any."""
    lines = [
        part
        for each in notes
        for part in textwrap.wrap(each, width, subsequent_indent="  ", break_on_hyphens=False)
    ]
    return [*lines, ""] if lines else []


def _reasons(report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, target in report["targets"].items():
        for fate, words in FATES.items():
            for reason, events in target["reasons"][fate].items():
                yield name, words, reason, str(events)


def _plots(history: Mapping[str, Any], width: int, steps: str) -> list[str]:
    rows = []
    for name, series in history["targets"].items():
        for words, members in SERIES.items():
            values = [sum(each) for each in zip(*(series[member] for member in members), strict=True)]
            now, most = (values[-1], max(values)) if values else (0, 0)
            rows.append((name if words == "in/s" else "", words, f"{now:.0f}", f"{most:.0f}", values))
    heads = as_table([("TARGET", "", "NOW", "MOST"), *(row[:4] for row in rows)])
    edge = max(map(len, heads)) + 2
    columns = max(1, min(width - edge, WIDEST_PLOT))
    ago, kept = history["seconds_ago"], history["kept_seconds"]
    plots = [plot(row[4], ago, kept, columns, steps) for row in rows]
    return [heads[0], *(f"{head:<{edge}}{line}" for head, line in zip(heads[1:], plots, strict=True))]


def plot(values: Sequence[float], ago: Sequence[float], kept: float, columns: int, steps: str) -> str:
    """The values on one line, the newest at its end; each column shows the most of its time."""
    most = max(values, default=0.0)
    peaks: list[float | None] = [None] * columns
    for value, seconds in zip(values, ago, strict=True):
        column = columns - 1 - min(columns - 1, int(seconds / kept * columns))
        peaks[column] = max(value, peaks[column] or 0.0)
    return "".join(_step(peak, most, steps) for peak in peaks).rstrip()


def _step(value: float | None, most: float, steps: str) -> str:
    if value is None:
        return " "
    return steps[min(len(steps) - 1, int(value / most * len(steps)))] if value > 0 else "_"
