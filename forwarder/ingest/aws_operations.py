"""The AWS operations: each call to the targets its names are bound to.

Invariants:
- A full target refuses its own entries of a PutEvents call and no other's; only when nothing was taken is
  the call refused as a whole. An entry that cannot be read, or is too large, is refused alone as well.
- A PutRumEvents call leaves as the one batch it came as, unless its target merges. An event that AWS would
  refuse costs the whole call, as there. One that only this daemon refuses (it is too large, or has half of a
  surrogate pair in a string) costs no other: the others are accepted, and the answer is 400, which makes no
  client try again (AWS's web client drops its batch, and stays on).
- A large call is read in slices: its entries are counted, then each is judged by its length before anything
  in it is.
- An answer about events that are ours has a status that no SDK tries again: 200, or for PutRumEvents 400.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog

from forwarder.apis import put_events, put_project_events, surrogates, wire
from forwarder.apis.api import label as label_of
from forwarder.apis.put_events import (
    DEFAULT_MAX_REQUEST_BYTES,
    NO_GLOBAL_ENDPOINTS,
    Entry,
    PutEvents,
    check_count,
    check_endpoint,
    check_size,
)
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import Envelope, PutRumEvents, RumEvent
from forwarder.apis.surrogates import HalfPair
from forwarder.apis.trace_header import from_headers
from forwarder.ingest.bindings import A, Bound, Route
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.dialects.arrays import Part
from forwarder.ingest.dialects.bounds import (
    LONG_EVENT,
    MAX_EVENTS,
    SMALL_BODY,
    longest_event,
    too_long,
    too_many_events,
)
from forwarder.ingest.dialects.broken import BROKEN
from forwarder.ingest.dialects.errors import INTERNAL, NOT_FOUND, THROTTLING, VALIDATION, BadRequest
from forwarder.ingest.intake import count, put, within_limits
from forwarder.ingest.operations import Call, Fates, PostOnly, Reply, Results
from forwarder.ingest.shares import refuse_whole
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.logs import limited
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Draft, Refusal, id_stream
from forwarder.receipts import DELIVERED, Receipt

INVALID_ARGUMENT = "InvalidArgument"
EXPIRED = "EventExpired"
DEFAULT_BUS = "default"
TOO_LARGE = "too_large"

T = TypeVar("T")

_log = structlog.get_logger("ingest")
_ENTRY_CODES = {429: THROTTLING, 503: INTERNAL}
"""By the status a whole request would get: the codes of entries that AWS's clients try again."""


class PutEventsOperation(PostOnly):
    """``AWSEvents.PutEvents``: every entry goes to the target of its bus."""

    dialect = aws.JSON_1_1
    label = label_of(PutEvents)
    known = True
    service = PutEvents.service

    def __init__(self, buses: Bound[PutEvents], clock: Clock, unbound: TargetMetrics) -> None:
        self.buses = buses
        self.clock = clock
        self.unbound = unbound
        self.render = PutEvents().render_results  # the same for all, and there for a call without a target
        apis = [route.api for route in buses.routes]
        self.ack_timeout = max((route.ack_timeout for route in buses.routes), default=0.0)
        self.traced = any(api.fill_trace_header for api in apis)
        self.max_bytes = max((api.max_request_bytes for api in apis), default=DEFAULT_MAX_REQUEST_BYTES)
        self.global_endpoints = all(api.global_endpoints for api in apis)

    def presigned(self, region: str) -> PutEventsOperation:
        return self

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        return _PutEventsCall(self, region_of(headers), from_headers(headers) if self.traced else None)

    def check(self, entries: Sequence[Entry | Refusal], endpoint_id: str | None) -> Refusal | None:
        """Why the call is refused as a whole, if it is."""
        refusal = check_endpoint(endpoint_id) or self._check_entries(entries)
        if refusal is None and endpoint_id and not self.global_endpoints:
            return Refusal(VALIDATION, NO_GLOBAL_ENDPOINTS, "global_endpoint")
        return refusal

    def _check_entries(self, entries: Sequence[Entry | Refusal]) -> Refusal | None:
        readable = [entry for entry in entries if isinstance(entry, Entry)]
        refusal = check_count(len(entries)) or check_size(readable, self.max_bytes)
        if refusal is None:
            return None
        fitting = [entry for entry in readable if put_events.size(entry) <= self.max_bytes]
        if fitting and len(entries) <= put_events.MAX_ENTRIES:  # each of the others is refused by itself
            return check_size(fitting, self.max_bytes)
        return refusal


