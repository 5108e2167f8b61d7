"""Which content types mean JSON, and which one event per line.

Invariants:
- A sender is believed when it names no type, or one that clients send without being asked (curl's default,
  a browser's beacon): then the body decides. A type that names another format is refused.
- ``application/json`` says no more than that: Fluent Bit (``json_stream``) and rsyslog (batches by line) send
  several values with it, so of such a body the dialect reads what is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwarder.ingest.errors import MEDIA_TYPE, BadRequest

_LINES = re.compile(
    r"(?:application|text)/(?:x-)?(?:ndjson|nd-json|jsonl|jsonlines|json-lines|ldjson|json-stream|stream\+json"
    r"|newline-delimited-json)"
    r"|application/(?:[a-z0-9.!#$&^_-]+\+(?:x-)?(?:ndjson|jsonl|json-seq)|json-seq)"
).fullmatch
"""JSON per line has no registered type, so there are several: ``x-ndjson`` (Vector, Fluent Bit, Fluentd, and
``vnd.elasticsearch+x-ndjson`` of Elastic's clients), ``jsonl``, ``stream+json`` (Spring), ``x-ldjson``.
``json-seq`` (RFC 7464) has a separator before each."""
JSON = frozenset(
    {
        "",
        "*/*",
        "application/javascript",
        "application/json",
        "application/jsonrequest",
        "application/octet-stream",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
        "application/x-javascript",
        "application/x-json",
        "application/x-www-form-urlencoded",
        "text/javascript",
        "text/json",
        "text/plain",
        "text/x-javascript",
        "text/x-json",
    }
)
"""The names that JSON had before it was registered, and what clients send that know no type: ``text/plain``
(Telegraf, NXLog, Logstash with ``format: message``), ``application/octet-stream`` (Redpanda Connect),
``application/x-www-form-urlencoded`` (curl, and syslog-ng by it)."""
ACCEPT = {"Accept": "application/json, application/x-ndjson"}
_seen: dict[str, bool] = {"": False, "application/json": False, "application/x-amz-json-1.1": False}
_MAX_SEEN = 100
_MAX_NAMED = 100


def is_lines(plain: str) -> bool:
    """Whether a media type, in lower case and without parameters, means one JSON value per line."""
    return _LINES(plain) is not None


def holds_lines(headers: Mapping[str, str]) -> bool:
    """Whether the body holds one event per line; BadRequest when it is no JSON at all."""
    content_type = headers.get("Content-Type", "")
    known = _seen.get(content_type)
    return _judge(content_type) if known is None else known


def _judge(content_type: str) -> bool:
    plain = _plain(content_type)
    lines = is_lines(plain)
    if not lines and plain not in JSON and not plain.endswith("+json"):
        message = (
            f"Content-Type {plain[:_MAX_NAMED]!r} is not accepted; send application/json, or "
            "application/x-ndjson for one event per line."
        )
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    if len(_seen) < _MAX_SEEN:
        _seen[content_type] = lines
    return lines


def _plain(content_type: str) -> str:
    """In lower case and without parameters. Proxies join equal headers with a comma."""
    named = {each.partition(";")[0].strip().lower() for each in content_type.split(",")}
    return named.pop() if len(named) == 1 else content_type.partition(";")[0].strip().lower()
