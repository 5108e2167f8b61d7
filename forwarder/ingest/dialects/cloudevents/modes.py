"""The three ways in which HTTP carries CloudEvents: binary, structured, batched.

Page: CloudEvents HTTP binding 1.0.2, "HTTP Message Mapping"; JSON format 1.0.2, "Handling of data".

Invariants:
- The mode is told by the Content-Type alone, the batch's prefix tried first; a format other than JSON is 415.
- In a batch each event is judged by itself; only a body that is no JSON array is refused as a whole.
- The events of a batch are counted, and the length and the attributes of each, before anything is made of
  them; all of that goes in steps.
- Data that is JSON stays byte for byte as it came; a JSON string in ``data`` is never parsed again.
- A Content-Type that an HTTP client set by itself is not the event's: its JSON is JSON.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64encode
from collections.abc import Generator, Iterator, Mapping
from typing import TypeVar

import msgspec

from forwarder.apis import surrogates
from forwarder.apis.scan import count_signs, elements
from forwarder.ingest.bounds import (
    MAX_ATTRIBUTES,
    MAX_EVENTS,
    SMALL_BODY,
    Memory,
    capped,
    longest_event,
    most_signs,
    too_long,
    too_many_events,
)
from forwarder.ingest.dialects import arrays
from forwarder.ingest.dialects.broken import BROKEN, of_event, sentence
from forwarder.ingest.dialects.cloudevents.attributes import (
    REQUIRED,
    Attributes,
    InvalidEvent,
    Value,
    characters,
    check,
    decoded,
    unescaped,
)
from forwarder.ingest.errors import MEDIA_TYPE, SERIALIZATION, VALIDATION, BadRequest
from forwarder.model import Refusal

STRUCTURED, BATCHED = "application/cloudevents", "application/cloudevents-batch"
JSON = "+json"
HEADER = "ce-"
ACCEPT = {"Accept": f"{STRUCTURED}{JSON}, {BATCHED}{JSON}"}

T = TypeVar("T")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder(msgspec.Raw)
_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode
_NULL = b"null"
_SPACE = b" \t\r\n"
_MAX_MEMBERS = MAX_ATTRIBUTES + 2  # data and data_base64
_FEW_MEMBERS = 5 * _MAX_MEMBERS  # bytes: "": and a value, and a comma, are five
_charset = re.compile(r';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE).search
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
_CLIENT_DEFAULT = "application/x-www-form-urlencoded"
"""What curl, urllib and Java's HttpURLConnection send when the program names no Content-Type."""
_TEXT_ENDINGS = ("/xml", "+xml", "/yaml", "+yaml", "/x-www-form-urlencoded", "/javascript")


class CloudEvent(msgspec.Struct, gc=False):
    """One event. ``data``: a JSON value as it came; or its bytes as ``base64``; or neither."""

    attributes: Attributes
    data: msgspec.Raw | None = None
    base64: str | None = None

    def envelope(self) -> bytes:
        """The event in the JSON format."""
        members: dict[str, object] = dict(self.attributes)
        if self.base64 is not None:
            members["data_base64"] = self.base64
        elif self.data is not None:
            members["data"] = self.data
        try:
            return _encode(members)
        except UnicodeEncodeError:  # half of a surrogate pair in a name
            pairs = [b"%b:%b" % (json.dumps(name).encode(), _encode(each)) for name, each in members.items()]
            return b"{%b}" % b",".join(pairs)


class Bounds(msgspec.Struct, frozen=True):
    """``max_events``: of a request. ``max_event_bytes``: of one event, by the API's formula."""

    max_events: int = MAX_EVENTS
    max_event_bytes: int = 1 << 20


Steps = Iterator[CloudEvent | Refusal | None]
"""Events, and None where a pause may be made."""


def starts_with(value: msgspec.Raw, sign: bytes) -> bool:
    """Whether the JSON value begins with this sign; decoders leave no space before it."""
    return memoryview(value)[:1] == sign


def is_batch(headers: Mapping[str, str]) -> bool:
    return _media(headers).startswith(BATCHED)