class _PutEventsCall:
    __slots__ = ("_operation", "_region", "_trace", "ack_timeout", "metrics")

    def __init__(self, operation: PutEventsOperation, region: str | None, trace: str | None) -> None:
        self.metrics = operation.unbound
        self.ack_timeout = operation.ack_timeout
        self._operation = operation
        self._region = region
        self._trace = trace

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        work = Work(lease.peer)
        request = _decoded(aws.PUT_EVENTS, body)
        if request is not None:
            entries: Sequence[Entry | Refusal] = request.Entries
            endpoint = request.EndpointId
        else:
            entries, endpoint = await _read_put_events(body, lease, work)
        refusal = self._operation.check(entries, endpoint)
        if refusal is not None:
            raise aws.refused(refusal)
        lease.take_for_answer(aws.answer_bytes(len(entries)))
        drafts, groups = await self._admit(entries, endpoint or "", work)
        results: list[str | Refusal] = [draft if isinstance(draft, Refusal) else "" for draft in drafts]
        problems = []
        for route, places in groups.items():  # a full target refuses its own entries and no other's
            try:
                some = [drafts[i] for i in places]
                taken = await put(route, some, self._operation.clock, waiting, peer=lease.peer)
            except BadRequest as problem:
                problems.append(problem)
                taken = [_instead(problem, drafts[i]) for i in places]
            count(route.metrics, taken)
            for i, result in zip(places, taken, strict=True):
                results[i] = result
        if problems and all(isinstance(result, Refusal) for result in results):
            raise _worst(problems)
        refuse_whole(results)
        return results

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        return Reply(200, self._operation.render(with_fates(results, fates)))

    async def _admit(
        self, entries: Sequence[Entry | Refusal], endpoint: str, work: Work
    ) -> tuple[list[Draft | Refusal], dict[Route[PutEvents], list[int]]]:
        """Every entry admitted or refused, and which entries go to which target."""
        wall = self._operation.clock.wall()
        drafts: list[Draft | Refusal] = []
        nowhere: list[Refusal] = []
        groups: dict[Route[PutEvents], list[int]] = {}
        ids = id_stream(wall)
        for i, entry in enumerate(entries):
            route = entry if isinstance(entry, Refusal) else self._find(entry.EventBusName or DEFAULT_BUS)
            if isinstance(route, Refusal):
                drafts.append(route)
                nowhere.append(route)
                continue
            assert isinstance(entry, Entry)
            if self._trace is not None and entry.TraceHeader is None and route.api.fill_trace_header:
                entry.TraceHeader = self._trace
            await work.rest()
            drafts.append(route.api.admit(entry, wall, endpoint, next(ids)))
            groups.setdefault(route, []).append(i)
        if not groups:
            _refuse_whole_region(nowhere)
        count(self._operation.unbound, nowhere)
        return drafts, groups

    def _find(self, bus: str) -> Route[PutEvents] | Refusal:
        place = self._operation.buses.find(bus, self._region)
        if isinstance(place, Refusal) and place.code != VALIDATION:
            return Refusal(INVALID_ARGUMENT, place.message, place.reason)
        return place


def _refuse_whole_region(refusals: Sequence[Refusal]) -> None:
    """BadRequest when no entry is for a region of its bus's target: then the call is signed for another."""
    for refusal in refusals:
        if refusal.code == VALIDATION:
            raise aws.refused(refusal)


