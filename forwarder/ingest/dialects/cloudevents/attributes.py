"""The context attributes of CloudEvents 1.0: which of them are needed here, and how headers carry them.

Page: CloudEvents specification 1.0.2, "Context Attributes" and "Type System"; HTTP binding, "HTTP Header
Values". What senders do beside it, and what becomes of that: docs/cloudevents.md.

Invariants:
- An attribute that is null is an attribute that is not there.
- Only what the entry needs can cost the event: the required attributes. All others are carried as they came,
  whatever they are; a value that is no string, boolean or integer of 32 bits as its JSON.
- Every refusal names its attribute and says what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from urllib.parse import quote, unquote_to_bytes

import msgspec

from forwarder.apis import utf8
from forwarder.apis.surrogates import HalfPair
from forwarder.apis.wire import time_number
from forwarder.ingest.bounds import capped
from forwarder.ingest.errors import VALIDATION
from forwarder.model import Refusal

REQUIRED = ("specversion", "id", "source", "type")
NEEDED = frozenset({*REQUIRED, "eventbusname", "resources"})
URIS = frozenset({"source", "dataschema", "dataref"})
"""Their percent signs belong to them: in headers only ``%25`` is undone, as most SDKs encode nothing."""
VERSION = "1.0"

FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
"""Characters that no attribute has: controls and noncharacters (and surrogates, which UTF-8 has not)."""
INT32 = range(-(2**31), 2**31)
_LONGEST_TIME = 100

Value = str | bool | int | msgspec.Raw
Attributes = dict[str, Value]

_value: msgspec.json.Decoder[str | bool | int | None] = msgspec.json.Decoder(str | bool | int | None)
_timestamp = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:)(\d\d)((?:\.\d++)?(?:Z|[+-]\d\d:\d\d))", re.ASCII | re.IGNORECASE
).fullmatch
_forbidden = re.compile(f"[{FORBIDDEN}\ud800-\udfff]").search
_undecoded = re.compile("[\udc80-\udcff]").search
_escaped = re.compile(r"\\(.)").sub


class InvalidEvent(Exception):
    """What is wrong with one event, in a sentence."""

    def __init__(self, message: str, reason: str = "invalid", code: str = VALIDATION) -> None:
        super().__init__(message)
        self._reason = reason
        self._code = code

    @property
    def refusal(self) -> Refusal:
        sentence = str(self).encode("utf-8", "replace").decode()  # a name may have half of a surrogate pair
        return Refusal(self._code, capped(sentence), self._reason)


def decoded(name: str, raw: msgspec.Raw) -> Value | None:
    """An attribute's value out of JSON; its JSON where it is of a type that attributes cannot have."""
    try:
        value = _value.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _json(name, raw)
    return value if type(value) is not int or value in INT32 else _json(name, raw)


def _json(name: str, raw: msgspec.Raw) -> msgspec.Raw:
    data = bytes(raw)
    fault = utf8.fault(data)
    if fault:
        raise InvalidEvent(f"{name[:100]} is {fault}.")
    return msgspec.Raw(data)


def unescaped(name: str, value: str) -> str:
    """An attribute's value out of a header: quotes undone, then one round of percent-decoding; in a URI,
    which has percent signs of its own, of percent signs alone."""
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = _escaped(r"\1", value[1:-1])
    if name in NEEDED:
        check_header(f"ce-{name}", value)
    else:
        value = characters(value)
    if name in URIS:
        return value.replace("%25", "%")
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except ValueError:  # most SDKs encode nothing: then these percent signs are its own
        if name in NEEDED:
            raise InvalidEvent(f"ce-{name[:100]} is not UTF-8 after percent-decoding.") from None
        return value


def characters(value: str) -> str:
    """A header's text. Bytes that are not UTF-8 are Latin-1, as HTTP had it once."""
    if value.isascii() or not _undecoded(value):
        return value
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def check_header(header: str, value: str) -> None:
    """InvalidEvent when a header's bytes are not UTF-8: they are Latin-1, as old HTTP libraries send."""
    found = None if value.isascii() else _undecoded(value)
    if found is not None:
        letter = chr(ord(found[0]) - 0xDC00)
        raise InvalidEvent(
            f"{header[:100]} is not valid UTF-8: byte 0x{ord(letter):02X} at character {found.start()}, "
            f"which is {letter} in Latin-1 (ISO 8859-1). Send UTF-8, or percent-encode it: {quote(letter)}."
        )


def check(attributes: Attributes, longest: int) -> Generator[None, None, None]:
    """InvalidEvent when these are not the attributes of a CloudEvent; in steps, as each may be long.

    ``longest``: characters of all together, as no call of the target carries more.
    """
    missing = [name for name in REQUIRED if name not in attributes]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InvalidEvent(f"{_list(missing)} {verb} required.")
    length = sum([_length(value) for value in attributes.values()])
    if length > longest:
        message = (
            f"The attributes have {length} characters, but a call of this target can have only {longest} "
            "bytes."
        )
        raise InvalidEvent(message, "too_large")
    for name in REQUIRED:
        _check_required(name, attributes[name])
        yield
    if attributes["specversion"] != VERSION:
        got = str(attributes["specversion"])[:100]
        raise InvalidEvent(f'specversion must be "{VERSION}", got "{got}".')


def moment(attributes: Attributes) -> int | float | None:
    """``time`` in epoch seconds: RFC 3339, or ISO 8601 as everywhere here. None when it cannot be the entry's
    Time, which is then the time of arrival: no SDK's zero time (year 1) costs an event."""
    text = attributes.get("time")
    if not isinstance(text, str) or len(text) > _LONGEST_TIME:
        return None
    found = _timestamp(text)
    if found is not None:
        seconds = "59" if found[2] == "60" else found[2]  # a leap second, which Python's clock has not
        text = f"{found[1]}{seconds}{found[3]}".upper()
    try:
        return time_number(text)
    except ValueError:
        return None


def _length(value: Value) -> int:
    if isinstance(value, str):
        return len(value)
    return memoryview(value).nbytes if isinstance(value, msgspec.Raw) else 0


def _check_required(name: str, value: Value) -> None:
    if isinstance(value, msgspec.Raw) and bytes(memoryview(value)[:1]) == b'"':
        raise InvalidEvent(f"{HalfPair(name)}.")
    if not isinstance(value, str) or not value:
        raise InvalidEvent(f"{name} must be a string that is not empty.")
    if not (value.isascii() and value.isprintable()) and _forbidden(value):
        raise InvalidEvent(f"{name} has a character that is not allowed in attributes.")


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