def check_media(headers: Mapping[str, str]) -> bool:
    """BadRequest when the head shows no CloudEvent, or a format that is not JSON; else False: no lines."""
    media = _media(headers)
    if not media.startswith(STRUCTURED):
        if any(name[:3].lower() == HEADER for name in headers):
            return False
        message = f"This is not a CloudEvent: send {STRUCTURED}{JSON}, {BATCHED}{JSON}, or ce-* headers."
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    if media.split(";")[0].strip() not in (STRUCTURED + JSON, BATCHED + JSON) or not _is_utf8(media):
        message = f"Content-Type {media[:100]!r} is not accepted; send CloudEvents as JSON in UTF-8."
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    return False


def reads_json(headers: Mapping[str, str]) -> bool:
    """Whether the body is an event or a batch; or, in binary mode, data that is declared to be JSON."""
    media = _media(headers)
    return media.startswith(STRUCTURED) or is_json(plain_media(media))


def steps(headers: Mapping[str, str], body: bytes, lease: Memory, bounds: Bounds) -> Steps:
    """The events of a request, each read or refused; BadRequest when the body is no JSON where it must be.

    What they hold until they are a queue's is leased, before a batch is taken apart.
    """
    media = _media(headers)
    if media.startswith(BATCHED):
        return _batched(body, lease, bounds)
    lease.take_for_events(1)
    if media.startswith(STRUCTURED):
        return _single(body, bounds)
    return _refusable(_binary(headers, body, bounds))


def _batched(body: bytes, lease: Memory, bounds: Bounds) -> Steps:
    if body.lstrip(_SPACE)[:1] != b"[":
        _decode(_array, body[:SMALL_BODY], "a JSON array of events")
        raise BadRequest(400, SERIALIZATION, "The body is not a JSON array of events.")
    if len(body) <= SMALL_BODY:
        raws = yield from arrays.apart(body, bounds.max_events)
        if len(raws) > bounds.max_events:
            raise too_many_events(bounds.max_events)
        lease.take_for_events(len(raws))
        for raw in raws:
            yield from _refusable(_structured(raw, bounds))
        return
    for part in arrays.parts(body, lease, bounds.max_events, bounds.max_event_bytes):
        if part is None:
            yield None
        elif isinstance(part, arrays.TooLong):
            yield Refusal(VALIDATION, too_long(part.size, bounds.max_event_bytes), "too_large")
        else:
            yield from _refusable(_structured(part, bounds))


def _single(body: bytes, bounds: Bounds) -> Steps:
    if len(body) <= longest_event(bounds.max_event_bytes):
        most = most_signs(bounds.max_event_bytes)
        if (yield from count_signs(body, most)) <= most:
            try:
                yield from surrogates.decode_steps(_any, body)
            except BROKEN as problem:
                raise _not(problem, body, "JSON") from None
        yield None
    yield from _refusable(_structured(body, bounds))


def _refusable(read: Generator[None, None, CloudEvent]) -> Steps:
    try:
        event = yield from read
    except InvalidEvent as problem:
        yield problem.refusal
    else:
        yield event


def _structured(raw: bytes, bounds: Bounds) -> Generator[None, None, CloudEvent]:
    size = memoryview(raw).nbytes
    if size > longest_event(bounds.max_event_bytes):
        raise InvalidEvent(too_long(size, bounds.max_event_bytes), "too_large")
    if size > _FEW_MEMBERS:
        most = most_signs(bounds.max_event_bytes)
        if (yield from count_signs(raw, most)) > most:
            raise InvalidEvent(too_long(size, bounds.max_event_bytes), "too_large")
        count = yield from elements(bytes(raw), _MAX_MEMBERS)
        if count > _MAX_MEMBERS:
            raise InvalidEvent(f"An event must have at most {MAX_ATTRIBUTES} attributes.")
        yield
    try:
        members = yield from surrogates.decode_steps(_members, raw)
    except msgspec.ValidationError:
        raise InvalidEvent("An event must be a JSON object.") from None
    except BROKEN as problem:
        raise InvalidEvent(of_event(problem, raw), code=SERIALIZATION) from None
    if size > _FEW_MEMBERS:
        yield
    data, packed = members.pop("data", None), members.pop("data_base64", None)
    if len(members) > MAX_ATTRIBUTES:
        raise InvalidEvent(f"An event must have at most {MAX_ATTRIBUTES} attributes.")
    attributes: Attributes = {}
    for name, member in members.items():
        value = decoded(name, member)
        if value is not None:
            attributes[name] = value
        if size > _FEW_MEMBERS:
            yield
    yield from check(attributes, bounds.max_event_bytes)
    base64 = _base64(packed, bounds) if packed is not None and bytes(packed) != _NULL else None
    if base64 is None:
        return CloudEvent(attributes, _fitting(attributes, data))
    if data is not None and bytes(data) != _NULL:
        raise InvalidEvent("data and data_base64 must not be sent together.")
    return CloudEvent(attributes, None, base64)


