"""What a sender can ask for: each operation opens a call, and the call takes the body.

Invariants:
- ``open`` judges what the head of a request tells, before its body is read: unknown names, wrong regions.
- ``take`` either returns a result per event, or raises BadRequest and took nothing.
- ``reply`` renders results and, where the request waited, AWS's word on each; it never fails: the events are
  ours by then.
- Refused events are counted once: by the call when they are some of many, by the server when it is the
  request.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from forwarder.apis.trace_header import from_headers
from forwarder.ingest.bindings import MAX_NAME, Route
from forwarder.ingest.bounds import MAX_EVENTS, SMALL_BODY
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import native
from forwarder.ingest.errors import METHOD, NO_HEADERS, NOT_FOUND, BadRequest, Dialect
from forwarder.ingest.http.media import holds_lines
from forwarder.ingest.intake import count, put
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Draft, Refusal, id_stream, new_ids
from forwarder.receipts import Receipt

SLICE = 1000
"""More results than this are rendered in a slice of their own."""
FEW = 200
"""Events of a small body that are admitted in one go."""

Results = list[str | Refusal]
"""Our id of each event that was taken, else why it was not."""
Fates = Mapping[str, Receipt]
"""What became of events by then, by our ids."""


class Reply(msgspec.Struct, gc=False):
    """The answer to a request whose events are ours."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS


class Call(Protocol):
    """One opened request. ``metrics`` counts what is refused as a whole.

    ``ack_timeout``: seconds to wait for AWS's word where the request does not say.
    """

    metrics: TargetMetrics
    ack_timeout: float

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results: ...

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        """``fates`` is None for a request that did not wait."""


class Operation(Protocol):
    """``label`` is its name in metrics; not ``known``: 404, whatever the method.

    ``names_batch``: a body names its batch, so that equal bodies are one request. ``service``: what signed
    requests must be signed for, "" for any. ``is_for_pages``: web pages send to it.
    """

    dialect: Dialect
    label: str
    known: bool
    names_batch: bool
    service: str
    is_for_pages: bool

    def open(self, name: str, headers: Mapping[str, str]) -> Call: ...

    def holds_lines(self, headers: Mapping[str, str]) -> bool:
        """Whether the body holds one event per line; BadRequest when it is of no type that is taken."""

    def reads_json(self, headers: Mapping[str, str]) -> bool:
        """Whether the body must be JSON, and not data of any kind."""

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        """The answer to a method that is not POST; BadRequest when there is none."""


class PostOnly:
    """What most operations have in common: JSON by POST, and nothing else."""

    names_batch = False
    service = ""
    is_for_pages = False

    holds_lines = staticmethod(holds_lines)

    def reads_json(self, headers: Mapping[str, str]) -> bool:
        return True

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        raise no_method(method, "POST")


def no_method(method: str, *possible: str) -> BadRequest:
    message = f"Method {method} is not allowed; use {' or '.join(possible)}."
    return BadRequest(405, METHOD, message, headers={"Allow": ", ".join(possible)}, events=0)


