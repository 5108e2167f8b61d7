"""The native dialect: one event, a JSON array of them, or one per line, in the target's own field names.

Invariants:
- Several values one after the other are several events, also where the content type does not say so: agents
  send lines as application/json, and nothing else can be meant.
- A small body is decoded at once; only when that fails is it taken apart event by event, so that one bad
  event never costs its neighbours, whatever is wrong with it, and good bodies never pay for it.
- A larger body is counted before it is taken apart, and an event's length is judged before it is decoded. All
  of that goes in steps: whoever asks for the events may pause between two of them.
- One result per event, in the order they came; a refusal of a line names the line.
- What taking a body apart needs is leased before: a body of nothing but bad events is refused whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from forwarder.apis import surrogates
from forwarder.apis.scan import count_signs
from forwarder.ingest.bounds import (
    LONG_EVENT,
    MAX_EVENTS,
    MAX_SENTENCES,
    RAW_BYTES,
    Memory,
    capped,
    longest_event,
    most_signs,
    too_long,
    too_many_events,
)
from forwarder.ingest.dialects import arrays, values
from forwarder.ingest.dialects import lines as lines_
from forwarder.ingest.dialects import results as answers
from forwarder.ingest.dialects.broken import BROKEN, of_event, sentence
from forwarder.ingest.dialects.lines import SPACE
from forwarder.ingest.dialects.results import answer_bytes as answer_bytes
from forwarder.ingest.dialects.results import fates_members as fates_members
from forwarder.ingest.dialects.results import members as members
from forwarder.ingest.dialects.results import render as render
from forwarder.ingest.dialects.results import render_fates as render_fates
from forwarder.ingest.errors import (
    SERIALIZATION,
    THROTTLING,
    TOO_LARGE,
    VALIDATION,
    BadRequest,
    Dialect,
)
from forwarder.model import Refusal

_RAW = msgspec.json.Decoder(msgspec.Raw)
_MANY_VALUES = "trailing characters"
TAKEN_APART = 16 * 1024
"""A body up to this size is taken apart at once where it cannot be decoded as a whole."""

T = TypeVar("T")
Item = Any
"""An event as the API's ``native_type`` has it."""
Steps = Iterator[Item | Refusal | None]
"""Events, and None where nothing is to be had yet but a pause may be made."""
Judge = Callable[[msgspec.Raw], Generator[None, None, Refusal | None]]
"""Why a long event is refused before it is decoded."""


