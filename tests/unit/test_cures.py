"""Every trouble of a closed set has its cure, and every cure its place in the runbook."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from forwarder.cures import OF_NOTES, OF_SET_ASIDE, OF_STATES, OF_STORAGE, RUNBOOK, Cure, Note
from forwarder.metrics.families import SET_ASIDE_REASONS
from forwarder.states import REASONS, State
from forwarder.storage.errors import translate

ROOT = Path(__file__).parents[2]
EVERY = [*OF_STATES.values(), *OF_SET_ASIDE.values(), *OF_STORAGE.values(), *OF_NOTES.values()]


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_reason_of_a_state_has_a_cure_and_no_other() -> None:
    wanted = {(state, reason) for state in State for reason in REASONS[state]} - {(State.OPEN, "")}
    assert set(OF_STATES) == wanted


def test_every_reason_why_events_are_set_aside_has_a_cure() -> None:
    assert set(OF_SET_ASIDE) == set(SET_ASIDE_REASONS) - {"released"}


def test_every_cause_of_trouble_of_a_running_storage_has_a_cure() -> None:
    codes = [getattr(sqlite3, name) for name in dir(sqlite3) if re.fullmatch(r"SQLITE_[A-Z]+", name)]
    causes = set()
    for code in codes:
        error = sqlite3.OperationalError("")
        error.sqlite_errorcode = code
        causes.add(translate(error).cause)
    assert {"io", "damaged", "locked", "other"} < causes
    assert causes - {"full"} <= set(OF_STORAGE), "full is named by what is full"


def test_every_note_has_a_cure() -> None:
    assert set(OF_NOTES) == set(Note)


@pytest.mark.parametrize("cure", EVERY, ids=lambda cure: cure.anchor)
def test_each_cure_has_its_section_in_the_runbook(cure: Cure) -> None:
    assert cure.anchor in anchors((ROOT / RUNBOOK).read_text())
    assert cure.text.endswith(".")


def test_each_section_about_a_state_a_storage_or_a_note_is_a_cure_s() -> None:
    page = (ROOT / RUNBOOK).read_text()
    told = {each for each in anchors(page) if re.match("(held|backing-off|storage|note)-", each)}
    assert told == {cure.anchor for cure in EVERY if not cure.anchor.startswith("forwarder")}
