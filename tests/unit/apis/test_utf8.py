"""Bytes that are not UTF-8: the sentence names the byte, its most likely encoding, and what to send."""

from __future__ import annotations

import msgspec
import pytest

from forwarder.apis import utf8


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b'"caf\xe9"',
            "(byte 4): 0xE9 is é in Latin-1 (ISO 8859-1), or the first byte of a character that was cut. "
            "Send UTF-8",
        ),
        (b'"\xc3"', "(byte 1): 0xC3 is Ã in Latin-1"),
        (b'"\x93quoted\x94"', "(byte 1): 0x93 cannot start a character. Send UTF-8"),
        (
            b'"\xed\xa0\xbd"',
            ("(byte 1): 0xED is the first byte of a surrogate, as in CESU-8 and Java's modified UTF-8"),
        ),
        (b'"\xed"', "(byte 1): 0xED is í in Latin-1"),
        (b"\xff", "(byte 0): 0xFF is ÿ in Latin-1"),
    ],
)
def test_a_byte_that_is_not_utf_8_is_named_with_its_place_and_most_likely_encoding(
    data: bytes, said: str
) -> None:
    for given in (data, msgspec.Raw(data)):
        assert utf8.fault(given).startswith(f"not valid UTF-8 {said}")


def test_utf_8_has_no_fault() -> None:
    assert utf8.fault("é\U0001f600".encode()) == ""
