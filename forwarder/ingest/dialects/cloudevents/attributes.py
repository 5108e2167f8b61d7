"""The context attributes of CloudEvents 1.0: their names, types and forms; and how headers carry them.

Page: CloudEvents specification 1.0.2, "Context Attributes" and "Type System"; HTTP binding, "HTTP Header
Values".

Invariants:
- An attribute that is null is an attribute that is not there.
- Every refusal names its attribute and says what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from typing import Annotated
from urllib.parse import unquote_to_bytes

import msgspec

from forwarder.apis.wire import time_number
from forwarder.ingest.dialects.bounds import capped
from forwarder.ingest.dialects.errors import VALIDATION
from forwarder.model import Refusal

REQUIRED = ("specversion", "id", "source", "type")
TEXTS = frozenset({*REQUIRED, "datacontenttype", "dataschema", "subject", "time"})
"""What must be a string that is not empty, where it is there."""
VERSION = "1.0"

FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
"""Characters that no attribute has: controls and noncharacters (and surrogates, which UTF-8 has not)."""
INTEGERS = {"minimum": -(2**31), "maximum": 2**31 - 1}
SCHEME_PATTERN = "[A-Za-z][A-Za-z0-9+.-]*:"
NAME_PATTERN = "[a-z0-9]+"
MEDIA_TYPE_PATTERN = (
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ ]*(?:;[^\x00-\x1f\x7f-\x9f]*)?"
)

_Number = Annotated[float, msgspec.Meta(ge=INTEGERS["minimum"], le=INTEGERS["maximum"])]
Value = str | bool | int
Attributes = dict[str, Value]

_value: msgspec.json.Decoder[Value | float | None] = msgspec.json.Decoder(str | bool | _Number | None)
_is_name = re.compile(NAME_PATTERN, re.ASCII).fullmatch
_not_in_references = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]", re.ASCII).search
_half_percent = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII).search
# Possessive: no text is gone over twice, however long it is. What follows each run is not in its set.
_has_scheme = re.compile(SCHEME_PATTERN.replace("]*", "]*+"), re.ASCII).match
_is_media_type = re.compile(MEDIA_TYPE_PATTERN.replace("]+", "]++").replace("]*", "]*+"), re.ASCII).fullmatch
_timestamp = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)((?:\.\d++)?(?:Z|[+-]\d\d:\d\d))", re.ASCII | re.IGNORECASE
).fullmatch
_forbidden = re.compile(f"[{FORBIDDEN}\ud800-\udfff]").search
_escaped = re.compile(r"\\(.)").sub


class Unfit(Exception):
    """What is wrong with one event, in a sentence."""

    def __init__(self, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self._reason = reason

    @property
    def refusal(self) -> Refusal:
        return Refusal(VALIDATION, capped(str(self)), self._reason)


def decoded(name: str, raw: msgspec.Raw) -> Value | None:
    """An attribute's value out of JSON; Unfit when it is of a type that attributes cannot have."""
    try:
        value = _value.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = math.nan
    if not isinstance(value, float):
        return value
    if not value.is_integer():
        raise Unfit(f"{name[:100]} must be a string, a boolean or an integer of 32 bits.")
    return int(value)


def unescaped(name: str, value: str) -> str:
    """An attribute's value out of a header: quotes undone, then one round of percent-decoding."""
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = _escaped(r"\1", value[1:-1])
    if "%" not in value and value.isascii():
        return value
    try:
        return unquote_to_bytes(value).decode()
    except ValueError:  # bytes of the header itself, or percent-encoded ones
        raise Unfit(f"ce-{name[:100]} is not UTF-8 after percent-decoding.") from None


def check(attributes: Attributes, longest: int) -> Generator[None, None, None]:
    """Unfit when these are not the attributes of a CloudEvent; in steps, as each may be long.

    ``longest``: characters of all together, as no call of the target carries more.
    """
    missing = [name for name in REQUIRED if name not in attributes]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Unfit(f"{_list(missing)} {verb} required.")
    length = sum([len(value) for value in attributes.values() if isinstance(value, str)])
    if length > longest:
        message = f"The attributes have {length} characters; a call of its target takes {longest} bytes."
        raise Unfit(message, "too_large")
    for name, value in attributes.items():
        _check_one(name, value)
        yield
    if attributes["specversion"] != VERSION:
        got = str(attributes["specversion"])[:100]
        raise Unfit(f'specversion must be "{VERSION}", got "{got}".')
    source = str(attributes["source"])
    is_reference = _has_only_reference_signs(source)
    yield
    if not is_reference or _has_half_percent(source):
        raise Unfit("source must be a URI or a relative reference; other characters are percent-encoded.")
    yield
    schema, media = attributes.get("dataschema"), attributes.get("datacontenttype")
    if schema is not None:
        is_reference = bool(_has_scheme(str(schema))) and _has_only_reference_signs(str(schema))
        yield
        if not is_reference or _has_half_percent(str(schema)):
            raise Unfit("dataschema must be a URI with a scheme.")
        yield
    if media is not None and not _is_media_type(str(media)):
        raise Unfit("datacontenttype must be a media type, like application/json.")


def moment(attributes: Attributes) -> int | float | None:
    """``time`` in epoch seconds; Unfit when it is no RFC 3339 timestamp."""
    text = attributes.get("time")
    if text is None:
        return None
    found = _timestamp(str(text))
    if found is None:
        raise Unfit("time must be an RFC 3339 timestamp, like 2026-11-21T12:00:00Z.")
    seconds = "59" if found[2] == "60" else found[2]  # a leap second, which Python's clock has not
    try:
        return time_number(f"{found[1]}{seconds}{found[3]}".upper())
    except ValueError as problem:
        raise Unfit(f"time is {problem}.") from None


def _check_one(name: str, value: Value) -> None:
    if not _is_name(name):
        raise Unfit(f"{name[:100]!r} is no attribute: a name has lowercase letters and digits only.")
    if name in TEXTS and (not isinstance(value, str) or not value):
        raise Unfit(f"{name} must be a string that is not empty.")
    if isinstance(value, str) and not (value.isascii() and value.isprintable()) and _forbidden(value):
        raise Unfit(f"{name[:100]} has a character that is not allowed in attributes.")


def _has_only_reference_signs(text: str) -> bool:
    """A look for this and ``_has_half_percent`` at once would take ten times as long."""
    return bool(text) and not _not_in_references(text)


def _has_half_percent(text: str) -> bool:
    return "%" in text and _half_percent(text) is not None


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
