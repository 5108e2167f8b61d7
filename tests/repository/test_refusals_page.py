"""``docs/security.md`` has a row for every reason for which ingest refuses, and names settings that exist."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from forwarder.config import Config
from forwarder.metrics.families import FAMILIES, PREFIX, REFUSAL_REASONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
OUR_MISTAKE = {500}


def section() -> str:
    text = PAGE.read_text()
    return text.partition("## What is refused, and what lifts it")[2].partition("\n## ")[0]


def rows() -> list[list[str]]:
    lines = [line for line in section().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_every_reason_has_a_row_and_no_row_has_another_reason() -> None:
    said = {reason for row in rows() for reason in re.findall(r"`(\w+)`", row[2])}
    assert said == set(REFUSAL_REASONS)


def test_every_row_says_what_is_refused_and_what_lifts_it() -> None:
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row


def test_every_status_of_a_refusal_in_ingest_has_a_row() -> None:
    said = {int(status) for row in rows() for status in re.findall(r"\d{3}", row[0])}
    raised = set(statuses())
    assert raised - OUR_MISTAKE <= said
    assert said - raised <= {400, 404, 505}  # the status is a variable there


def statuses() -> Iterator[int]:
    """The first argument of each ``BadRequest(...)`` in ingest, as far as it is a number."""
    for path in (ROOT / "forwarder" / "ingest").rglob("*.py"):
        gc.disable()  # ast.parse of Python 3.11 may fail when a collection runs within it (gh-106905)
        try:
            tree = ast.parse(path.read_text())
        finally:
            gc.enable()
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            first = node.args[0] if node.args else None
            if node.func.id == "BadRequest" and isinstance(first, ast.Constant):
                assert isinstance(first.value, int)
                yield first.value


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:ingest|admin|storage)\.[\w.]+)`", section()))))
def test_every_setting_that_is_named_exists(path: str) -> None:
    struct = Config
    for part in path.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
        assert part in fields
        struct = fields[part]


@pytest.mark.parametrize("name", sorted(set(re.findall(rf"`{PREFIX}(\w+)`", section()))))
def test_every_metric_that_is_named_exists(name: str) -> None:
    assert name in {family.name for family in FAMILIES}
