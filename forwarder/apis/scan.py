"""JSON looked over without decoding it: how many elements it has, how deep it is.

Invariants:
- Pure; no object is made for a value. Only brackets and commas outside of strings are looked at.
- Text that is no JSON may be counted wrongly, but never a part of it that a decoder gets through: where the
  two part, the decoder stops.
- Work comes in steps of at most ``CHUNK`` bytes, a few milliseconds for the dearest of texts.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from itertools import accumulate

CHUNK = 32 * 1024
_PIECE = 256
_PEELS = 4

_SIGNS = b'"[]{},'
_OTHERS = bytes(sorted(set(range(256)) - set(_SIGNS)))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
_drop_leaves = re.compile(rb"\[,*+\]").sub
_runs = re.compile(rb"\[+|\]+|,+").findall


def signs(data: bytes) -> Iterator[bytes]:
    """The brackets, all of them square, and commas of a JSON text outside of its strings; by chunks."""
    view, start, inside = memoryview(data), 0, False
    while start < len(view):
        chunk = bytes(view[start : start + CHUNK])
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:  # never between a backslash and what it escapes
            chunk = bytes(view[start : start + CHUNK + 1])
        start += len(chunk)
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        # two quotes in a row end one string and begin another, or are one that is empty: nothing is lost
        chunk = chunk.translate(_SQUARE, _OTHERS).replace(b'""', b"")
        parts = chunk.split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0


def elements(data: bytes, limit: int) -> Generator[None, None, int]:
    """At least as many as the elements of a JSON array or object, and more than ``limit`` only if they are.

    Commas are counted first, which are more than enough for most texts.
    """
    commas = data.count(b",")
    if commas < limit:
        return commas + 1
    count, depth = 1, 0
    for found in signs(data):
        yield
        if depth == 0 and found:
            found, depth = found[1:], 1
        count, depth = _walk(_drop_leaves(b"", _drop_leaves(b"", found)), count, depth)
        if count > limit or depth == 0:
            break
    return count


def _walk(found: bytes, count: int, depth: int) -> tuple[int, int]:
    """Count the commas at depth 1; a depth of 0 is the end."""
    closing, opening = found.count(b"]"), found.count(b"[")
    if depth - closing > 1:
        return count, depth + opening - closing
    if not closing and not opening:
        return (count + len(found) if depth == 1 else count), depth
    for run in _runs(found):
        if run[0] == 0x2C:  # a comma
            count += len(run) if depth == 1 else 0
        elif run[0] == 0x5B:  # [
            depth += len(run)
        else:
            depth -= len(run)
            if depth <= 0:
                return count, 0
    return count, depth


def is_deeper(data: bytes, limit: int) -> bool:
    """Whether a JSON text has more than ``limit`` levels. At once, so for bounded texts."""
    if data.count(b"{") + data.count(b"[") <= limit:
        return False
    depth = 0
    for found in signs(data):
        found = found.translate(None, b",")
        for start in range(0, len(found), _PIECE):
            piece = found[start : start + _PIECE]
            opening = piece.count(b"[")
            if depth + opening > limit and _reaches(piece, depth, limit):
                return True
            depth += 2 * opening - len(piece)
    return False


def _reaches(piece: bytes, depth: int, limit: int) -> bool:
    """Whether these brackets, from that depth on, go beyond the limit."""
    peeled = piece
    for peels in range(1, _PEELS + 1):  # each takes the innermost level off
        peeled = peeled.replace(b"[]", b"")
        if depth + peeled.count(b"[") + peels <= limit:
            return False
    return max(accumulate(memoryview(piece.translate(_STEPS)).cast("b"), initial=depth)) > limit
