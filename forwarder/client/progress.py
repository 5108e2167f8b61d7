"""A line on stderr that tells how far a command is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from forwarder.client.connecting import can_rewrite

PROGRESS_SECONDS = 1.0


class Progress:
    """Rewritten in place on a terminal, else said once at the end. ``text`` is told the seconds so far."""

    def __init__(self, text: Callable[[float], str]) -> None:
        self._text = text
        self._began = self._last = time.monotonic()

    def maybe(self) -> None:
        now = time.monotonic()
        if can_rewrite(sys.stderr) and now - self._last >= PROGRESS_SECONDS:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{self._now()}")
            sys.stderr.flush()

    def end(self) -> None:
        start = "\r\x1b[K" if can_rewrite(sys.stderr) else ""
        sys.stderr.write(f"{start}{self._now()}\n")

    def _now(self) -> str:
        return self._text(max(time.monotonic() - self._began, 1e-3))
