"""The AWS wire, seen from the server's side: PutEvents, PutRumEvents, PutProjectEvents.

Invariants:
- A call that cannot be read is refused whole, as AWS does. An entry that cannot be read is refused alone
  where the API has results per entry and another entry can be read: AWS refuses such a call whole.
- The entries of a large call are counted before they are taken apart, and decoded one by one, in steps; so
  are those of any call that could not be decoded at once.
- Every error carries its code in the body (``__type``) and, by the server, in the header: SDKs of one kind
  read only the first, others only the second.
- ``CBOR``, ``QUERY``, ``EC2`` and ``REST_XML`` are only for errors: no operation that is accepted here speaks
  them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar
from xml.sax.saxutils import escape

import msgspec

from forwarder.apis import api as codecs
from forwarder.apis import put_events, put_project_events, put_rum_events, surrogates, wire
from forwarder.apis.api import Api
from forwarder.apis.scan import count_signs, elements
from forwarder.apis.split import Span, Unsplittable, members
from forwarder.ingest.bounds import MAX_SENTENCES, MAX_SIGNS, RAW_BYTES, Memory, capped
from forwarder.ingest.dialects import arrays
from forwarder.ingest.dialects.broken import BROKEN, sentence
from forwarder.ingest.errors import SERIALIZATION, BadRequest, Dialect, too_large
from forwarder.model import Refusal

T = TypeVar("T")
E = TypeVar("E", put_events.Entry, put_project_events.Event)

PUT_EVENTS = msgspec.json.Decoder(put_events.Request)
PUT_RUM_EVENTS = msgspec.json.Decoder(put_rum_events.Request)
PUT_PROJECT_EVENTS = msgspec.json.Decoder(put_project_events.Request)

ENTRY = msgspec.json.Decoder(put_events.Entry)
RUM_EVENT = msgspec.json.Decoder(put_rum_events.RumEvent)
PROJECT_EVENT = msgspec.json.Decoder(put_project_events.Event)

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_NO_LIST = msgspec.Raw(b"[]")
_ROW_BYTES = 2000
"""Of an answer: an entry with a sentence of 300 characters, each of which may be escaped."""


class RawPutEvents(msgspec.Struct, kw_only=True):
    """A call whose entries are still JSON."""

    Entries: msgspec.Raw = _NO_LIST
    EndpointId: str | None = None


class RawPutRumEvents(put_rum_events.Envelope, kw_only=True):
    RumEvents: msgspec.Raw


class RawPutProjectEvents(msgspec.Struct, kw_only=True):
    events: msgspec.Raw


RAW_PUT_EVENTS = msgspec.json.Decoder(RawPutEvents)
RAW_PUT_RUM_EVENTS = msgspec.json.Decoder(RawPutRumEvents)
RAW_PUT_PROJECT_EVENTS = msgspec.json.Decoder(RawPutProjectEvents)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, place: str = "") -> T:
    """A call's typed body, or the BadRequest that AWS would answer with. ``place``: of a part in its body."""
    try:
        return decoder.decode(body)
    except BROKEN as problem:
        raise unreadable(problem, body, place) from None


def read(decoder: msgspec.json.Decoder[T], body: bytes, name: str) -> Generator[None, None, T]:
    """A call whose list ``name`` is still JSON, and may be none in parts. BadRequest as ``decode`` has it."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise unreadable(problem, body) from None
    except BROKEN as problem:
        first = problem
    yield
    listed = yield from _find(body, name, first)
    around = b"%b[]%b" % (body[: listed[0]], body[listed[1] :])
    try:
        call = yield from surrogates.decode_steps(decoder, around)
    except BROKEN as problem:
        raise unreadable(problem, around) from None
    setattr(call, name, msgspec.Raw(body[listed[0] : listed[1]].strip()))
    return call


def _find(body: bytes, name: str, problem: Exception) -> Generator[None, None, Span]:
    """Where the value of a call's member is, in a body that could not be decoded because of ``problem``."""
    listed: Span | None = None
    try:
        for member in members(body):
            if member is None:
                yield
            elif member[0] == name:
                listed = member[2]
    except Unsplittable as worse:
        raise unreadable(problem if isinstance(problem, RecursionError) else worse, body) from None
    if listed is None:
        raise unreadable(problem, body) from None
    return listed


def entry(
    decoder: msgspec.json.Decoder[E], part: bytes | msgspec.Raw, place: str
) -> Generator[None, None, E | Refusal]:
    """One entry of a call, or why it cannot be read. ``place``: in the call."""
    try:
        return (yield from surrogates.decode_steps(decoder, part))
    except BROKEN as problem:
        return Refusal(SERIALIZATION, unreadable(problem, part, place).message)


