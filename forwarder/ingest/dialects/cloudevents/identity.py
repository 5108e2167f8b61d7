"""What a CloudEvent is known by when it comes again, in whichever form.

Invariants:
- The binary and the structured form of one event are one event: headers have strings only (Python's SDK
  writes ``True``), percent-encode what is not ASCII, and carry data as bytes.
- All attributes count as the sender gave them, before Time, TraceHeader and an id are filled in: two events
  with one ``source`` and ``id`` for two buses are two events.
"""

from __future__ import annotations

import binascii
import json
from hashlib import blake2b
from string import ascii_letters, digits, punctuation
from urllib.parse import quote

import msgspec

from forwarder.ingest.dialects.cloudevents.attributes import URIS, Value, moment
from forwarder.ingest.dialects.cloudevents.modes import CloudEvent, is_json, plain_media

_IDENTITY_BYTES = 16
_LONGEST_URI = 64 * 1024
"""Characters. No header is as long (``ingest.max_header_bytes``), so a longer URI comes in one form only."""
_JSON_TYPE = "application/json"
_ASCII = ascii_letters + digits + punctuation
_encode = msgspec.json.Encoder().encode
_text = msgspec.json.Decoder(str)


def identity(peer: str, target: str, event: CloudEvent) -> bytes:
    """Equal for the same event of the same peer sent again; different if anything that decides the entry
    is."""
    known = sorted([(name.lower(), _known_as(name, value)) for name, value in event.attributes.items()])
    media = event.attributes.get("datacontenttype")
    if media is not None and _media(media) == _JSON_TYPE:  # which is the default
        known.remove(("datacontenttype", _JSON_TYPE))
    digest = blake2b(_encoded([peer, target, known]), digest_size=_IDENTITY_BYTES)
    digest.update(_content(event, media))
    return digest.digest()


def _encoded(known: object) -> bytes:
    try:
        return _encode(known)
    except UnicodeEncodeError:  # half of a surrogate pair in a name
        return json.dumps(known).encode()


def _known_as(name: str, value: Value) -> str:
    if name == "time":
        seconds = moment({"time": value})
        return _string(value) if seconds is None else repr(float(seconds))
    if name == "datacontenttype":
        return _media(value)
    text = _string(value)
    if text in ("True", "False"):
        return text.lower()
    if name in URIS and len(text) <= _LONGEST_URI and not (text.isascii() and " " not in text):
        return quote(text, safe=_ASCII)
    return text


def _string(value: Value) -> str:
    if isinstance(value, str):
        return value
    return str(value, "utf-8") if isinstance(value, msgspec.Raw) else str(value).lower()


def _media(value: Value) -> str:
    """A media type without a charset that says what is so anyway."""
    text = _string(value)
    type_, _, parameters = text.partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    return type_.strip().lower() if charset in ("", "charset=utf-8") else text


def _content(event: CloudEvent, media: Value | None) -> bytes:
    """The bytes that binary mode would carry; of JSON, without the space that SDKs put in one form only."""
    holds_json = media is None or is_json(plain_media(media))
    if event.base64 is not None:
        data = binascii.a2b_base64(event.base64)
        return _without_space(data) if holds_json else data
    data = b"" if event.data is None else bytes(event.data)
    if holds_json or data[:1] != b'"':
        return _without_space(data)
    try:
        return _text.decode(data).encode()
    except ValueError:  # half of a surrogate pair
        return data


def _without_space(data: bytes) -> bytes:
    try:
        return msgspec.json.format(data, indent=-1)
    except (
        msgspec.DecodeError,
        ValueError,
        RecursionError,
    ):  # half of a surrogate pair, no UTF-8, or no JSON
        return data