class Codec:
    """Decoders for one API's native events.

    ``max_events``: of a request. ``max_event_bytes``: of one event, by the API's formula.
    """

    __slots__ = ("_judge", "_longest", "_many", "_max_event_bytes", "_max_events", "_most_signs", "_one")

    def __init__(
        self,
        native_type: type,
        *,
        max_events: int = MAX_EVENTS,
        max_event_bytes: int = 1 << 20,
        judge: Judge | None = None,
    ) -> None:
        self._one: msgspec.json.Decoder[Item] = msgspec.json.Decoder(native_type)
        self._many: msgspec.json.Decoder[list[Item]] = msgspec.json.Decoder(list[native_type])  # type: ignore[valid-type]
        self._max_events = max_events
        self._max_event_bytes = max_event_bytes
        self._longest = longest_event(max_event_bytes)
        self._most_signs = most_signs(max_event_bytes)
        self._judge = judge

    def parse(self, body: bytes, lease: Memory, *, lines: bool) -> list[Item | Refusal] | None:
        """The events of a small body, each decoded or refused. A BadRequest when there is none to be found.

        What they hold until they are a queue's is leased. None: it is to be taken apart in ``steps``.
        """
        try:
            items = self._parse_whole(body, lines) if body.strip() else []
            lease.take_for_events(len(items))
        except BROKEN:
            if len(body) > TAKEN_APART:
                return None
            lines = lines or _at_once(_has_several(body))
            items = self._parse_lines(body, lease) if lines else self._parse_apart(body, lease)
        if not items:
            raise _no_events()
        if len(items) > self._max_events:
            raise too_many_events(self._max_events)
        return items

    def steps(self, body: bytes, lease: Memory, *, lines: bool) -> Steps:
        """The events of a body of any size, as ``parse`` has them, one after the other."""
        if lines:
            yield from self._step_lines(body, lease)
            return
        is_array = _is_array(body)
        yield None
        if is_array:
            yield from self._step_array(body, lease)
        elif (yield from lines_.goes_on(body)):
            yield from self._step_lines(body, lease)
        else:
            yield from self._step_one(body, lease)

    def _step_array(self, body: bytes, lease: Memory) -> Steps:
        seen = False
        for part in arrays.parts(body, lease, self._max_events, self._max_event_bytes):
            if part is None:
                yield None
            else:
                seen = True
                yield from self._step(part)
        if not seen:
            raise _no_events()

    def _step_one(self, body: bytes, lease: Memory) -> Steps:
        body = _stripped(body)
        if not body:
            raise _no_events()
        if len(body) <= self._longest:
            signs = yield from count_signs(body, self._most_signs)
            if signs <= self._most_signs:
                several = yield from _has_several(body)
                yield None  # it was decoded once, and is again
                if several:
                    yield from self._step_lines(body, lease)
                    return
                yield from _check_json(body)
            yield None
        lease.take_for_events(1)
        yield None
        yield from self._step(msgspec.Raw(body))

    def _step_lines(self, body: bytes, lease: Memory) -> Steps:
        seen = 0
        for parts in lines_.parts(body, self._max_events, self._most_signs):
            yield None
            if parts is None:
                continue
            seen += len(parts)
            if seen > self._max_events:
                raise too_many_events(self._max_events)
            lease.take_for_events(len(parts))
            for part in parts:
                yield from self._step(part)
        if not seen:
            raise _no_events()

    def _step(self, part: lines_.Part | arrays.TooLong) -> Steps:
        inseparable, part = (part, part.data) if isinstance(part, values.Inseparable) else (None, part)
        size = part.size if isinstance(part, arrays.TooLong) else memoryview(part).nbytes
        if size > LONG_EVENT:
            refusal = yield from self._judge_long(part, size)
            if refusal is not None:
                yield refusal
                return
            yield None
        assert not isinstance(part, arrays.TooLong)
        yield _inseparable(inseparable) if inseparable else (yield from self._decoded(part))

    def _judge_long(
        self, part: msgspec.Raw | bytes | arrays.TooLong, size: int
    ) -> Generator[None, None, Refusal | None]:
        """Why an event is refused before it is decoded."""
        if isinstance(part, arrays.TooLong) or size > self._longest:
            return self._too_long(size)
        if (yield from count_signs(part, self._most_signs)) > self._most_signs:
            return self._too_long(size)
        return None if self._judge is None else (yield from self._judge(msgspec.Raw(part)))

    def _too_long(self, size: int) -> Refusal:
        return Refusal(VALIDATION, too_long(size, self._max_event_bytes), "too_large")

    def _parse_whole(self, body: bytes, lines: bool) -> list[Item | Refusal]:
        if lines:
            return self._one.decode_lines(body)
        if _is_array(body):
            return self._many.decode(body)
        try:
            return [self._one.decode(body)]
        except msgspec.DecodeError as problem:
            if _MANY_VALUES not in str(problem):
                raise
            return self._one.decode_lines(body)

    def _parse_lines(self, body: bytes, lease: Memory) -> list[Item | Refusal]:
        return [item for item in self._step_lines(body, lease) if item is not None]

    def _parse_apart(self, body: bytes, lease: Memory) -> list[Item | Refusal]:
        lease.check_room(body.count(b",") * RAW_BYTES)
        raws: Sequence[msgspec.Raw | bytes] = [body]
        if _is_array(body):
            raws = _at_once(arrays.apart(body, self._max_events))
        if len(raws) == 1:
            _at_once(_check_json(body))
        lease.take_for_events(len(raws))
        return [self._decode(raw) for raw in raws]

    def _decode(self, raw: msgspec.Raw | bytes) -> Item | Refusal:
        return _at_once(self._decoded(raw))

    def _decoded(self, raw: msgspec.Raw | bytes) -> Generator[None, None, Item | Refusal]:
        try:
            return (yield from surrogates.decode_steps(self._one, raw))
        except msgspec.ValidationError as problem:
            return Refusal(VALIDATION, capped(f"{problem}."))
        except BROKEN as problem:
            return Refusal(SERIALIZATION, of_event(problem, raw))