class PutRumEventsOperation(PostOnly):
    """``PutRumEvents``: a client's batch, taken whole or not at all."""

    dialect = aws.REST_JSON
    label = label_of(PutRumEvents)
    known = True
    service = PutRumEvents.service
    is_for_pages = True
    names_batch = True  # BatchId, the same on every try of AWS's web client (DataPlaneClient)

    def __init__(
        self,
        monitors: Bound[PutRumEvents],
        clock: Clock,
        presigned_for: str | None = None,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self._monitors = monitors
        self._clock = clock
        self._presigned_for = presigned_for
        self._max_events = max_events

    def presigned(self, region: str) -> PutRumEventsOperation:
        """The operation for a request whose query was signed for this region, as a beacon's is."""
        return PutRumEventsOperation(self._monitors, self._clock, region, self._max_events)

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        region = self._presigned_for or region_of(headers)
        route = bound(self._monitors.find(name, region))
        return _PutRumEventsCall(name, route, self._clock, self._max_events)


class _PutRumEventsCall:
    __slots__ = ("_clock", "_max_events", "_monitor", "_route", "ack_timeout", "metrics")

    def __init__(self, monitor: str, route: Route[PutRumEvents], clock: Clock, max_events: int) -> None:
        self.metrics = route.metrics
        self.ack_timeout = route.ack_timeout
        self._monitor = monitor
        self._max_events = max_events
        self._route = route
        self._clock = clock

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        work = Work(lease.peer)
        request = _decoded(aws.PUT_RUM_EVENTS, body)
        if request is not None:
            lease.take_for_events(len(request.RumEvents))
            drafts = await self._admit(request, request.RumEvents, work)
        else:
            await work.through(aws.check_signs(body))
            raw = await work.through(aws.read(aws.RAW_PUT_RUM_EVENTS, body, "RumEvents"))
            await work.rest()
            drafts = await self._admit(raw, await self._apart(raw.RumEvents, lease, work), work)
        lease.take_for_answer(aws.answer_bytes(0))
        complete = not self._route.api.merge
        taken = await put(
            self._route, drafts, self._clock, waiting, complete=complete, peer=lease.peer, work=work
        )
        await work.rest()
        count(self.metrics, taken)
        refuse_whole(taken)
        await work.rest()
        return taken

    async def _apart(self, raw: msgspec.Raw, lease: Lease, work: Work) -> list[Part]:
        events = await work.through(aws.apart(raw, self._max_events, "RumEvents", lease))
        if events is None:
            raise too_many_events(self._max_events)
        lease.take_for_events(len(events))
        events.reverse()
        return events

    async def _admit(
        self, request: Envelope, events: Sequence[RumEvent | Part], work: Work
    ) -> list[Draft | Refusal]:
        """Every event admitted, or refused for a reason of our own; BadRequest when AWS would refuse one (it
        takes all or nothing), and when none is left."""
        api, name, most = self._route.api, self._monitor, self._route.max_event_bytes
        longest = longest_event(most)
        key = api.call_key(name, request)
        if isinstance(key, Refusal):
            raise aws.refused(key, events=max(1, len(events)))
        drafts: list[Draft | Refusal] = []
        ids = id_stream(self._clock.wall())
        for i, event in enumerate(events):
            await work.rest()
            if not isinstance(event, RumEvent):
                size = memoryview(event).nbytes
                if size > longest:
                    drafts.append(Refusal(VALIDATION, f"RumEvents[{i}]: {too_long(size, most)}", TOO_LARGE))
                    continue
                place = f"$.RumEvents[{i}]"
                part = event
                try:
                    event = await work.through(surrogates.decode_steps(aws.RUM_EVENT, part))
                except HalfPair as problem:
                    drafts.append(Refusal(VALIDATION, f"{place}: {problem}."))
                    continue
                except BROKEN as problem:
                    raise aws.unreadable(problem, part, place) from None
                await work.rest()
            draft = api.admit_one(event, key, name, i, next(ids))
            if isinstance(draft, Draft):
                [draft] = within_limits(self._route, [draft])
                if isinstance(draft, Refusal):
                    draft = Refusal(draft.code, f"RumEvents[{i}]: {draft.message}", draft.reason)
            if isinstance(draft, Refusal) and draft.reason != TOO_LARGE:
                raise aws.refused(draft, events=len(events))
            drafts.append(draft)
        self._log_refused(drafts)
        if drafts and all(isinstance(draft, Refusal) for draft in drafts):
            assert isinstance(drafts[0], Refusal)
            raise aws.refused(drafts[0], events=len(events))
        return drafts

    def _log_refused(self, drafts: Sequence[Draft | Refusal]) -> None:
        """The page that sent them does not read the answer."""
        refusals = [draft for draft in drafts if isinstance(draft, Refusal)]
        if refusals:
            log = limited(_log, f"event refused {self._route.name} {refusals[0].reason}")
            log.warning(
                "event refused",
                target=self._route.name,
                reason=refusals[0].reason,
                refused=len(refusals),
                accepted=len(drafts) - len(refusals),
                error=refusals[0].message,
            )

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        refused = [result for result in results if isinstance(result, Refusal)]
        pairs = zip(results, with_fates(results, fates), strict=True)
        dead = [told for result, told in pairs if type(result) is str and type(told) is Refusal]
        if not refused and not dead:
            return Reply(200, self._route.api.render_results(results))
        first = (dead or refused)[0]
        accepted = len(results) - len(refused) - len(dead)
        message = f"{accepted} accepted, {len(refused)} refused, {len(dead)} dead-lettered. {first.message}"
        return Reply(400, wire.error_body(first.code, message), {wire.ERROR_HEADER: first.code})


class PutProjectEventsOperation(PostOnly):
    """``PutProjectEvents``: events judged one by one."""

    dialect = aws.REST_JSON
    label = label_of(PutProjectEvents)
    known = True
    service = PutProjectEvents.service

    def __init__(self, projects: Bound[PutProjectEvents], clock: Clock) -> None:
        self._projects = projects
        self._clock = clock

    def presigned(self, region: str) -> PutProjectEventsOperation:
        return self

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        return _PutProjectEventsCall(name, bound(self._projects.find(name, region_of(headers))), self._clock)


class _PutProjectEventsCall:
    __slots__ = ("_clock", "_project", "_route", "ack_timeout", "metrics")

    def __init__(self, project: str, route: Route[PutProjectEvents], clock: Clock) -> None:
        self.metrics = route.metrics
        self.ack_timeout = route.ack_timeout
        self._project = project
        self._route = route
        self._clock = clock

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        request = _decoded(aws.PUT_PROJECT_EVENTS, body)
        if request is not None:
            wall = self._clock.wall()
            drafts = self._route.api.admit_call(self._project, request, wall, id_stream(wall))
        else:
            drafts = await self._admit(body, lease)
        if isinstance(drafts, Refusal):
            raise aws.refused(drafts)
        lease.take_for_answer(aws.answer_bytes(len(drafts)))
        results = await put(self._route, drafts, self._clock, waiting, peer=lease.peer)
        count(self.metrics, results)
        refuse_whole(results)
        return results

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        return Reply(200, self._route.api.render_results(with_fates(results, fates)))

    async def _admit(self, body: bytes, lease: Lease) -> list[Draft | Refusal] | Refusal:
        """The events of a call that is large, or has one that is no JSON, decoded and admitted one by one."""
        work, most = Work(lease.peer), put_project_events.MAX_EVENTS
        await work.through(aws.check_signs(body))
        raw = (await work.through(aws.read(aws.RAW_PUT_PROJECT_EVENTS, body, "events"))).events
        await work.rest()
        events = await work.through(aws.apart(raw, most, "events", lease))
        if events is None:
            return put_project_events.too_many_events(f"more than {most}")
        drafts: list[Draft | Refusal] = []
        ids = id_stream(self._clock.wall())
        for i in range(len(events)):
            drafts.append(await self._admit_one(events.pop(), i, work, ids))
        aws.refuse_unreadable(drafts, VALIDATION)
        return drafts

    async def _admit_one(
        self, event: bytes | msgspec.Raw, i: int, work: Work, ids: Iterator[str]
    ) -> Draft | Refusal:
        size, most = memoryview(event).nbytes, self._route.max_event_bytes
        if size > longest_event(most):
            return Refusal(VALIDATION, too_long(size, most), "too_large")
        read = await work.through(aws.entry(aws.PROJECT_EVENT, event, f"$.events[{i}]"))
        await work.rest()
        if isinstance(read, Refusal):
            return read
        request = put_project_events.Request(events=[read])
        drafts = self._route.api.admit_call(self._project, request, self._clock.wall(), ids)
        await work.rest()
        if isinstance(drafts, Refusal):
            raise aws.refused(drafts)
        return drafts[0]


async def _read_put_events(body: bytes, lease: Lease, work: Work) -> tuple[list[Entry | Refusal], str | None]:
    """The entries of a call that is large, or has one that is no JSON, decoded one by one; its EndpointId.

    BadRequest where AWS would refuse it, and no other entry would pay for it."""
    await work.through(aws.check_signs(body))
    raw = await work.through(aws.read(aws.RAW_PUT_EVENTS, body, "Entries"))
    await work.rest()
    parts = await work.through(aws.apart(raw.Entries, put_events.MAX_ENTRIES, "Entries", lease))
    if parts is None:
        raise aws.refused(put_events.too_many_entries(f"more than {put_events.MAX_ENTRIES}"))
    entries: list[Entry | Refusal] = []
    for i in range(len(parts)):
        part = parts.pop()
        await work.rest()
        entry: Entry | Refusal | None = None
        if memoryview(part).nbytes > LONG_EVENT:
            entry = await work.through(put_events.too_many_resources(part))
            await work.rest()
        if entry is None:
            entry = await work.through(aws.entry(aws.ENTRY, part, f"$.Entries[{i}]"))
        entries.append(entry)
    aws.refuse_unreadable(entries, INVALID_ARGUMENT)
    await work.rest()
    return entries, raw.EndpointId


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T | None:
    """A small call that is as it should be, which nearly all are."""
    try:
        return decoder.decode(body) if len(body) <= SMALL_BODY else None
    except BROKEN:
        return None


def with_fates(results: Results, fates: Fates | None) -> Results:
    """The results with AWS's ids and refusals in place of ours, as far as they are known."""
    if not fates:
        return results
    return [_fate(result, fates.get(result)) if type(result) is str else result for result in results]


def _fate(id: str, receipt: Receipt | None) -> str | Refusal:
    if receipt is None:
        return id
    if receipt.fate == DELIVERED:
        return receipt.aws_id or id
    # a code that SDKs do not try again, whatever was AWS's last word about an event that is too old
    code = EXPIRED if receipt.fate == "expired" else receipt.code
    return Refusal(code, receipt.message)


def bound(place: Route[A] | Refusal) -> Route[A]:
    if isinstance(place, Refusal):
        raise aws.refused(place, 404 if place.code == NOT_FOUND else 400)
    return place


def region_of(headers: Mapping[str, str]) -> str | None:
    """The region a request was signed for."""
    authorization = headers.get("Authorization")
    return wire.region_of_scope(authorization) if authorization is not None else None


def _instead(problem: BadRequest, draft: Draft | Refusal) -> Refusal:
    """What an entry is told when its target took none of them."""
    if isinstance(draft, Refusal):
        return draft
    code = _ENTRY_CODES.get(problem.status, INVALID_ARGUMENT)
    return Refusal(code, problem.message, problem.reason)


def _worst(problems: Sequence[BadRequest]) -> BadRequest:
    """One answer for a call of which nothing was taken; its entries are counted. 429, 503: try again."""
    problem = max(problems, key=lambda problem: problem.status)
    problem.events = 0
    return problem
