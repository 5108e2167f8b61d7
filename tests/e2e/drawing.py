"""The dashboard drawn as one SVG, readable on a light and on a dark page, from what a Prometheus answered.

Invariants:
- Panels stand where the dashboard has them; a panel for which there is nothing to show says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from tests.support.dashboard import Panel

CELL_WIDTH, CELL_HEIGHT, GAP, HEAD, FOOT, LINE = 50, 26, 8, 22, 4, 13
LINES_OF_LEGEND, NARROW = 3, 350
GAP_SECONDS = 5.0
"""No line is drawn over a time that long without a value."""

COLOURS = ("#2f6fb3", "#1a9c5b", "#d9822b", "#c23030", "#8f5fbf", "#0f9aa6", "#a0782c", "#d44f8e")
STATES = {0: ("open", "#1a9c5b"), 1: ("backing off", "#d9822b"), 2: ("held", "#c23030")}
STYLE = (
    "text{font:11px sans-serif;fill:#24292f}.title{font-weight:bold}.dim{fill:#57606a}.stat{font-size:26px}"
    ".panel{fill:none;stroke:#d0d7de}.grid{stroke:#d0d7de;stroke-dasharray:2 3}"
    "path{fill:none;stroke-width:1.3}"
    "@media(prefers-color-scheme:dark){text{fill:#d0d7de}.dim{fill:#8b949e}.panel,.grid{stroke:#444c56}}"
)
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_SCALES = {"bytes": _BYTES, "Bps": tuple((scale, f"{unit}/s") for scale, unit in _BYTES)}
_UNITS = {"eps": " events/s", "reqps": " /s"}
_SECONDS = ((3600, "h"), (60, "min"), (1, "s"), (0.001, "ms"))


class Series(NamedTuple):
    """One line: what it is called, and (time, value) in order."""

    name: str
    points: list[tuple[float, float]]


class Box(NamedTuple):
    """Where something is drawn, in pixels."""

    x: float
    y: float
    width: float
    height: float


def draw(pictures: Sequence[tuple[Panel, list[Series]]], began: float, ended: float) -> str:
    """The whole dashboard over this time."""
    height = max(panel.place[1] + panel.place[3] for panel, _ in pictures) * CELL_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * CELL_WIDTH} {height}" role="img">',
        f"<title>The Grafana dashboard's panels</title><style>{STYLE}</style>",
    ]
    for panel, series in pictures:
        parts += _panel(panel, series, began, ended)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, series: list[Series], began: float, ended: float) -> Iterator[str]:
    x, y, width, height = panel.place
    box = Box(x * CELL_WIDTH, y * CELL_HEIGHT, width * CELL_WIDTH - GAP, height * CELL_HEIGHT - GAP)
    if panel.type == "row":
        yield _text(box.x, box.y + 16, panel.title, "title")
        return
    yield f'<rect class="panel" x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3"/>'
    yield _text(box.x + 6, box.y + 14, panel.title, "title")
    series = [each for each in series if each.points]
    if not series:
        yield _text(box.x + 6, box.y + 34, "nothing of the kind happened", "dim")
    elif panel.type == "stat":
        yield _text(box.x + 6, box.y + box.height - 20, said(series[0].points[-1][1], panel.unit), "stat")
    elif panel.type == "state-timeline":
        yield from _states(box, series, began, ended)
    else:
        yield from _lines(box, panel.unit, series, began, ended)


def _lines(box: Box, unit: str, series: list[Series], began: float, ended: float) -> Iterator[str]:
    series = sorted(series, key=lambda each: -max(value for _, value in each.points))
    columns = 2 if box.width > NARROW else 1
    legend = series[: columns * LINES_OF_LEGEND]
    rows = math.ceil(len(legend) / columns)
    plot = Box(box.x + 6, box.y + HEAD, box.width - 12, box.height - HEAD - FOOT - rows * LINE)
    top = max(value for each in series for _, value in each.points)
    bottom = min(0.0, *(value for each in series for _, value in each.points))
    frame = f"M{plot.x} {plot.y}h{plot.width}M{plot.x} {plot.y + plot.height:.0f}h{plot.width}"
    yield f'<path class="grid" d="{frame}"/>'
    yield _text(box.x + box.width - 6, box.y + 14, f"to {said(top, unit)}", "dim", "end")
    for number, each in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        yield f'<path stroke="{colour}" d="{_path(plot, each.points, began, ended, bottom, top)}"/>'
    for number, each in enumerate(legend):
        x = box.x + 6 + (number % columns) * box.width / 2
        y = box.y + box.height - FOOT - (rows - 1 - number // columns) * LINE
        yield f'<rect x="{x}" y="{y - 7}" width="8" height="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield _text(x + 12, y, each.name)


def _path(
    plot: Box, points: list[tuple[float, float]], began: float, ended: float, bottom: float, top: float
) -> str:
    top = top if top > bottom else bottom + 1.0
    across, up = plot.width / (ended - began), plot.height / (top - bottom)
    steps = []
    before = -math.inf
    for at, value in points:
        x, y = plot.x + (at - began) * across, plot.y + (top - value) * up
        steps.append(f"{'M' if at - before > GAP_SECONDS else 'L'}{x:.0f} {y:.0f}")
        before = at
    return "".join(steps)


def _states(box: Box, series: list[Series], began: float, ended: float) -> Iterator[str]:
    step = (box.height - HEAD - LINE - FOOT) / len(series)
    across = (box.width - 12) / (ended - began)
    for number, each in enumerate(series):
        y = box.y + HEAD + number * step
        yield _text(box.x + 6, y + 10, each.name, "dim")
        for at, until, value in _stretches(each.points):
            x, width = box.x + 6 + (at - began) * across, (until - at) * across
            where = f'x="{x:.0f}" y="{y + 14:.0f}" width="{width:.0f}" height="{step - 20:.0f}"'
            yield f'<rect {where} fill="{STATES[int(value)][1]}"/>'
    for number, (name, colour) in enumerate(STATES.values()):
        x, y = box.x + 6 + number * 80, box.y + box.height - FOOT
        yield f'<rect x="{x}" y="{y - 8}" width="8" height="8" fill="{colour}"/>'
        yield _text(x + 12, y, name)


def _stretches(points: list[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
    """(from, to, value) where the value stays."""
    start, value = points[0]
    for at, now in points[1:]:
        if now != value:
            yield start, at, value
            start, value = at, now
    yield start, points[-1][0], value


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kinds = f' class="{kind}"' if kind else ""
    return f'<text{kinds} x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def said(value: float, unit: str) -> str:
    """A number as people read it."""
    if unit == "s":
        scale, name = next((each for each in _SECONDS if abs(value) >= each[0]), _SECONDS[-1])
        return f"{value / scale:.3g} {name}"
    if unit in _SCALES:
        scale, name = next((each for each in _SCALES[unit] if abs(value) >= each[0]), _SCALES[unit][-1])
        return f"{value / scale:.3g} {name}"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return number + _UNITS.get(unit, "")


def legend(template: str, labels: dict[str, str]) -> str:
    """A panel's legend with the series' labels in it."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template).strip()
