"""The part of a long text that is on the screen, and the keys that move it. Plain functions, no terminal.

Invariants:
- It never shows past the end: a text that gets shorter moves the part up.
- A key that means nothing changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from forwarder.client.order import ORDERS

_KEYS = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|[^\x1b]")
_UP, _DOWN = {b"\x1b[A", b"\x1bOA", b"k"}, {b"\x1b[B", b"\x1bOB", b"j"}
_PAGE_UP, _PAGE_DOWN = {b"\x1b[5~", b"b"}, {b"\x1b[6~", b" "}
_TO_TOP, _TO_END = {b"\x1b[H", b"\x1b[1~", b"\x1bOH", b"g"}, {b"\x1b[F", b"\x1b[4~", b"\x1bOF", b"G"}
_END = 1 << 30


class Viewport:
    """Begins at the top, in the first of ORDERS."""

    def __init__(self) -> None:
        self._top = 0
        self._height = 1
        self._order = 0

    @property
    def order(self) -> str:
        """One of ORDERS."""
        return [*ORDERS][self._order]

    def press(self, pressed: bytes) -> bool:
        """What was read from the terminal, maybe several keys at once; whether one of them leaves."""
        keys = _KEYS.findall(pressed)
        for key in keys:
            self._move(key)
        return not pressed or any(key in b"qQ" for key in keys)

    def _move(self, key: bytes) -> None:
        steps = ((_UP, -1), (_DOWN, 1), (_PAGE_UP, -self._height), (_PAGE_DOWN, self._height))
        for known, lines in (*steps, (_TO_TOP, -_END), (_TO_END, _END)):
            if key in known:
                self._top = max(0, self._top + lines)
        if key in b"sS":
            self._order = (self._order + 1) % len(ORDERS)
            self._top = 0

    def frame(self, lines: Sequence[str], height: int) -> list[str]:
        """At most ``height`` lines; the last one says how many are not shown, where some are not."""
        if len(lines) <= height:
            self._top = 0
            return list(lines)
        self._height = max(1, height - 1)
        self._top = min(self._top, len(lines) - self._height)
        below = len(lines) - self._top - self._height
        above = f", {self._top} above" if self._top else ""
        return [*lines[self._top : self._top + self._height], f"... and {below} lines more{above}"]
