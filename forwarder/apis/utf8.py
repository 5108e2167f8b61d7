"""What is wrong with bytes that are not UTF-8, in words.

Invariants:
- The byte is named, with the encoding that it most likely is in and what to do.
"""

from __future__ import annotations

import msgspec

_FIRST_LATIN_1 = 0xA0
"""Below it Latin-1 has control characters."""
_SURROGATE, _FIRST_SECOND = 0xED, 0xA0
"""A surrogate in CESU-8 begins with the first, and goes on with the second or a higher byte."""


def fault(data: bytes | msgspec.Raw) -> str:
    """Of bytes that are looked at from their beginning; "" when they are UTF-8. Without a full stop."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as problem:
        return described(problem, problem.start)
    return ""


def place(data: bytes) -> int:
    """Of the first byte that is not UTF-8; -1 when there is none."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as problem:
        return problem.start
    return -1


def described(problem: UnicodeDecodeError, place: int) -> str:
    """``place``: of the byte in what the sender sent; -1 when it is not known."""
    at = f" (byte {place})" if place >= 0 else ""
    return f"not valid UTF-8{at}: {_byte(problem.object, problem.start)}. Send UTF-8"


def _byte(data: bytes, at: int) -> str:
    byte = data[at]
    said = f"0x{byte:02X}"
    if byte == _SURROGATE and data[at + 1 : at + 2] >= bytes([_FIRST_SECOND]):
        return f"{said} is the first byte of a surrogate, as in CESU-8 and Java's modified UTF-8"
    if byte < _FIRST_LATIN_1:
        return f"{said} cannot start a character"
    return f"{said} is {chr(byte)} in Latin-1 (ISO 8859-1), or the first byte of a character that was cut"
