"""AWS's wire, read and rendered in both directions: what the APIs have in common.

Invariants:
- Pure: no I/O, no clock; what is read comes from the network, so nothing here trusts it.
- Errors are rendered so that every SDK can read them: the code in the body as ``__type``, and, by whoever
  sends the answer, in the header ``ERROR_HEADER``.
- ``is_json_object`` is exact: what it passes is JSON, what it stops is not, or is too deep for EventBridge
  (or for the interpreter's stack, which on Python 3.11 ends a little short of the same 1,000 levels).
- A text is judged without making an object of anything in it, and only up to the length that is asked for.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from forwarder.apis import utf8
from forwarder.apis.codes import WRONG_SHAPE, EntryCodes
from forwarder.apis.codes import call_status as call_status  # the one table, found where the wire is read
from forwarder.apis.scan import is_deeper
from forwarder.model import Kind, Outcome

ERROR_HEADER = "x-amzn-ErrorType"
MAX_DELAY = 300.0
"""Seconds of waiting that an answer can ask for."""
MAX_DEPTH = 1000
"""Levels of nesting (PutEventsRequestEntry, Detail: "nesting at most 1000 levels")."""

Number = int | float

END_OF_TIME = 253_402_300_800  # the year 10000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# These meet anything: no way through them may go over the same text again.
_SCOPE = re.compile(r"Credential=[^/,=\s]+/\d{8}/([^/,\s]+)/[^/,\s]+/aws4_request", re.ASCII)
_SERVICE = re.compile(r"Credential=[^/,=\s]+/\d{8}/(?:[^/,\s]+/)?([^/,\s]+)/aws4_request", re.ASCII)
_CREDENTIAL = re.compile(r"(?:^|&)X-Amz-Credential=([^&]*)")
_SPACE = " \t\r\n"
_KEYS_REMEMBERED = 10_000
_LONGEST_KEY = 1024
_DELIVERED = Kind.DELIVERED
_DEEP_TEXT = 1 << 20
"""Characters up to which a text may use all of MAX_DEPTH: EventBridge's limit of an entry. In a longer one
(only other APIs have them) the interpreter's stack decides."""
_STACK_DECIDES = sys.version_info < (3, 12)  # later it counts C's calls apart, and takes thousands
ANY_LENGTH = sys.maxsize

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any = msgspec.json.Decoder()
_raw = msgspec.json.Decoder(msgspec.Raw)
_text = msgspec.json.Decoder(str)
_encode_into = msgspec.json.Encoder().encode_into
_keys: dict[bytes, bytes] = {}


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"__type": code, "message": message})


