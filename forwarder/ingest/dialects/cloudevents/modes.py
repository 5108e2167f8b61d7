"""The three ways in which HTTP carries CloudEvents: binary, structured, batched.

Page: CloudEvents HTTP binding 1.0.2, "HTTP Message Mapping"; JSON format 1.0.2, "Handling of data".

Invariants:
- The mode is told by the Content-Type alone, the batch's prefix tried first; a format other than JSON is 415.
- In a batch each event is judged by itself; only a body that is no JSON array is refused as a whole.
- Data that is JSON stays byte for byte as it came; a JSON string in ``data`` is never parsed again.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from forwarder.ingest.budget import RAW_BYTES, Lease
from forwarder.ingest.dialects.cloudevents.attributes import Attributes, Unfit, check, decoded, unescaped
from forwarder.ingest.dialects.errors import MEDIA_TYPE, SERIALIZATION, BadRequest
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
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NULL = b"null"
_charset = re.compile(r';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE).search
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})
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
        return _encode(members)


Parsed = list[CloudEvent | Refusal]


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
        message = f"This is no CloudEvent: send {STRUCTURED}{JSON}, {BATCHED}{JSON}, or ce-* headers."
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    if media.split(";")[0].strip() not in (STRUCTURED + JSON, BATCHED + JSON) or not _is_utf8(media):
        message = f"Content-Type {media[:100]!r} is not taken here; of CloudEvents, send JSON in UTF-8."
        raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT)
    return False


def parse(headers: Mapping[str, str], body: bytes, lease: Lease) -> Parsed:
    """The events of a request, each read or refused; BadRequest when the body is no JSON where it must be.

    What they hold until they are a queue's is leased, before a batch is taken apart.
    """
    media = _media(headers)
    if media.startswith(BATCHED):
        lease.check_room(body.count(b",") * RAW_BYTES)
        raws = _decode(_array, body, "a JSON array of events")
        lease.take_for_events(len(raws))
        return [_refusable(_structured, raw) for raw in raws]
    lease.take_for_events(1)
    if media.startswith(STRUCTURED):
        _decode(_any, body, "JSON")
        return [_refusable(_structured, body)]
    return [_refusable(_binary, headers, body)]


def _refusable(read: Callable[..., CloudEvent], *source: object) -> CloudEvent | Refusal:
    try:
        return read(*source)
    except Unfit as problem:
        return problem.refusal


def _structured(raw: bytes) -> CloudEvent:
    try:
        members = _members.decode(raw)
    except _BROKEN:
        raise Unfit("An event must be a JSON object.") from None
    data, packed = members.pop("data", None), members.pop("data_base64", None)
    attributes: Attributes = {}
    for name, member in members.items():
        value = decoded(name, member)
        if value is not None:
            attributes[name] = value
    check(attributes)
    base64 = _base64(packed) if packed is not None and bytes(packed) != _NULL else None
    if base64 is None:
        return CloudEvent(attributes, _fitting(attributes, data))
    if data is not None and bytes(data) != _NULL:
        raise Unfit("data and data_base64 exclude each other.")
    return CloudEvent(attributes, None, base64)


def _fitting(attributes: Attributes, data: msgspec.Raw | None) -> msgspec.Raw | None:
    """The data, if it is what ``datacontenttype`` declares: JSON, or text in a JSON string."""
    media = attributes.get("datacontenttype")
    if data is None or media is None or _is_json(str(media)) or starts_with(data, b'"'):
        return data
    if bytes(data) == _NULL:
        return None
    raise Unfit(f"data must be a string where datacontenttype is {str(media)[:100]}, or use data_base64.")


def _base64(raw: msgspec.Raw) -> str:
    try:
        text = _text.decode(raw)
        binascii.a2b_base64(text, strict_mode=True)
    except (msgspec.DecodeError, ValueError):
        raise Unfit("data_base64 must be a string in Base64.") from None
    return text


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    attributes: Attributes = {}
    for header, value in headers.items():
        name = header.lower()
        if name.startswith(HEADER):
            name = name.removeprefix(HEADER)
            if name in attributes:
                raise Unfit(f"ce-{name} came twice.")
            if name == "datacontenttype":
                raise Unfit("datacontenttype is told by the header Content-Type, not by ce-datacontenttype.")
            attributes[name] = unescaped(name, value)
    media = headers.get("Content-Type")
    if media:
        attributes["datacontenttype"] = media
    check(attributes)
    return _with_data(attributes, media or "", body)


def _with_data(attributes: Attributes, media: str, body: bytes) -> CloudEvent:
    if not body:
        return CloudEvent(attributes)
    if not media or _is_json(media):
        try:
            return CloudEvent(attributes, _any.decode(body))
        except _BROKEN as problem:
            if media:
                raise Unfit(f"The data is {media[:100]}, but not valid JSON: {problem}.") from None
    elif _is_text(media):
        try:
            return CloudEvent(attributes, msgspec.Raw(_encode(body.decode())))
        except UnicodeDecodeError:
            pass  # bytes it is
    return CloudEvent(attributes, None, b64encode(body).decode())


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").lower()


def _plain(media: str) -> str:
    return media.partition(";")[0].strip().lower()


def _is_json(media: str) -> bool:
    return _plain(media).endswith(("/json", "+json"))


def _is_text(media: str) -> bool:
    plain = _plain(media)
    return (plain.startswith("text/") or plain.endswith(_TEXT_ENDINGS)) and _is_utf8(media)


def _is_utf8(media: str) -> bool:
    found = _charset(media)
    return found is None or found[1].lower() in _UTF8


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    try:
        return decoder.decode(body)
    except _BROKEN as problem:
        said = "JSON is nested too deeply" if isinstance(problem, RecursionError) else problem
        raise BadRequest(400, SERIALIZATION, f"The body is not {what}: {said}.") from None
