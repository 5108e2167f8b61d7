"""The measured rows as tables on the terminal, and as JSON and plots in a directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import about
from benchmarks.measuring import Row
from benchmarks.plots import plot

COLUMNS = (
    ("events/s", "events_per_second", "{:,.0f}"),
    ("fill", "fill", "{:.1f}"),
    ("p50 ms", "p50_ms", "{:.0f}"),
    ("p99 ms", "p99_ms", "{:.0f}"),
    ("RSS MB", "rss_mb", "{:.0f}"),
)


def show(row: Row) -> None:
    """Print one row's table."""
    shown = [column for column in COLUMNS if any(column[1] in each for each in row.best.values())]
    print(f"\n{row.title}")
    head = "".join(f"{title:>10}" for title, _, _ in shown)
    print(f"  {'':<34}{row.unit:>20}{'ratio':>8}{'spread':>8}{head}")
    first = next(iter(row.values.values()))
    for name, figures in row.best.items():
        cells = "".join(
            f"{form.format(figures[key]) if key in figures else '':>10}" for _, key, form in shown
        )
        ratio = figures["value"] / first
        print(f"  {name:<34}{figures['value']:>20.2f}{ratio:>8.2f}{row.spread(name):>8.0%}{cells}")
    print(f"  wanted: {row.wanted}: {'reached' if row.good else 'MISSED'}", flush=True)


def write(directory: Path, rows: Mapping[str, Row]) -> None:
    """Write ``results.json`` and a plot for each row that compares variants."""
    directory.mkdir(parents=True, exist_ok=True)
    results = {
        "about": about(),
        "rows": {
            name: {
                "title": row.title,
                "unit": row.unit,
                "wanted": row.wanted,
                "reached": row.good,
                "rounds": row.rounds,
            }
            for name, row in rows.items()
        },
    }
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, row in rows.items():
        (directory / f"{name}.svg").write_text(plot(row))
