"""X-Ray's tracing header, from what HTTP requests and CloudEvents carry.

Pages: X-Ray developer guide, "Tracing header"; W3C Trace Context, "traceparent Header".

Invariants:
- What has not the right form gives no header: a broken trace never costs an event.
- ``traceparent`` goes before ``X-Amzn-Trace-Id``, which load balancers of AWS's add by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwarder.apis.put_events import MAX_TRACE_HEADER

TRACEPARENT, TRACE_ID = "traceparent", "X-Amzn-Trace-Id"

_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{8})([0-9a-f]{24})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.ASCII,
).fullmatch
_ROOT = re.compile(r"(?:[^;]+;)*\s*Root=1-[0-9a-f]{8}-[0-9a-f]{24}(?:;[!-~ ]*)?", re.ASCII).fullmatch
_SAMPLED = 0x01


def from_traceparent(text: str) -> str | None:
    """``Root=1-...;Parent=...;Sampled=...`` for a W3C traceparent."""
    found = _PARENT(text.strip())
    if found is None or (found[1] == "00" and found[6]):  # only later versions may say more
        return None
    return f"Root=1-{found[2]}-{found[3]};Parent={found[4]};Sampled={int(found[5], 16) & _SAMPLED}"


def from_headers(headers: Mapping[str, str]) -> str | None:
    """The tracing header of a request's own headers."""
    parent = headers.get(TRACEPARENT)
    made = from_traceparent(parent) if parent is not None else None
    if made is not None:
        return made
    given = headers.get(TRACE_ID)
    return given if given is not None and len(given) <= MAX_TRACE_HEADER and _ROOT(given) else None
