"""Tells JSON values apart that follow one another, where one of them is no JSON.

Invariants:
- Only brackets, strings and line ends are looked at, so a value may be anything: a decoder that looks at it
  alone says what is wrong.
- A value ends where its brackets close. If they never do, it ends before the next line that begins with a
  bracket, else with its line.
- Where a string or a bracket is not closed, nobody knows which brackets count: then the rest of the line is
  one value, which says why (``Inseparable``).
- Whatever separates values in practice belongs to none of them, and is no value.
- Linear in the length of the text, in steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import msgspec

STEP = 1024
"""Values that are told apart in one step."""
CHUNK = 8 * 1024
"""Bytes that are looked at in one step."""

_STRING = rb'"(?:[^"\\\n]++|\\[^\n])*+"(?=[\s,:}\]]|\Z)'
"""A quote with a letter behind it begins a string and ends none: one before it is missing."""
_next = re.compile(rb'(?:[^"{}\[\]\n]++|%b)*+(?:([\[{]++)|([\]}]++)|(\n)|(")|\Z)' % _STRING).finditer
_other = re.compile(rb'(?:[^"{\[\n]++|%b)++' % _STRING).match
_in_string = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+').match
_closing_quote = re.compile(rb'"(?=[\s,:}\]]|\Z)').match
_space = re.compile(rb"[ \t\r\n]*+").match
_separators = re.compile(rb"(?:[ \t\r\n\x1e,]|\xef\xbb\xbf)*+").match
"""Space; the record separator of JSON text sequences (RFC 7464); a byte order mark, where files were joined;
a comma, where an array lacks its brackets. None of them begins or ends a value."""
_BEGINNINGS = (b"{", b"[", b"\x1e")
_OPENING, _CLOSING, _LINE, _QUOTE = 1, 2, 3, 4
_OPEN_STRING = "a string in it is not closed, or a quote in it is not escaped"
_OPEN_BRACKET = "a bracket in it is not closed"


_Match = Callable[[bytes, int], re.Match[bytes] | None]


class Inseparable(msgspec.Struct):
    """The rest of a line, from a value on that has no certain end. ``why``: it has none."""

    data: bytes
    why: str


class _End(NamedTuple):
    """Where a value ends, why that is not certain if it is not, and bytes that were looked at in vain."""

    place: int
    why: str = ""
    wasted: int = 0


Value = bytes | Inseparable


def apart(text: bytes, start: int, end: int, most: int) -> Generator[None, None, tuple[Sequence[Value], int]]:
    """The values that begin between ``start`` and ``end``, ``most`` and one more at most, and where the last
    of them ends."""
    found: list[Value] = []
    spare, at = len(text) - start, _behind(_separators, text, start)
    while at < end and len(found) <= most:
        ends = yield from _end(text, at, may_span=spare > 0)
        spare -= ends.wasted
        part = text[at : ends.place].rstrip()
        found.append(Inseparable(part, ends.why) if ends.why else part)
        at = _behind(_separators, text, ends.place)
        if len(found) % STEP == 0:
            yield
    return found, max(at, end) if len(found) <= most else at


def has_several(text: bytes) -> Generator[None, None, bool]:
    """Whether something follows the first value of a text."""
    at = _behind(_separators, text, 0)
    if at == len(text):
        return False
    ends = yield from _end(text, at, may_span=True)
    return _behind(_space, text, ends.place) < len(text)


def _end(text: bytes, at: int, *, may_span: bool) -> Generator[None, None, _End]:
    """Where the value ends that begins here."""
    if text[at : at + 1] not in (b"{", b"["):
        return (yield from _end_of_other(text, at))
    depth, line_end, place = 0, 0, at
    while place < len(text):
        place = min(upto := place + CHUNK, len(text))
        for token in _next(text, upto - CHUNK, place):
            kind = token.lastindex
            if kind == _OPENING:
                depth += len(token[_OPENING])
            elif kind == _CLOSING:
                before, depth = depth, depth - len(token[_CLOSING])
                if depth <= 0:
                    return _End(token.start(_CLOSING) + before)
            elif kind == _QUOTE:
                quote = token.start(_QUOTE)
                place = yield from _end_of_string(text, quote)
                if not place:
                    return _End(line_end or _line_end(text, at), _OPEN_STRING, quote - at if line_end else 0)
                break
            elif kind == _LINE:
                if not may_span or text[token.end() : token.end() + 1] in _BEGINNINGS:
                    return _End(token.start(_LINE), _OPEN_BRACKET)
                line_end = line_end or token.start(_LINE)
        yield
    return _End(line_end or len(text), _OPEN_BRACKET, len(text) - at if line_end else 0)


def _end_of_other(text: bytes, at: int) -> Generator[None, None, _End]:
    """Where something ends that is no array and no object."""
    place = at
    while (found := _other(text, place, place + CHUNK)) is not None:
        if found.end() < place + CHUNK:
            return _End(found.end())
        place = found.end()
        yield
    return _End(_line_end(text, at), _OPEN_STRING) if text[place : place + 1] == b'"' else _End(place)


def _end_of_string(text: bytes, quote: int) -> Generator[None, None, int]:
    """Where the string ends that begins here; 0 when it does not."""
    at, before = quote + 1, -1
    while at > before:
        found = _in_string(text, at, at + CHUNK)
        assert found is not None  # it matches anything
        before, at = at, found.end()
        if at < before + CHUNK - 1:
            break
        yield
    return at + 1 if _closing_quote(text, at) else 0


def _line_end(text: bytes, at: int) -> int:
    """Where the line ends that holds this place."""
    found = text.find(b"\n", at)
    return len(text) if found < 0 else found


def _behind(between: _Match, text: bytes, at: int) -> int:
    found = between(text, at)
    assert found is not None  # it matches anything
    return found.end()
