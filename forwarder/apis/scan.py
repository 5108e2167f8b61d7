"""Counts the elements and levels of a JSON text without decoding it.

Invariants:
- Pure; no object is made for a value. Only brackets and commas outside of strings are looked at.
- Invalid JSON may be counted wrongly, but only after the point at which a decoder fails.
- Work comes in steps of at most ``CHUNK`` bytes, a few milliseconds for the most expensive text.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from itertools import accumulate
from operator import add
from typing import NamedTuple

CHUNK = 32 * 1024
_PIECE = 512

_SIGNS = b'"[]{},'
_OTHERS = bytes(sorted(set(range(256)) - set(_SIGNS)))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_BITS = bytes.maketrans(b"[]", b"10")
_PROFILES = [
    tuple(accumulate(1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1))) for byte in range(256)
]
"""Of eight brackets, an opening one a bit of 1: how many levels higher it is after each of them."""
_CHANGE = bytes(profile[-1] % 256 for profile in _PROFILES)
_HIGHEST = bytes(max(0, *profile) for profile in _PROFILES)
_drop_leaves = re.compile(rb"\[,*+\]").sub
_runs = re.compile(rb"\[+|\]+|,+").findall
_tokens = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[][{},]', re.DOTALL).finditer


class Chunk(NamedTuple):
    """A part of a text. ``inside``: it begins in a string. ``signs``: its brackets, all of them square, and
    its commas, outside of strings."""

    start: int
    end: int
    inside: bool
    signs: bytes


class Segment(NamedTuple):
    """A part of an array between two of its commas. ``single``: of one element, which has at least so many
    ``signs``."""

    start: int
    end: int
    single: bool = False
    signs: int = 0


def signs(data: bytes) -> Iterator[bytes]:
    """The brackets, all of them square, and commas of a JSON text outside of its strings; by chunks."""
    for chunk in _chunks(data):
        yield chunk.signs


def count_signs(data: bytes, limit: int) -> Generator[None, None, int]:
    """How many brackets and commas a text has outside of its strings, counted up to the limit or so."""
    count = 0
    if len(data) > limit:
        for found in signs(data):
            count += len(found)
            if count > limit:
                break
            yield
    return count


def _chunks(data: bytes) -> Iterator[Chunk]:
    view, start, inside = memoryview(data), 0, False
    while start < len(view):
        chunk = bytes(view[start : start + CHUNK])
        if (len(chunk) - len(chunk.rstrip(b"\\"))) % 2:  # never between a backslash and what it escapes
            chunk = bytes(view[start : start + CHUNK + 1])
        begin, start, began_inside = start, start + len(chunk), inside
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        # two quotes in a row end one string and begin another, or are one that is empty: nothing is lost
        chunk = chunk.translate(_SQUARE, _OTHERS).replace(b'""', b"")
        parts = chunk.split(b'"')
        inside ^= len(parts) % 2 == 0
        yield Chunk(begin, start, began_inside, b"".join(parts[began_inside::2]))


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


def segments(data: bytes, size: int) -> Iterator[Segment | None]:
    """An array in parts of whole elements, of ``size`` bytes to twice as many. None: a pause.

    An element that is larger by itself is a part of its own, ``single``. Between two parts is one comma; the
    last part ends with the text, and has the array's closing bracket in it. Each part must be decoded: only
    then is it known that the text is JSON.
    """
    last, depth, counted = data.index(b"[") + 1, 0, 0
    commas_in: tuple[Chunk, int] | None = None  # the last chunk with commas of the array, and its depth
    for chunk in _chunks(data):
        yield None
        before, found = depth, chunk.signs
        if depth == 0 and found:
            found, depth = found[1:], 1
        commas, _ = _walk(_drop_leaves(b"", _drop_leaves(b"", found)), 0, depth)
        if not commas:
            counted += len(found)
        else:
            if chunk.end - last >= size:
                cut = _comma(data, chunk, before, first=True)
                single = cut - last > 2 * size
                if single and commas_in is not None:  # something large is behind small ones
                    behind = _comma(data, *commas_in, first=False)
                    if behind >= last:
                        yield Segment(last, behind)
                        last = behind + 1
                yield Segment(last, cut, single, counted)
                last = cut + 1
            commas_in, counted = (chunk, before), 0
        depth += found.count(b"[") - found.count(b"]")
        if depth <= 0 and chunk.signs:
            break
    single = len(data) - last > 2 * size
    if single and commas_in is not None:
        behind = _comma(data, *commas_in, first=False)
        if behind >= last:
            yield Segment(last, behind)
            last = behind + 1
    yield Segment(last, len(data), single, counted)


def _comma(data: bytes, chunk: Chunk, depth: int, *, first: bool) -> int:
    """Where the first or the last comma of the array is, in a chunk that has one."""
    text = data[chunk.start : chunk.end]
    shift = chunk.start - chunk.inside
    place = -1
    for token in _tokens(b'"' + text if chunk.inside else text):
        sign = token[0]
        if sign in (b"[", b"{"):
            depth += 1
        elif sign in (b"]", b"}"):
            depth -= 1
        elif sign == b"," and depth == 1:
            place = token.start() + shift
            if first:
                break
    return place


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
            if depth + opening > limit and _highest(piece, depth) > limit:
                return True
            depth += 2 * opening - len(piece)
    return False


def _highest(piece: bytes, depth: int) -> int:
    """The highest level within these brackets, which begin at that depth; eight of them in one look-up."""
    length = -(-len(piece) // 8)
    packed = int(piece.translate(_BITS).ljust(8 * length, b"0"), 2).to_bytes(length, "big")
    before = accumulate(memoryview(packed.translate(_CHANGE)).cast("b"), initial=depth)
    highest: int = max(map(add, before, packed.translate(_HIGHEST)))
    return highest