def error_code(
    body: bytes, headers: Mapping[str, str], status: int, decode: Callable[[bytes], Any] = _any.decode
) -> tuple[str, str]:
    """Code and message of an error answer; its HTTP status is the code where nothing better is said."""
    try:
        said = decode(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        said = {}
    code = header(headers, ERROR_HEADER) or said.get("__type") or said.get("code") or said.get("Code")
    message = said.get("message") or said.get("Message") or f"HTTP status {status}"
    return _plain_code(str(code or "")) or str(status), str(message)


def _plain_code(code: str) -> str:
    """``Name`` of ``namespace#Name`` and of ``Name:http://...``."""
    return code.partition(":")[0].rpartition("#")[2].strip()


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value, whatever the case of its name, also in a plain dict."""
    value = headers.get(name)
    if value is None:
        name = name.lower()
        value = next((value for key, value in headers.items() if key.lower() == name), None)
    return value


def retry_delay(headers: Mapping[str, str]) -> float | None:
    """Seconds that an answer asks to wait: ``x-amz-retry-after`` (milliseconds), else ``Retry-After``.

    A date in Retry-After is measured from the answer's own Date, so that no clock of ours matters.
    """
    milliseconds = _seconds(header(headers, "x-amz-retry-after"))
    if milliseconds is not None:
        return min(milliseconds / 1000, MAX_DELAY)
    said = header(headers, "Retry-After")
    delay = _seconds(said)
    if delay is None and said is not None:
        delay = _between(header(headers, "Date"), said)
    return None if delay is None else min(delay, MAX_DELAY)


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _between(start: str | None, end: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(end) - parsedate_to_datetime(start or "")).total_seconds())
    except (ValueError, TypeError):  # no dates, or one with and one without a zone
        return None


class ResultNames(msgspec.Struct, frozen=True):
    """What an API calls the members of its answer."""

    failed: str
    entries: str
    id: str
    code: str
    message: str


def read_entries(
    answer: Mapping[str, Any], count: int, names: ResultNames, codes: EntryCodes
) -> list[Outcome] | None:
    """One Outcome per event; None when this is not an answer to ``count`` events.

    Nor is it one that counts more failures than it shows: nobody knows which events they were.
    """
    entries = answer.get(names.entries)
    if not isinstance(entries, list) or len(entries) != count:
        return None
    outcomes = []
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        outcomes.append(_read_entry(entry, names, codes))
    counted = answer.get(names.failed)
    if not counted or not isinstance(counted, int):
        return outcomes
    shown = sum(outcome.kind is not Kind.DELIVERED for outcome in outcomes)
    return None if counted > shown else outcomes


def _read_entry(entry: Mapping[str, Any], names: ResultNames, codes: EntryCodes) -> Outcome:
    code, aws_id = entry.get(names.code), entry.get(names.id)
    if code:
        message = entry.get(names.message) or ""
        known = codes.known(str(code))
        return Outcome(codes.kind(known), known, f"{message}" if known == code else f"{code}: {message}")
    if aws_id:
        return Outcome(_DELIVERED, "", "", str(aws_id))
    return Outcome(Kind.RETRY, WRONG_SHAPE, f"an entry with neither {names.id} nor {names.code}")


def parse_time(value: int | float | str) -> float:
    """Epoch seconds of a timestamp: a number, or ISO 8601 (UTC where it names no zone); else ValueError."""
    return float(time_number(value))


def time_number(value: int | float | str) -> Number:
    """``parse_time``, but a number stays as it was, so that whole seconds stay whole on the wire."""
    seconds = _iso_seconds(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not 0 <= seconds < END_OF_TIME:  # NaN is in no range
        raise ValueError("not epoch seconds between the years 1970 and 9999")
    return seconds


def _iso_seconds(text: str) -> Number:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("neither epoch seconds nor ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    seconds = (moment - _EPOCH).total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def serialise(value: msgspec.Struct) -> bytes:
    """Compact JSON, in bytes of exactly its length.

    What ``Encoder.encode`` returns holds up to half as much again for as long as it lives, and these live
    as long as their event waits.
    """
    buffer = bytearray()
    _encode_into(value, buffer)
    return bytes(buffer)


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def escaped_length(text: str) -> int:
    """Bytes that a text has at least as a string of JSON. Counting them costs a tenth of making it."""
    return len(text) + text.count("\\") + text.count('"')


def region_of_scope(authorization: str) -> str | None:
    """The region a request was signed for, from its Authorization header; SigV4a names none."""
    scope = _SCOPE.search(authorization)
    return scope[1] if scope else None


def service_of_scope(authorization: str) -> str | None:
    """The service that a request was signed for, from its Authorization header."""
    scope = _SERVICE.search(authorization)
    return scope[1] if scope else None


def region_of_query(query: str) -> str | None:
    """The region that a presigned request was signed for, from its raw query string."""
    credential = _CREDENTIAL.search(query)
    return region_of_scope(f"Credential={unquote(credential[1])}") if credential else None


def region_of_arn(arn: str) -> str | None:
    parts = arn.split(":", 5)
    return parts[3] or None if len(parts) == 6 and parts[0] == "arn" else None


def interned(key: bytes) -> bytes:
    """One object for all equal keys, as far as a bounded memory reaches, in keys and in bytes."""
    if len(key) > _LONGEST_KEY:
        return key
    if len(_keys) >= _KEYS_REMEMBERED:
        _keys.clear()
    return _keys.setdefault(key, key)


def is_json_object(text: str, beside: int = 0) -> bool:
    """Whether the text is valid JSON, an object, and at most MAX_DEPTH levels deep.

    ``beside``: characters of texts that are judged in the same step. All of them share what may be deep.
    """
    if text[:1] != "{" and text.lstrip(_SPACE)[:1] != "{":
        return False
    try:
        _check_json(text, beside)
    except RecursionError:
        return False
    except ValueError:
        return "\\u" in text and _is_json_with_half_pairs(text)
    return True


def object_text(raw: msgspec.Raw, longest: int = ANY_LENGTH, beside: int = 0) -> str | None:
    """The text of a JSON object that came as an object or as a string; None when it is neither.

    ``raw`` must come from a decoder, which has seen to it that it is JSON, but not that it is UTF-8. What is
    longer than ``longest`` characters is returned unjudged: its length is reason enough to refuse it.
    """
    try:
        text = str(raw, "utf-8").strip()  # a copy: the Raw itself would keep the whole body alive
        if text.startswith('"'):
            text = _text.decode(text)
            return text if len(text) > longest or is_json_object(text, beside) else None
    except (ValueError, RecursionError):
        return None
    if len(text) > longest:
        return text
    return text if text.startswith("{") and not _is_too_deep(text, beside) else None


def not_an_object(raw: msgspec.Raw) -> str:
    """Why ``object_text`` found none: the rest of a sentence, without a full stop."""
    fault = utf8.fault(raw)
    return f"is {fault}" if fault else "must be a JSON object, or a string that holds one"


class Native(NamedTuple):
    """An event as our own API takes it; ``batch``: equal for those that must stay together, else ""."""

    event: bytes
    batch: str = ""


def raw_members(data: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object as they are; None when it is none."""
    try:
        return _object.decode(data)
    except (ValueError, RecursionError):
        return None


def _check_json(text: str, beside: int = 0) -> None:
    """Raise ValueError when the text is no JSON, RecursionError when it is deeper than MAX_DEPTH.

    Python 3.11 counts msgspec's levels among its own, and leaves fewer of them than EventBridge takes.
    """
    try:
        _raw.decode(text)
    except RecursionError:
        if len(text) + beside > _DEEP_TEXT or _is_too_deep(text, beside):
            raise
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + MAX_DEPTH)
        try:
            _raw.decode(text)
        finally:
            sys.setrecursionlimit(limit)
    else:
        if not _stack_decided() and _is_too_deep(text, beside):
            raise RecursionError


def _is_json_with_half_pairs(text: str) -> bool:
    """JavaScript cuts strings inside surrogate pairs and escapes the halves: JSON, but not to msgspec."""
    text = text.replace("\\\\", "__")
    for beginning in ("\\ud", "\\uD"):  # no surrogate has another; what has it and is none stays a character
        text = text.replace(beginning, "\\u0")
    try:
        _check_json(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_too_deep(text: str, beside: int) -> bool:
    """Of a text that was decoded, or is not too long for a look at every bracket."""
    if len(text) < 2 * MAX_DEPTH:
        return False
    if len(text) + beside > _DEEP_TEXT and _stack_decided():
        return False
    return is_deeper(text.encode(), MAX_DEPTH)


def _stack_decided() -> bool:
    """Whether no text with more levels than MAX_DEPTH is ever decoded."""
    return _STACK_DECIDES and sys.getrecursionlimit() <= MAX_DEPTH