def _fitting(attributes: Attributes, data: msgspec.Raw | None) -> msgspec.Raw | None:
    """The data, whatever it is; but null is data only where it is declared to be JSON."""
    media = attributes.get("datacontenttype")
    if data is None or media is None or is_json(plain_media(media)):
        return data
    return None if bytes(data) == _NULL else data


def _base64(raw: msgspec.Raw, bounds: Bounds) -> str:
    try:
        text = _text.decode(raw)
        if len(text) > bounds.max_event_bytes:
            raise InvalidEvent(too_long(len(text), bounds.max_event_bytes), "too_large")
        binascii.a2b_base64(text, strict_mode=True)
    except (msgspec.DecodeError, ValueError):
        raise InvalidEvent("data_base64 must be a string in Base64.") from None
    return text


def _binary(headers: Mapping[str, str], body: bytes, bounds: Bounds) -> Generator[None, None, CloudEvent]:
    if len(body) > bounds.max_event_bytes and len(body.strip(_SPACE)) > bounds.max_event_bytes:
        raise InvalidEvent(too_long(len(body), bounds.max_event_bytes), "too_large")
    attributes: Attributes = {}
    for header, value in headers.items():
        name = header.lower()
        if name.startswith(HEADER):
            _add(attributes, name.removeprefix(HEADER), value)
    media = headers.get("Content-Type")
    if media and not _is_client_default(media, body):
        attributes["datacontenttype"] = characters(media)
    yield from check(attributes, bounds.max_event_bytes)
    return (yield from _with_data(attributes, str(attributes.get("datacontenttype", "")), body))


def _is_client_default(media: str, body: bytes) -> bool:
    """Whether this is the default Content-Type of an HTTP client: it says "form", but the body is empty or
    begins like a JSON object or array, as no form does."""
    return plain_media(media) == _CLIENT_DEFAULT and body.lstrip(_SPACE)[:1] in (b"", b"{", b"[")


def _add(attributes: Attributes, name: str, header: str) -> None:
    """One header's attribute. What came twice is an HTTP list, where it may be one."""
    if name in ("data", "data_base64"):
        raise InvalidEvent(f"ce-{name} must not be a header: in binary mode, the body is the data.")
    value = unescaped(name, header)
    before = attributes.setdefault(name, value)
    assert isinstance(before, str)
    if before == value:
        return
    if name in REQUIRED:
        raise InvalidEvent(f"ce-{name} was sent twice, with different values.")
    attributes[name] = f"{before}, {value}"


def _with_data(attributes: Attributes, media: str, body: bytes) -> Generator[None, None, CloudEvent]:
    if not body:
        return CloudEvent(attributes)
    if not media or is_json(plain_media(media)):
        try:
            return CloudEvent(attributes, (yield from surrogates.decode_steps(_any, body)))
        except BROKEN as problem:
            if media:
                said = sentence(problem, body)
                raise InvalidEvent(f"The data is {media[:100]}, but not valid JSON: {said}.") from None
    elif _is_text(media):
        try:
            return CloudEvent(attributes, msgspec.Raw(_encode(body.decode())))
        except UnicodeDecodeError:
            pass  # bytes it is
    return CloudEvent(attributes, None, b64encode(body).decode())


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").lower()


def plain_media(media: Value) -> str:
    """A media type without its parameters; "" for what is none."""
    return media.partition(";")[0].strip().lower() if isinstance(media, str) else ""


def is_json(plain: str) -> bool:
    return plain.endswith(("/json", "+json"))


def _is_text(media: str) -> bool:
    plain = plain_media(media)
    return (plain.startswith("text/") or plain.endswith(_TEXT_ENDINGS)) and _is_utf8(media)


def _is_utf8(media: str) -> bool:
    found = _charset(media)
    return found is None or found[1].lower() in _UTF8


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    try:
        return decoder.decode(body)
    except BROKEN as problem:
        raise _not(problem, body, what) from None


def _not(problem: Exception, body: bytes, what: str) -> BadRequest:
    return BadRequest(400, SERIALIZATION, capped(f"The body is not {what}: {sentence(problem, body)}."))
