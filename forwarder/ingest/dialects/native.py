"""The native dialect: one event, a JSON array of them, or one per line, in the target's own field names.

Invariants:
- The whole body is decoded at once; only when that fails is it taken apart event by event, so that one bad
  event never costs its neighbours and good bodies never pay for it.
- One result per event, in the order they came; a refusal of a line names the line.
- What taking a body apart needs is leased before: a body of nothing but bad events is refused whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from forwarder.ingest.budget import RAW_BYTES, Lease
from forwarder.ingest.dialects.errors import (
    SERIALIZATION,
    THROTTLING,
    TOO_LARGE,
    VALIDATION,
    BadRequest,
    Dialect,
)
from forwarder.model import Refusal
from forwarder.receipts import DELIVERED, Receipt

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_MANY_VALUES = "trailing characters"
_MAX_MESSAGE = 300
"""Characters of what is said about a bad event: it may quote a name of any length."""

Item = Any
"""An event as the API's ``native_type`` has it."""


class Codec:
    """Decoders for one API's native events."""

    __slots__ = ("_many", "_one")

    def __init__(self, native_type: type) -> None:
        self._one: msgspec.json.Decoder[Item] = msgspec.json.Decoder(native_type)
        self._many: msgspec.json.Decoder[list[Item]] = msgspec.json.Decoder(list[native_type])  # type: ignore[valid-type]

    def parse(self, body: bytes, lease: Lease, *, lines: bool) -> list[Item | Refusal]:
        """The events of a body, each decoded or refused. A BadRequest when there is none to be found.

        What they hold until they are a queue's is leased.
        """
        try:
            items = self._parse_whole(body, lines) if body.strip() else []
            lease.take_for_events(len(items))
        except _BROKEN:
            items = self._parse_lines(body, lease) if lines else self._parse_apart(body, lease)
        if not items:
            raise BadRequest(400, VALIDATION, "The body holds no events.")
        return items

    def _parse_whole(self, body: bytes, lines: bool) -> list[Item | Refusal]:
        if lines:
            return self._one.decode_lines(body)
        return self._many.decode(body) if _is_array(body) else [self._one.decode(body)]

    def _parse_lines(self, body: bytes, lease: Lease) -> list[Item | Refusal]:
        lease.take_for_events(body.count(b"\n") + 1)
        return [self._decode(line) for _, line in _lines(body)]

    def _parse_apart(self, body: bytes, lease: Lease) -> list[Item | Refusal]:
        lease.check_room(body.count(b",") * RAW_BYTES)
        try:
            raws: Sequence[msgspec.Raw | bytes] = _RAWS.decode(body) if _is_array(body) else [body]
        except _BROKEN as problem:
            raise _not_json(problem) from None
        if len(raws) == 1:
            _check_json(body)
        lease.take_for_events(len(raws))
        return [self._decode(raw) for raw in raws]

    def _decode(self, raw: msgspec.Raw | bytes) -> Item | Refusal:
        try:
            return self._one.decode(raw)
        except msgspec.ValidationError as problem:
            return Refusal(VALIDATION, f"{str(problem)[:_MAX_MESSAGE]}.")
        except _BROKEN as problem:
            return Refusal(SERIALIZATION, f"{_sentence(problem)}.")


def name_lines(body: bytes, results: list[str | Refusal]) -> None:
    """Put the number of its line into each refusal."""
    lines = _lines(body)
    if len(lines) != len(results):
        return  # some line held several events, so the numbers would mislead
    for i, (number, _) in enumerate(lines):
        if isinstance(refusal := results[i], Refusal):
            results[i] = Refusal(refusal.code, f"Line {number}: {refusal.message}", refusal.reason)


def none_taken(refusals: Sequence[Refusal]) -> BadRequest:
    """The error for a body whose every event was refused, and counted: 413 when none could fit, 429 when none
    can be accepted for now, else 400."""
    first = refusals[0]
    message = first.message
    if len(refusals) > 1:
        message = f"None of the {len(refusals)} events was taken. The first: {message}"
    if all(refusal.reason == "too_large" for refusal in refusals):
        return BadRequest(413, TOO_LARGE, message, refusals=refusals, events=0)
    if any(refusal.code == THROTTLING for refusal in refusals):
        return BadRequest(429, THROTTLING, message, refusals=refusals, events=0)
    return BadRequest(400, first.code, message, refusals=refusals, events=0)


def render(results: Sequence[str | Refusal]) -> bytes:
    """The answer for a body of which at least one event was taken."""
    rejected = sum([isinstance(result, Refusal) for result in results])
    return b'{"accepted":%d,"rejected":%d,"results":[%b]}' % (
        len(results) - rejected,
        rejected,
        _rows(results),
    )


def render_fates(results: Sequence[str | Refusal], fates: Mapping[str, Receipt]) -> bytes:
    """The answer for a body whose sender waited: each event with its status, and AWS's id or word."""
    rows = [_fate(result, fates) for result in results]
    rejected = sum("code" in row for row in rows)
    return msgspec.json.encode({"accepted": len(rows) - rejected, "rejected": rejected, "results": rows})


def _fate(result: str | Refusal, fates: Mapping[str, Receipt]) -> dict[str, str]:
    if isinstance(result, Refusal):
        return {"status": "refused", "code": result.code, "message": result.message}
    receipt = fates.get(result)
    if receipt is None:
        return {"id": result, "status": "queued"}
    if receipt.fate == DELIVERED:
        said = {"event_id": receipt.aws_id} if receipt.aws_id else {}
    else:
        said = {"code": receipt.code, "message": receipt.message}
    return {"id": result, "status": receipt.fate, **said}


def _rows(results: Sequence[str | Refusal]) -> bytes:
    if not results:
        return b""  # only a batch of CloudEvents may be empty
    try:
        return b'{"id":"%b"}' % '"},{"id":"'.join(results).encode()  # type: ignore[arg-type] # nearly always
    except TypeError:
        return b",".join([_row(result) for result in results])


def _row(result: str | Refusal) -> bytes:
    if isinstance(result, str):
        return b'{"id":"%b"}' % result.encode()
    return msgspec.json.encode({"code": result.code, "message": result.message})


def _error(problem: BadRequest) -> bytes:
    error = msgspec.json.encode({"code": problem.code, "message": problem.message})
    if not problem.refusals:
        return b'{"error":%b}' % error
    return b'{"error":%b,"accepted":0,"rejected":%d,"results":[%b]}' % (
        error,
        len(problem.refusals),
        _rows(problem.refusals),
    )


def _is_array(body: bytes) -> bool:
    return body[:1] == b"[" or (body[:1] in b" \t\r\n" and body.lstrip()[:1] == b"[")


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """The lines that hold something, with their numbers from 1."""
    return [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def _check_json(body: bytes) -> None:
    """A single event that is not JSON at all makes the whole body so."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except _BROKEN as problem:
        raise _not_json(problem) from None


def _not_json(problem: Exception) -> BadRequest:
    message = f"The body is not valid JSON: {_sentence(problem)}."
    if _MANY_VALUES in message:
        message += " To send one event per line, say Content-Type: application/x-ndjson."
    return BadRequest(400, SERIALIZATION, message)


def _sentence(problem: Exception) -> str:
    if isinstance(problem, RecursionError):
        return "JSON is nested too deeply"
    if isinstance(problem, UnicodeDecodeError):
        return "JSON is not valid UTF-8"
    return str(problem)


DIALECT = Dialect("application/json", _error, aws=False)
