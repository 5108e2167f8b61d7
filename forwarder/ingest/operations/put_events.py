"""``AWSEvents.PutEvents``: every entry goes to the target of its bus.

Invariants:
- A full target refuses its own entries of a call and no other's; only when nothing was taken is the call
  refused as a whole. An entry that cannot be read, or is too large, is refused alone as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forwarder.apis import put_events
from forwarder.apis.api import label as label_of
from forwarder.apis.put_events import (
    DEFAULT_BUS,
    DEFAULT_MAX_REQUEST_BYTES,
    INVALID_ARGUMENT,
    NO_GLOBAL_ENDPOINTS,
    Entry,
    PutEvents,
    check_count,
    check_endpoint,
    check_size,
)
from forwarder.apis.trace_header import from_headers
from forwarder.ingest.bindings import Bound, Route
from forwarder.ingest.bounds import LONG_EVENT
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.errors import INTERNAL, THROTTLING, VALIDATION, BadRequest
from forwarder.ingest.intake import count, put
from forwarder.ingest.operations.aws_calls import decoded, region_of, with_fates
from forwarder.ingest.operations.operation import Call, Fates, PostOnly, Reply, Results
from forwarder.ingest.shares import refuse_whole
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Draft, Refusal, id_stream

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
        request = decoded(aws.PUT_EVENTS, body)
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