def refuse_unreadable(entries: Sequence[object], code: str) -> None:
    """Entries that could not be read get an entry's ``code``; BadRequest, as AWS has it, when none could."""
    unread = [each for each in entries if isinstance(each, Refusal) and each.code == SERIALIZATION]
    if unread and len(unread) == len(entries):
        raise refused(unread[0], events=len(unread))
    for refusal in unread:
        refusal.code = code


def unreadable(problem: Exception, data: bytes | msgspec.Raw, place: str = "") -> BadRequest:
    if isinstance(problem, msgspec.ValidationError):
        said = _placed(str(problem), place) if place else str(problem)
        return BadRequest(400, SERIALIZATION, capped(f"Not a request of this API: {said}."))
    what = f"{place} is" if place else "The body is"
    return BadRequest(400, SERIALIZATION, capped(f"{what} not valid JSON: {sentence(problem, data)}."))


def check_signs(body: bytes) -> Generator[None, None, None]:
    """BadRequest when a large body is so full of brackets and commas that it is no call of these APIs."""
    count = yield from count_signs(body, MAX_SIGNS)
    if count > MAX_SIGNS:
        raise too_large(f"The body has more than {MAX_SIGNS} brackets and commas outside of strings.")
    yield


def apart(
    raw: msgspec.Raw, most: int, name: str, lease: Memory
) -> Generator[None, None, list[arrays.Part] | None]:
    """The elements of a call's list, the first one last; None when there are more than ``most``."""
    data = bytes(raw)
    if data[:1] != b"[":
        decode(_RAWS, data, f"$.{name}")
    count = yield from elements(data, most)
    if count > most:
        return None
    lease.check_room(count * RAW_BYTES)
    yield
    found = yield from arrays.apart(data, most)
    if len(found) > most:
        return None
    found.reverse()
    return found


def answer_bytes(entries: int) -> int:
    """Bytes that the answer needs at most: each of the few entries of a call may have a sentence."""
    return 512 + min(entries, MAX_SENTENCES) * _ROW_BYTES


def _placed(message: str, place: str) -> str:
    """msgspec's sentence with the path from the whole body."""
    before, path, after = message.partition("`$")
    return f"{before}`{place}{after}" if path else f"{message} - at `{place}`"


def refused(refusal: Refusal, status: int = 400, events: int = 1) -> BadRequest:
    """A call refused as a whole."""
    return BadRequest(status, refusal.code, refusal.message, reason=refusal.reason, events=events)


def _error(problem: BadRequest) -> bytes:
    return wire.error_body(problem.code, problem.message)


def _cbor_error(problem: BadRequest) -> bytes:
    """A CBOR map of two texts (RFC 8949; Smithy RPC v2 CBOR, "Operation error serialization")."""
    pairs = ("__type", problem.code, "message", problem.message)
    return b"\xa2" + b"".join([_cbor_text(text.encode("utf-8", "replace")) for text in pairs])


def _cbor_text(text: bytes) -> bytes:
    return b"\x79" + len(text).to_bytes(2, "big") + text


def _query_error(problem: BadRequest) -> bytes:
    """AWS Query, "Operation error serialization": XML."""
    code, message = escape(problem.code), escape(problem.message)
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{error}</ErrorResponse>".encode("utf-8", "replace")


def _xml_error(problem: BadRequest) -> bytes:
    """REST with XML, "Error response serialization": as S3 has it, and the others have it around theirs."""
    code, message = escape(problem.code), escape(problem.message)
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode("utf-8", "replace")


def _ec2_error(problem: BadRequest) -> bytes:
    """EC2 Query, "Operation error serialization"."""
    return b"<Response><Errors>%b</Errors></Response>" % _xml_error(problem)


def dialect_of(api: type[Api]) -> Dialect:
    """How the errors of an API are written."""
    codec = api.codec
    known = {codecs.JSON_1_1.name: JSON_1_1, codecs.REST_JSON.name: REST_JSON}.get(codec.name)
    return known or Dialect(
        codec.content_type, lambda problem: codec.error(problem.code, problem.message), aws=True
    )


JSON_1_1 = Dialect(codecs.JSON_1_1.content_type, _error, aws=True)
REST_JSON = Dialect(codecs.REST_JSON.content_type, _error, aws=True)
CBOR = Dialect("application/cbor", _cbor_error, aws=True)
QUERY = Dialect("text/xml", _query_error, aws=True)
EC2 = Dialect("text/xml", _ec2_error, aws=True)
REST_XML = Dialect("application/xml", _xml_error, aws=True)
