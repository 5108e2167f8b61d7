"""The nearest right word for a wrong one, how a message suggests it, and how it lists and counts things.

Invariants:
- Case and the choice between ``-`` and ``_`` never make two words different.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 3


def nearest(given: str, known: Iterable[str]) -> str:
    """The known word that ``given`` was probably meant to be; "" when none is close."""
    words = {_folded(word): word for word in known}
    close = difflib.get_close_matches(_folded(given), words, 1)
    return words[close[0]] if close else ""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence to append to an error, with a space in front; "" when no known word is close."""
    close = nearest(given, known)
    return f' Did you mean "{close}"?' if close else ""


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many there are beyond them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def plural(count: int, noun: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def others(names: Sequence[str]) -> str:
    """The names besides the first, to append to a message about the first; "" when there are none."""
    if len(names) < 2:
        return ""
    return f" (the same for {listed(names[1:], SHOWN)})"


def _folded(word: str) -> str:
    return word.casefold().replace("-", "_")
