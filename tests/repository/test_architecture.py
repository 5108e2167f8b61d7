"""docs/architecture.md names what is there: every file, and every package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/.-]+(?:\.py|/))`", PAGE)))
PACKAGES = sorted(each.parent.name for each in (ROOT / "forwarder").glob("*/__init__.py"))


@pytest.mark.parametrize("name", NAMED)
def test_every_file_that_it_names_is_there(name: str) -> None:
    places = (ROOT / name, ROOT / "forwarder" / name, ROOT / "tests" / "unit" / "delivery" / name)
    assert any(place.exists() for place in places)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_has_a_row(name: str) -> None:
    assert re.search(rf"^\|.*`{name}/`", PAGE, re.MULTILINE)


def test_every_function_that_it_names_beside_a_file_is_in_that_file() -> None:
    pairs = re.findall(r"`(?:\w+\.)?(\w+)` in `([\w/]+\.py)`", PAGE)
    assert pairs
    missing = [pair for pair in pairs if pair[0] not in (ROOT / "forwarder" / pair[1]).read_text()]
    assert missing == []
