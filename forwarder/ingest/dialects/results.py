"""The native answer: a result per event, and the messages of refused events.

Invariants:
- One result per event, in the order they came; each says by itself whether the event was accepted, and its
  code if it was not.
- The first ``MAX_SENTENCES`` refused events have a message each. The messages of the others are in
  ``refusals``, with ranges of indexes. Every refused index is in exactly one of these two places.
- ``answer_bytes`` is an upper bound on the size of the answer to a number of events.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import msgspec

from forwarder.ingest.bounds import MAX_SENTENCES, capped
from forwarder.model import Refusal
from forwarder.receipts import DELIVERED, Receipt

_ROW_BYTES, _WAITED_ROW_BYTES = 80, 260
"""An accepted event's row, or a refused one's with its code and range; where the sender waits, with its
status and AWS's id or code."""
_SENTENCE_BYTES = 2000
"""A sentence of 300 characters, each of which may be escaped, with what is around it."""
_HEAD_BYTES = 512
STEP = 1024
"""Results that are rendered in one go."""

_encode = msgspec.json.Encoder().encode
Results = Sequence[str | Refusal]
Row = dict[str, str]


def answer_bytes(events: int, refused: int = 0, *, waits: bool = False) -> int:
    """Bytes that the answer to so many events needs at most, when so many of them are refused before the put.

    ``waits``: for AWS's word, which may be a sentence about any of them.
    """
    if not refused and not waits:
        return _HEAD_BYTES + events * _ROW_BYTES
    sentences = 2 * min(events if waits else refused, MAX_SENTENCES)
    return _HEAD_BYTES + events * (_WAITED_ROW_BYTES if waits else _ROW_BYTES) + sentences * _SENTENCE_BYTES


def render(results: Results) -> bytes:
    """The answer for a body of which at least one event was taken."""
    if Refusal in map(type, results):
        return b"{%b}" % _through(members(results))
    return b'{"accepted":%d,"refused":0,"results":[%b]}' % (len(results), _ids(results))


def render_refused(error: bytes, refusals: Sequence[Refusal]) -> bytes:
    """The answer for a body of which no event was taken, though each was looked at."""
    return b'{"error":%b,%b}' % (error, _through(members(refusals)))


def members(results: Results) -> Generator[None, None, bytes]:
    """What an answer says of its events, without the brackets around it, in steps."""
    chunks: list[bytes] = []
    rows: list[bytes] = []
    sentences, codes = 0, _Codes()
    later: list[tuple[int, str, str]] = []
    for i, result in enumerate(results):
        if len(rows) == STEP:
            _join(rows, chunks)
            yield
        if type(result) is str:
            rows.append(b'{"id":"%b"}' % result.encode())
            continue
        assert type(result) is Refusal
        if sentences < MAX_SENTENCES:
            sentences += 1
            rows.append(_encode({"code": result.code, "message": capped(result.message)}))
        else:
            rows.append(codes[result.code])
            later.append((i, result.code, result.message))
    _join(rows, chunks)
    yield
    refused = sentences + len(later)
    rest = (yield from _grouped(later)) if later else b""
    counted = len(results) - refused, refused
    return b'"accepted":%d,"refused":%d,"results":[%b]%b' % (*counted, b",".join(chunks), rest)


def _join(rows: list[bytes], chunks: list[bytes]) -> None:
    """Let go of the rows on the way, and not of all of them in one step."""
    if rows:
        chunks.append(b",".join(rows))
        rows.clear()


def _through(steps: Generator[None, None, bytes]) -> bytes:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bytes(end.value)


def render_fates(results: Results, fates: Mapping[str, Receipt]) -> bytes:
    """The answer for a body whose sender waited: each event with its status, and AWS's id or word."""
    return b"{%b}" % _through(fates_members(results, fates))


def fates_members(results: Results, fates: Mapping[str, Receipt]) -> Generator[None, None, bytes]:
    """The same without the brackets around it, in steps."""
    chunks: list[bytes] = []
    rows: list[bytes] = []
    said: list[tuple[int, str, str]] = []
    refused = 0
    for i, result in enumerate(results):
        if len(rows) == STEP:
            _join(rows, chunks)
            yield
        receipt = None if isinstance(result, Refusal) else fates.get(result)
        if isinstance(result, str) and (receipt is None or receipt.fate == DELIVERED):
            rows.append(_going(result, receipt))
            continue
        refused += 1
        row, message = _gone(result, receipt)
        if refused <= MAX_SENTENCES:
            row["message"] = capped(message)
        else:
            said.append((i, row["code"], message))
        rows.append(_encode(row))
    _join(rows, chunks)
    yield
    rest = (yield from _grouped(said)) if said else b""
    counted = len(results) - refused, refused
    return b'"accepted":%d,"refused":%d,"results":[%b]%b' % (*counted, b",".join(chunks), rest)


def _going(id: str, receipt: Receipt | None) -> bytes:
    if receipt is None:
        return b'{"id":"%b","status":"queued"}' % id.encode()
    if not receipt.aws_id:
        return b'{"id":"%b","status":"delivered"}' % id.encode()
    return b'{"id":"%b","status":"delivered","event_id":%b}' % (id.encode(), _encode(receipt.aws_id[:100]))


def _gone(result: str | Refusal, receipt: Receipt | None) -> tuple[Row, str]:
    if isinstance(result, Refusal):
        return {"status": "refused", "code": result.code}, result.message
    assert receipt is not None
    return {"id": result, "status": receipt.fate, "code": receipt.code[:100]}, receipt.message


def _ids(results: Results) -> bytes:
    if not results:
        return b""  # only a batch of CloudEvents may be empty
    return b'{"id":"%b"}' % '"},{"id":"'.join(results).encode()  # type: ignore[arg-type] # ids, all of them


class _Codes(dict[str, bytes]):
    """The row of an event whose sentence is elsewhere, by its code."""

    def __missing__(self, code: str) -> bytes:
        row = self[code] = b'{"code":%b}' % _encode(code)
        return row


def _grouped(said: Sequence[tuple[int, str, str]]) -> Generator[None, None, bytes]:
    """Ranges of indexes by code and sentence; beyond so many sentences by the code alone. In steps."""
    groups: dict[tuple[str, str], list[list[int]]] = {}
    shared: dict[str, tuple[str, str]] = {}
    last, last_code, last_message, range_ = -2, "", "", [0, 0]
    for number, (i, code, message) in enumerate(said):
        if number % STEP == STEP - 1:
            yield
        if i == last + 1 and message == last_message and code == last_code:
            last = range_[1] = i
            continue
        ranges = groups.get((code, message))
        if ranges is None:
            if len(groups) < MAX_SENTENCES:
                ranges = groups[code, message] = []
            else:
                key = shared.setdefault(code, (code, f"Refused for different reasons; the first: {message}"))
                ranges = groups.setdefault(key, [])
        last, last_code, last_message, range_ = i, code, message, [i, i]
        ranges.append(range_)
    rows = [
        {"code": code, "message": capped(message), "ranges": ranges}
        for (code, message), ranges in groups.items()
    ]
    return b',"refusals":%b' % _encode(rows)
