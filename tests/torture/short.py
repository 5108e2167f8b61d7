"""A torture of some seconds as one test, for ``make mutants``: whether the judge sees what was broken.

pytest does not find this file by itself; ``make torture`` is the real thing.
"""

from __future__ import annotations

import tempfile

import pytest

from tests.torture.run import main


def test_a_short_torture_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ("--seed", "1", "--rounds", "1", "--kills", "5", "--events", "5000", "--disks", "large")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are too long for the path of a socket
        monkeypatch.setattr(tempfile, "tempdir", folder)
        assert main(short) == 0
