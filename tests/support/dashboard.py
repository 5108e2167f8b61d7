"""The dashboard in deploy/grafana, read: its panels and their expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards" / "forwarder.json"


class Query(NamedTuple):
    """One line, or family of lines, of a panel. ``legend`` has ``{{label}}`` in it."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One picture of the dashboard. ``place``: x, y, width, height."""

    id: int
    type: str
    title: str
    unit: str
    place: tuple[int, int, int, int]
    queries: list[Query]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def panels() -> Iterator[Panel]:
    for panel in dashboard()["panels"]:
        grid = panel["gridPos"]
        place = (grid["x"], grid["y"], grid["w"], grid["h"])
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        queries = [Query(target["expr"], target["legendFormat"]) for target in panel.get("targets", ())]
        yield Panel(panel["id"], panel["type"], panel["title"], unit, place, queries)


def filled_in(expression: str, seconds: int = 300) -> str:
    """As Grafana asks it when everything is chosen."""
    ranges = re.sub(r"\$__(rate_interval|range)", f"{seconds}s", expression)
    return re.sub(r"\$\w+", ".*", ranges)
