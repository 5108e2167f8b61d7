"""``forwarder status --watch``: when it reads keys."""

from __future__ import annotations

import sys

import pytest

from forwarder.client import watching


def test_without_a_standard_input_no_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert not watching._has_the_keys()
