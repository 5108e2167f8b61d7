"""A torture of some seconds as one test, for ``make mutants``: whether the judge sees what was broken.

pytest does not find this file by itself; ``make torture`` is the real thing.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.torture.run import main


def test_a_short_torture_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    short = ("--seed", "1", "--rounds", "1", "--kills", "5", "--events", "5000", "--disks", "large")
    assert main(short) == 0