def name_lines(body: bytes, results: list[str | Refusal]) -> Generator[None, None, None]:
    """Put the number of its line into each refusal that gets a sentence, in steps.

    Where some line held several events the numbers would mislead, and are left out.
    """
    places = [i for i, result in enumerate(results) if isinstance(result, Refusal)][:MAX_SENTENCES]
    numbers = yield from lines_.numbers(body, places, len(results))
    for i, number in (numbers or {}).items():
        refusal = results[i]
        if isinstance(refusal, Refusal):
            results[i] = Refusal(refusal.code, f"Line {number}: {refusal.message}", refusal.reason)


def none_taken(refusals: Sequence[Refusal]) -> BadRequest:
    """The error for a body whose every event was refused, and counted: 413 when none could fit, 429 when none
    can be accepted for now, else 400."""
    first = refusals[0]
    message = capped(first.message)
    if len(refusals) > 1:
        message = f"None of the {len(refusals)} events was taken. The first: {message}"
    if {refusal.reason for refusal in refusals} == {"too_large"}:
        return BadRequest(413, TOO_LARGE, message, refusals=refusals, events=0)
    if THROTTLING in {refusal.code for refusal in refusals}:
        return BadRequest(429, THROTTLING, message, refusals=refusals, events=0)
    return BadRequest(400, first.code, message, refusals=refusals, events=0)


def _error(problem: BadRequest) -> bytes:
    error = msgspec.json.encode({"code": problem.code, "message": problem.message})
    if not problem.refusals:
        return b'{"error":%b}' % error
    if problem.members:
        return b'{"error":%b,%b}' % (error, problem.members)
    return answers.render_refused(error, problem.refusals)


def _is_array(body: bytes) -> bool:
    return body[:1] == b"[" or (body[:1] in b" \t\r\n" and body.lstrip()[:1] == b"[")


def _stripped(body: bytes) -> bytes:
    """Without the space that JSON knows. Python strips all that it takes for space ten times as fast."""
    return body.strip(SPACE) if b"\x0b" in body or b"\x0c" in body else body.strip()


def _has_several(body: bytes) -> Generator[None, None, bool]:
    """Whether something follows the first JSON value of a body that is not an array."""
    if _is_array(body):
        return False
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError as problem:
        return _MANY_VALUES in str(problem) or (yield from values.has_several(body))
    except (UnicodeDecodeError, RecursionError):
        return (yield from values.has_several(body))
    return False


def _check_json(body: bytes) -> Generator[None, None, None]:
    """A single event that is not JSON at all makes the whole body so."""
    try:
        yield from surrogates.decode_steps(_RAW, body)
    except BROKEN as problem:
        raise _not_json(problem, body) from None


def _inseparable(part: values.Inseparable) -> Refusal:
    """What is wrong with it, and why it was not told apart from what may follow on its line."""
    try:
        _RAW.decode(part.data)
        said = "JSON is malformed."
    except BROKEN as problem:
        said = of_event(problem, part.data)
    return Refusal(SERIALIZATION, capped(f"{said} The rest of its line counts as part of it: {part.why}."))


def _at_once(steps: Generator[None, None, T]) -> T:
    """Of a small body."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _no_events() -> BadRequest:
    return BadRequest(400, VALIDATION, "The body holds no events.")


def _not_json(problem: Exception, body: bytes) -> BadRequest:
    return BadRequest(400, SERIALIZATION, f"The body is not valid JSON: {sentence(problem, body)}.")


DIALECT = Dialect("application/json", _error, aws=False)
