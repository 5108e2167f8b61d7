"""The references in docs/ are what the code says now, and say something of everything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import MARK, PAGES, configuration, page
from forwarder.config import Config
from forwarder.metrics import FAMILIES
from forwarder.metrics.families import VALUES
from forwarder.targets import option_types
from tests.repository.test_examples import paths

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_is_current(name: str) -> None:
    path = ROOT / "docs" / name
    assert path.read_text().count(MARK) == 1
    assert path.read_text() == page(path), "make generate"


def settings_told() -> dict[str, str]:
    """Setting to what its row says last."""
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| (.*) \|$", configuration(), re.MULTILINE)
    return dict(rows)


def test_every_setting_says_what_it_does() -> None:
    silent = [name for name, sentence in settings_told().items() if not sentence.strip()]
    assert silent == [], "annotate the field with msgspec.Meta(description=...)"


def test_every_setting_of_the_types_has_a_row() -> None:
    wanted = {path for path in paths(Config) if path != "targets"}
    wanted |= {path for options in option_types().values() for path in paths(options)}
    assert settings_told().keys() == wanted


def test_the_values_of_labels_are_those_of_labels_that_exist() -> None:
    labels = {(family.name, label) for family in FAMILIES for label in family.labels}
    assert VALUES.keys() <= labels


@pytest.mark.parametrize("figure", ["112 us", "25.7 us", "8.7 times", "1.7 times"])
def test_every_page_tells_the_same_figures(figure: str) -> None:
    for path in (ROOT / "docs" / "comparison.md", ROOT / "docs" / "performance.md", ROOT / "README.md"):
        assert re.search(rf"\b{re.escape(figure)}", path.read_text()), path.name


def places(path: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")], ids=lambda path: path.name
)
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    for link, place in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
        target = path.parent / link if link else path
        assert target.exists(), link
        assert not place or place in places(target), (link, place)
