"""Events of every kind as a sender writes them, and what a test reads back of them.

Invariants:
- Every event carries a marker that the test chose; what arrived is judged by the markers alone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

KINDS = ("eventbridge", "rum", "evidently")
TARGETS = {"eventbridge": "orders", "rum": "web", "evidently": "features"}
MONITOR = "00000000-0000-4000-8000-0000000000aa"
SESSION = "00000000-0000-4000-8000-0000000000cc"

Event = dict[str, Any]

_numbers = itertools.count(1)


def markers(count: int) -> list[str]:
    """Words that no other event has."""
    return [f"marker-{next(_numbers)}" for _ in range(count)]


def event(kind: str, marker: str, word: str | None = None, **fields: Any) -> Event:
    """One native event; ``word`` orders its fate from the sandbox."""
    data = {"marker": marker} if word is None else {"marker": marker, "sandbox": word}
    made: Event
    if kind == "eventbridge":
        made = {"Source": "test.shop", "DetailType": "order", "Detail": data}
    elif kind == "rum":
        made = {"type": "test_event", "details": data, "UserDetails": {"sessionId": SESSION}}
    else:
        made = {"type": "aws.evidently.custom", "data": data}
    return {**made, **fields}


def events(kind: str, names: Iterable[str], **fields: Any) -> list[Event]:
    return [event(kind, name, **fields) for name in names]


def marker_of(entry: Event) -> str:
    """The marker in an entry as AWS gets it, where the data is JSON in a string."""
    text = entry.get("Detail") or entry.get("details") or entry.get("data")
    assert isinstance(text, str), entry
    return str(json.loads(text)["marker"])


def chunks(items: Sequence[Event], size: int) -> list[list[Event]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]
