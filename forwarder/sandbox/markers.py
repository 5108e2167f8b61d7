"""Markers: words in an event's own data that order its fate, so that a test reads as a sentence.

An event is marked when the JSON object it carries (``Detail``, ``data`` or ``details``) has a member
``"sandbox"`` whose value is one of the words below; any other value means nothing.

Invariants:
- An event that is not marked costs one substring search.
- Identity over tries is the digest of the entry, so a marked event is the same one however it comes again.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Word = Literal["reject", "refuse", "fail-once", "fail-twice", "throttle-once"]

TIMES: dict[Word, int] = {"fail-once": 1, "fail-twice": 2, "throttle-once": 1}
"""How often a word that wears off strikes each event; the others always do."""


class _Marked(msgspec.Struct):
    sandbox: Word


_DECODER = msgspec.json.Decoder(_Marked)


def word(text: str) -> Word | None:
    """The marker in an event's JSON text, if it carries one."""
    if '"sandbox"' not in text:
        return None
    try:
        return _DECODER.decode(text).sandbox
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class Strikes:
    """How often each marked event was struck already."""

    __slots__ = ("_struck",)

    def __init__(self) -> None:
        self._struck: dict[bytes, int] = {}

    def strike(self, marker: Word, digest: bytes) -> bool:
        """Whether the word strikes this time; counts it."""
        times = TIMES.get(marker)
        if times is None:
            return True
        struck = self._struck.get(digest, 0)
        self._struck[digest] = struck + 1
        return struck < times

    def clear(self) -> None:
        self._struck.clear()
