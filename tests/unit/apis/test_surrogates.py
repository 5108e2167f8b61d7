"""Halves of surrogate pairs: long texts are changed in steps, at whose edges no escape is torn apart."""

from __future__ import annotations

from collections.abc import Generator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.apis import surrogates

RAW = msgspec.json.Decoder(msgspec.Raw)
PIECES = ("\\\\", "\\u0041", "\\ud83d\\ude00", "\\ud800", "\\uDFFF", "u", "ud8", '\\"', "x", "\ue000", "\\n")


@pytest.fixture(autouse=True, scope="module")
def _small_slices() -> Generator[None, None, None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogates, "_SLICE", 7)
        yield


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_a_text_in_slices_comes_back_byte_for_byte(pieces: list[str]) -> None:
    data = f'"{"".join(pieces)}\\ud800"'.encode()
    assert bytes(surrogates.decode(RAW, data)) == data


def test_backslashes_are_exchanged_in_steps() -> None:
    data = b'"' + b"\\\\" * 700 + b'\\ud800"'
    assert sum(1 for _ in surrogates._exchange(data, [(b"d8", b"e8")])) >= len(data) // 10
