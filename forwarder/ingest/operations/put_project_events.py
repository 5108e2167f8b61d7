"""``PutProjectEvents``: events judged one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from forwarder.apis import put_project_events
from forwarder.apis.api import label as label_of
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.ingest.bindings import Bound, Route
from forwarder.ingest.bounds import longest_event, too_long
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.errors import VALIDATION
from forwarder.ingest.intake import count, put
from forwarder.ingest.operations.aws_calls import bound, decoded, region_of, with_fates
from forwarder.ingest.operations.operation import Call, Fates, PostOnly, Reply, Results
from forwarder.ingest.shares import refuse_whole
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.model import Clock, Draft, Refusal, id_stream


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
        request = decoded(aws.PUT_PROJECT_EVENTS, body)
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
