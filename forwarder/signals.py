"""Signals that arrive before the event loop can handle them.

As PID 1 of a container a process ignores SIGTERM until it has a handler; anywhere else SIGHUP would end it.
Importing the daemon takes most of a second, so handlers that only take a note are installed first.

Invariants:
- Imports nothing but the standard library's small modules: it runs before everything else.
"""

from __future__ import annotations

import signal
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
_noted: set[int] = set()


def note() -> None:
    """From now on remember the signals that stop or reload the daemon."""
    for number in (*STOPS, signal.SIGHUP):
        signal.signal(number, _remember)


def _remember(number: int, _frame: FrameType | None) -> None:
    _noted.add(number)


def stop_noted() -> bool:
    return not _noted.isdisjoint(STOPS)


def reload_noted() -> bool:
    return signal.SIGHUP in _noted
