"""What is wrong with JSON that cannot be decoded, in a sentence.

Invariants:
- Each fault has one sentence, in every dialect, with the byte at which it is where that is known.
"""

from __future__ import annotations

import re

import msgspec

from forwarder.apis import utf8
from forwarder.apis.split import Unsplittable
from forwarder.apis.surrogates import HalfPair

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, HalfPair, Unsplittable)
_TRUNCATED = "truncated"
_place = re.compile(r"\(byte \d+(?=\))").sub


def sentence(problem: Exception, data: bytes | msgspec.Raw) -> str:
    """``data``: what was to be decoded. Without a full stop."""
    if isinstance(problem, RecursionError):
        return "JSON is nested too deeply"
    if isinstance(problem, UnicodeDecodeError):
        return f"JSON is {utf8.described(problem, _place_of(problem, bytes(data)))}"
    said = str(problem)
    if isinstance(problem, Unsplittable):
        return f"JSON is malformed: {said}"
    if said.endswith(_TRUNCATED):
        return f"JSON is malformed: it ends too early (byte {memoryview(data).nbytes})"
    return said


def _place_of(problem: UnicodeDecodeError, data: bytes) -> int:
    """The decoder counts from the beginning of a string, after its escapes were undone. -1: nowhere."""
    start = data.find(problem.object)
    return utf8.place(data) if start < 0 else start + problem.start


def of_event(problem: Exception, data: bytes | msgspec.Raw) -> str:
    """The same about one event of several, whose bytes are counted from its beginning."""
    return _place(lambda found: f"{found[0]} of the event", f"{sentence(problem, data)}.")
