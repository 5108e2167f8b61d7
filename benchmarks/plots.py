"""One row as a bar plot, in SVG that is readable on a light and on a dark page."""

from __future__ import annotations

from html import escape

from benchmarks.measuring import Row

WIDTH, LABEL, VALUE, BAR, GAP, TOP = 760, 250, 90, 22, 10, 34
STYLE = (
    "text{font:13px sans-serif;fill:#24292f}rect{fill:#2f6fb3}.first{fill:#1a9c5b}"
    "@media(prefers-color-scheme:dark){text{fill:#d0d7de}}"
)


def plot(row: Row) -> str:
    """The best round of each variant; the first variant is ours."""
    most = max(row.values.values())
    height = TOP + len(row.values) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<text x="0" y="16">{escape(row.title)} ({escape(row.unit)}, less is better)</text>',
    ]
    for index, (name, value) in enumerate(row.values.items()):
        top = TOP + index * (BAR + GAP)
        width = max(1.0, value / most * (WIDTH - LABEL - VALUE))
        kind = ' class="first"' if index == 0 else ""
        parts += [
            f'<text x="0" y="{top + 16}">{escape(name)}</text>',
            f'<rect{kind} x="{LABEL}" y="{top}" width="{width:.0f}" height="{BAR}"/>',
            f'<text x="{LABEL + width + 8:.0f}" y="{top + 16}">{value:,.1f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
