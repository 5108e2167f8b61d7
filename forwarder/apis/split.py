"""Splits a JSON array or object at its commas, when something in it is not JSON.

Invariants:
- A part may be anything with proper strings and brackets: a decoder that looks at it alone says what is
  wrong.
- Where it is not certain where a part ends, nothing is split (``Unsplittable``): results that stand for the
  wrong events would be worse than none.
- Work comes in steps of at most ``STEP`` bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

SPACE = b" \t\r\n"
_STRING = rb'"(?:[^"\\]++|\\.)*+"(?=[\s,:}\]]|\Z)'
"""A quote with a letter behind it begins a string and ends none: one before it is missing."""
_FLAT = rb'\{[^{}\[\]"]*+(?:%b[^{}\[\]"]*+)*+\}' % _STRING
_next = re.compile(
    rb'(?:[^"{}\[\],]++|%b|%b)*+(?:([\[{]++|[\]}]++|,)|("(?:[^"\\]++|\\.)*+)\Z|(")|\Z)' % (_STRING, _FLAT),
    re.DOTALL,
).finditer
_end_of_string = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL).match
_name = re.compile(rb'[ \t\r\n]*+("(?:[^"\\]++|\\.)*+")[ \t\r\n]*+:', re.DOTALL).match
_OPENING, _CLOSING = (b"[", b"{"), (b"]", b"}")
_AFTER_STRINGS = b" \t\r\n\v\f,:}]"
_SIGN, _OPEN, _BAD = 1, 2, 3
STEP = 8 * 1024

Span = tuple[int, int]


class Unsplittable(ValueError):
    """What is wrong, with the byte at which it is."""


def split(data: bytes, start: int, end: int, *, closed: bool = True) -> Iterator[Span | None]:
    """Where the parts are of an array or object that begins at ``start`` and ends at ``end``, or before it
    with space after it. None: a pause.

    Not ``closed``: it ends behind its last part, without a bracket.
    """
    begin, depth, opened, place = start + 1, 1, -1, end
    at = begin
    while at < end and depth:  # no token is kept: so many objects would set off the garbage collector
        upto, text = _text(data, at, end)
        inside, opened = _end_of_open(text, opened)
        for token in _next(text, inside) if opened < 0 else ():
            sign = token[_SIGN]
            if sign is None:
                opened = max(opened, _opened(token, at))  # an empty token comes last
            elif sign == b",":
                if depth == 1:
                    place = at + token.start(_SIGN)
                    yield _part(data, begin, place)
                    begin = place + 1
            elif sign[:1] in _OPENING:
                depth += 1 if sign in _OPENING else len(sign)
            else:
                before = depth
                depth -= 1 if sign in _CLOSING else len(sign)
                if depth <= 0:
                    depth, place = 0, at + token.start(_SIGN) + before - 1
                    break
        if opened < 0 and depth and text.endswith(b'"') and data[upto : upto + 1] not in _AFTER_STRINGS:
            raise _bad_string(upto - 1)
        yield None
        at = upto
    if opened >= 0:
        raise _bad_string(opened)
    if not depth:
        if begin > start + 1 or data[begin:place].strip(SPACE):
            yield _part(data, begin, place)
        _check_end(data, place + 1, end)
    elif closed or depth > 1:
        raise Unsplittable(f"it ends too early (byte {end})")
    else:
        yield _part(data, begin, end)


def members(data: bytes) -> Iterator[tuple[str, Span, Span] | None]:
    """The name of each member of an object, where the member is, and where its value is. None: a pause."""
    start = len(data) - len(data.lstrip(SPACE))
    if data[start : start + 1] != b"{":
        raise Unsplittable(f"expected an object (byte {start})")
    for part in split(data, start, len(data)):
        if part is None:
            yield None
            continue
        found = _name(data, *part)
        if found is None:
            raise Unsplittable(f"expected a member's name and a value (byte {part[0]})")
        try:
            name = msgspec.json.decode(found[1], type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            name = ""
        yield name, part, (found.end(), part[1])


def _end_of_open(text: bytes, opened: int) -> tuple[int, int]:
    """Where a string ends that began at ``opened``, before the text, and -1; else where it began."""
    if opened < 0:
        return 0, -1
    found = _end_of_string(text)
    assert found is not None  # it matches anything
    if not found[1]:
        return found.end(), opened
    if text[found.end() : found.end() + 1] not in _AFTER_STRINGS:
        raise _bad_string(opened)
    return found.end(), -1


def _opened(token: re.Match[bytes], at: int) -> int:
    """Where the string begins that the text ends in; -1 when it ends in none."""
    if token[_BAD]:
        raise _bad_string(at + token.start(_BAD))
    return at + token.start(_OPEN) if token[_OPEN] else -1


def _text(data: bytes, start: int, end: int) -> tuple[int, bytes]:
    """A part of the text and its end, which is never between a backslash and what it escapes."""
    upto = min(start + STEP, end)
    text = data[start:upto]
    if (len(text) - len(text.rstrip(b"\\"))) % 2:
        upto = min(upto + 1, end)
        text = data[start:upto]
    return upto, text


def _bad_string(place: int) -> Unsplittable:
    return Unsplittable(f"a string is not closed, or a quote in it is not escaped (near byte {place})")


def _part(data: bytes, begin: int, end: int) -> Span:
    if not data[begin:end].strip(SPACE):
        raise Unsplittable(f"a value is missing (byte {begin})")
    return begin, end


def _check_end(data: bytes, place: int, end: int) -> None:
    rest = data[place:end]
    if rest.strip(SPACE):
        raise Unsplittable(f"trailing characters (byte {end - len(rest.lstrip(SPACE))})")