class NativeEvents(PostOnly):
    """Native events for one target; its own call, since the path says it all."""

    dialect = native.DIALECT
    label = "native"
    known = True

    def __init__(
        self,
        route: Route[Any],
        clock: Clock,
        codec: native.Codec | None = None,
        trace: str | None = None,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self.metrics = route.metrics
        self.ack_timeout = route.ack_timeout
        self._route = route
        self._clock = clock
        self._codec = codec or native.Codec(
            route.api.native_type,
            max_events=max_events,
            max_event_bytes=route.max_event_bytes,
            judge=getattr(route.api, "judge", None),
        )
        self._traced: bool = getattr(route.api, "fill_trace_header", False)
        self._trace = trace

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        trace = from_headers(headers) if self._traced else None
        return self if trace is None else NativeEvents(self._route, self._clock, self._codec, trace)

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        items = self._codec.parse(body, lease, lines=lines) if len(body) <= SMALL_BODY else None
        if items is not None:
            drafts = await self._admit(items, lease.peer)
        else:
            steps = self._codec.steps(body, lease, lines=lines)
            drafts = await self._admit_steps(steps, Work(lease.peer))
        work = Work(lease.peer) if len(drafts) > SLICE else None
        if work is not None:
            await work.pause()
        lease.take_for_answer(answer_bytes(drafts, waiting))
        results = await put(self._route, drafts, self._clock, waiting, peer=lease.peer, work=work)
        if work is not None:
            await work.pause()
        del drafts
        if Refusal not in map(type, results):
            return results
        count(self.metrics, results)
        if work is not None:
            await work.pause()
        if lines:
            await Work(lease.peer).through(native.name_lines(body, results))
        return await told(results, lease.peer)

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        return native_reply(results, fates)

    async def _admit(self, items: list[native.Item | Refusal], peer: str) -> list[Draft | Refusal]:
        if self._trace is not None:
            _fill_trace_header(items, self._trace)
        admit, wall = self._route.api.admit_native, self._clock.wall()
        if len(items) <= FEW:
            pairs = zip(items, new_ids(len(items), wall), strict=True)
            return [item if type(item) is Refusal else admit(item, wall, id) for item, id in pairs]
        drafts: list[Draft | Refusal] = []
        work, ids = Work(peer), id_stream(wall)
        for start in range(0, len(items), FEW):
            await work.rest()  # a huge body must not hold up everybody else
            some = items[start : start + FEW]
            pairs = zip(some, ids, strict=False)
            drafts += [item if type(item) is Refusal else admit(item, wall, id) for item, id in pairs]
            items[start : start + FEW] = [None] * len(some)  # what is not needed is let go of on the way
        return drafts

    async def _admit_steps(self, steps: native.Steps, work: Work) -> list[Draft | Refusal]:
        admit, wall, trace = self._route.api.admit_native, self._clock.wall(), self._trace
        drafts: list[Draft | Refusal] = []
        ids = id_stream(wall)
        for item in steps:
            if type(item) is Refusal:
                drafts.append(item)
            elif item is not None:
                if trace is not None:
                    _fill_trace_header([item], trace)
                if work.is_over:
                    await work.pause()
                drafts.append(admit(item, wall, next(ids)))
            if work.is_over:
                await work.pause()
        return drafts


def _fill_trace_header(items: list[native.Item | Refusal], trace: str) -> None:
    for item in items:
        if not isinstance(item, Refusal) and item.TraceHeader is None:
            item.TraceHeader = trace


def answer_bytes(drafts: Sequence[Draft | Refusal], waiting: Waiting | None) -> int:
    """Bytes that the native answer to these needs at most."""
    if waiting is None and Refusal not in map(type, drafts):  # nearly always
        return native.answer_bytes(len(drafts))
    refused = sum([type(draft) is Refusal for draft in drafts])
    return native.answer_bytes(len(drafts), refused, waits=waiting is not None)


class Told(list[str | Refusal]):
    """Results whose answer is rendered already, as they are many: with the fates of a request that waited."""

    members = b""


async def told(results: Results, peer: str = "") -> Results:
    """The results of a request, some of them refused; BadRequest when all are. Many go in slices."""
    work = Work(peer)
    many = len(results) > SLICE
    members = await _rendered(native.members(results), work) if many else b""
    if str not in map(type, results):
        problem = native.none_taken(results)  # type: ignore[arg-type] # refusals, all of them
        problem.members = members
        raise problem
    if many:
        results = Told(results)
        results.members = members
    return results


async def told_fates(results: Results, fates: Fates, peer: str = "") -> Results:
    """The results of a request that waited; many are rendered in slices."""
    if len(results) <= SLICE:
        return results
    with_fates = Told(results)
    with_fates.members = await _rendered(native.fates_members(results, fates), Work(peer))
    return with_fates


async def _rendered(steps: Generator[None, None, bytes], work: Work) -> bytes:
    await work.pause()
    members = await work.through(steps)
    await work.pause()
    return members


def native_reply(results: Results, fates: Fates | None) -> Reply:
    """A result per event: 202, or 200 when the fate of all is known."""
    status = 202 if fates is None or not is_known(results, fates) else 200
    if isinstance(results, Told):
        return Reply(status, b"{%b}" % results.members)
    if fates is None:
        return Reply(status, native.render(results))
    return Reply(status, native.render_fates(results, fates))


def is_known(results: Results, fates: Fates) -> bool:
    """Whether the fate of every event that was taken is known."""
    return all(type(result) is not str or result in fates for result in results)


class Refusing(PostOnly):
    """An operation that is none: every request to it gets the same error, with its name in the sentence."""

    def __init__(
        self,
        label: str,
        dialect: Dialect,
        status: int,
        code: str,
        sentence: str,
        *,
        known: bool = True,
        headers: Mapping[str, str] = NO_HEADERS,
        service: str = "",
    ) -> None:
        self._headers = headers
        self.service = service
        self.label = label
        self.dialect = dialect
        self.known = known
        self._status = status
        self._code = code
        self._before, _, self._after = sentence.partition("NAME")

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        message = f"{self._before}{name[:MAX_NAME]}{self._after}"
        raise BadRequest(self._status, self._code, message, headers=self._headers, events=0)


def unknown_target(targets: Sequence[str]) -> Operation:
    sentence = f'There is no target "NAME" here; there is: {", ".join(targets) or "none"}.'
    return Refusing("native", native.DIALECT, 404, NOT_FOUND, sentence)
