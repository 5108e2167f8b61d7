"""What AWS takes and answers, as literal requests, numbers and answers, each with the page it comes from.

The judge of our ingest, our size code, our reading of answers, and our sandbox; so nothing here imports the
forwarder, and nothing is computed by it.
"""

from __future__ import annotations

import json
from typing import Any, NotRequired, TypedDict


class Request(TypedDict):
    """An HTTP request, but for the host and the headers of its signature."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Expect(TypedDict):
    """``code`` and ``message`` of a call refused as a whole; else ``results``, one for each entry.

    A result is None when the entry is taken, else its code and message; an empty message: AWS's words are not
    known. Calls of APIs without results, that are taken, have an empty list.
    """

    status: int
    code: NotRequired[str]
    message: NotRequired[str]
    results: NotRequired[list[tuple[str, str] | None]]


class Case(TypedDict):
    """A request, and AWS's answer to it."""

    name: str
    page: str
    request: Request
    expect: Expect


class Answer(TypedDict):
    """A 200 answer to ``count`` entries, and what it means for each of them.

    A meaning is ``delivered``, ``retry`` or ``rejected``; None for all: this is no answer of the API's.
    """

    name: str
    page: str
    count: int
    body: bytes
    means: list[str] | None


class Error(TypedDict):
    """An answer that refuses the call. It means ``throttled``, ``unavailable``, ``held`` or ``refused``."""

    name: str
    page: str
    status: int
    headers: dict[str, str]
    body: bytes
    code: str
    message: str
    means: str


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
