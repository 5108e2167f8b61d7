"""Which content types mean JSON, and which one event per line.

Invariants:
- A sender is believed when it names no type, or one that clients send without being asked (curl's default,
  a browser's beacon): then the body decides. A type that names another format is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from forwarder.ingest.dialects.errors import MEDIA_TYPE, BadRequest

LINES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
JSON = frozenset(
    {
        "",
        "application/json",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/json",
        "text/plain",
    }
)
ACCEPT = {"Accept": "application/json, application/x-ndjson"}
_seen: dict[str, bool] = {"": False, "application/json": False, "application/x-amz-json-1.1": False}
_MAX_SEEN = 100


def holds_lines(headers: Mapping[str, str]) -> bool:
    """Whether the body holds one event per line; BadRequest when it is no JSON at all."""
    content_type = headers.get("Content-Type", "")
    known = _seen.get(content_type)
    return _judge(content_type) if known is None else known


def _judge(content_type: str) -> bool:
    plain = content_type.partition(";")[0].strip().lower()
    lines = plain in LINES
    if not lines and plain not in JSON and not plain.endswith("+json"):
        message = f"Content-Type {plain!r} is not taken here; send application/json or application/x-ndjson."
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    if len(_seen) < _MAX_SEEN:
        _seen[content_type] = lines
    return lines
