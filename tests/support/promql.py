"""What a PromQL expression names: metrics, labels, values. Reads just enough of the language for that.

Invariants:
- Syntax and types are promtool's to judge; here is only what promtool cannot know: what this daemon tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from forwarder.metrics import FAMILIES, Family
from forwarder.metrics.families import OTHER, PREFIX, VALUES

KEYWORDS = {"and", "or", "unless", "bool", "offset"}
GIVEN_BY_THE_SCRAPE = {"job", "instance"}
OF_PROMETHEUS: dict[str, set[str]] = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_start_time_seconds": set(),
}
"""What Prometheus says itself, and what its Python client tells beside our own."""

_ENDS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}

_MATCHERS = re.compile(r"\{([^{}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\(|[a-zA-Z0-9_:])")
_OTHER_WORDS = re.compile(r"\[[^\[\]]*\]|\boffset\s+\w+|\$\w+")
"""Ranges, offsets, and a dashboard's variables, which may stand for any value."""


def wrong_names(expression: str, recorded: Collection[str] = ()) -> list[str]:
    """What the expression names that does not exist. ``recorded``: names of recording rules that do."""
    return [*_wrong_matchers(expression, recorded), *_wrong_groupings(expression)]


def _wrong_matchers(expression: str, recorded: Collection[str]) -> Iterator[str]:
    bare = _OTHER_WORDS.sub(" ", _GROUPING.sub(" ", expression))
    for name in set(_NAME.findall(_MATCHERS.sub(" ", bare))) - KEYWORDS:
        if labels_of(name) is None and name not in recorded:
            yield f"no metric {name}"
    for name, matchers in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^{}]*)\}", bare):
        known = (labels_of(name) or _level(name)) | GIVEN_BY_THE_SCRAPE
        for label, _, pattern in _MATCHER.findall(matchers):
            if label not in known:
                yield f"{name} has no label {label}"
            else:
                yield from _wrong_values(name, label, pattern)


def _wrong_values(name: str, label: str, pattern: str) -> Iterator[str]:
    family = _family(name)
    values = VALUES.get((family.name, label)) if family else None
    for value in pattern.split("|"):
        if values and value and value not in (*values, OTHER):
            yield f"{name} has no {label} {value}"


def _wrong_groupings(expression: str) -> Iterator[str]:
    every = {label for family in FAMILIES for label in family.labels} | GIVEN_BY_THE_SCRAPE | {"le"}
    for labels in _GROUPING.findall(expression):
        for label in filter(None, re.split(r"[\s,]+", labels)):
            if label not in every:
                yield f"nothing has a label {label}"


def labels_of(name: str) -> set[str] | None:
    """The labels of a metric by its exposed name; None when there is no such metric."""
    if name in OF_PROMETHEUS:
        return OF_PROMETHEUS[name]
    family = _family(name)
    if family is None:
        return None
    return {*family.labels, *(("le",) if name.endswith("_bucket") else ())}


def _level(name: str) -> set[str]:
    """The labels in the name of a recorded series, level:metric:operations."""
    return set(name.split(":")[0].split("_"))


def _family(name: str) -> Family | None:
    for family in FAMILIES:
        ends = _ENDS.get(family.type, ("",))
        if name in {f"{PREFIX}{family.name}{end}" for end in ends}:
            return family
    return None
