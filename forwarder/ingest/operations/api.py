"""The operations of the AWS wire, one per API.

Invariants:
- Every API of the daemon has one, whether or not a target takes its events.
- An API without an operation of its own gets ``ApiOperation``: it reads the call, admits event by event, and
  puts what was admitted into the queue of the target that the call's name is bound to.
- As everywhere: a bad event costs no other, and an answer about accepted events is a success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from forwarder.apis.api import Api, WireApi, WireCall
from forwarder.apis.api import label as label_of
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.ingest.bindings import Bindings, Bound, Route
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.errors import SERIALIZATION, BadRequest
from forwarder.ingest.intake import count, put
from forwarder.ingest.operations.aws_calls import bound, region_of, with_fates
from forwarder.ingest.operations.operation import Call, Fates, Operation, PostOnly, Reply, Results
from forwarder.ingest.operations.put_events import PutEventsOperation
from forwarder.ingest.operations.put_project_events import PutProjectEventsOperation
from forwarder.ingest.operations.put_rum_events import PutRumEventsOperation
from forwarder.ingest.shares import refuse_whole
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Draft, Refusal, id_stream


class ApiCalls(Operation, Protocol):
    """The calls of one API."""

    def presigned(self, region: str) -> Operation:
        """The operation for a request whose query was signed for this region."""


class ApiOperation(PostOnly):
    """The calls of an API that has no operation of its own."""

    known = True

    def __init__(
        self, api: type[WireApi], names: Bound[WireApi], clock: Clock, unbound: TargetMetrics
    ) -> None:
        self.dialect = aws.dialect_of(api)
        self.label = label_of(api)
        self.service = api.service
        self.api = api
        self.names = names
        self.clock = clock
        self.unbound = unbound
        self.ack_timeout = max((route.ack_timeout for route in names.routes), default=0.0)

    @staticmethod
    def holds_lines(headers: Mapping[str, str]) -> bool:
        """No call does; the body is what the API's codec reads, whatever its type is called."""
        return False

    def presigned(self, region: str) -> Operation:
        return self

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        return _ApiCall(self, name, region_of(headers))


class _ApiCall:
    __slots__ = ("_name", "_operation", "_region", "ack_timeout", "metrics")

    def __init__(self, operation: ApiOperation, name: str, region: str | None) -> None:
        self._operation = operation
        self._name = name
        self._region = region
        self.metrics = operation.unbound
        self.ack_timeout = operation.ack_timeout
        if name:  # else the body says which target it is for
            self._route(name)

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        work = Work(lease.peer)
        call = self._read(body)
        lease.take_for_events(len(call.events))
        route = self._route(call.name)
        drafts = await self._admit(route.api, call, work)
        lease.take_for_answer(aws.answer_bytes(len(drafts)))
        results = await put(route, drafts, self._operation.clock, waiting, peer=lease.peer, work=work)
        count(route.metrics, results)
        refuse_whole(results)
        return results

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        return Reply(200, self._operation.api().render_results(with_fates(results, fates)))

    def _read(self, body: bytes) -> WireCall:
        try:
            call = self._operation.api.read_call(self._name, body)
        except ValueError as problem:
            raise BadRequest(400, SERIALIZATION, f"The body cannot be read: {problem}.") from None
        if isinstance(call, Refusal):
            raise aws.refused(call)
        return call

    def _route(self, name: str) -> Route[WireApi]:
        route = bound(self._operation.names.find(name, self._region))
        self.metrics = route.metrics
        return route

    async def _admit(self, api: WireApi, call: WireCall, work: Work) -> list[Draft | Refusal]:
        wall = self._operation.clock.wall()
        drafts: list[Draft | Refusal] = []
        for event, id in zip(call.events, id_stream(wall), strict=False):
            await work.rest()
            drafts.append(api.admit(event, call.name, wall, id))
        return drafts


_Make = Callable[[Bindings, Clock, TargetMetrics, int], ApiCalls]

_OWN: dict[type[Api], _Make] = {
    PutEvents: lambda bindings, clock, unbound, most: PutEventsOperation(
        bindings.of(PutEvents), clock, unbound
    ),
    PutRumEvents: lambda bindings, clock, unbound, most: PutRumEventsOperation(
        bindings.of(PutRumEvents), clock, max_events=most
    ),
    PutProjectEvents: lambda bindings, clock, unbound, most: PutProjectEventsOperation(
        bindings.of(PutProjectEvents), clock
    ),
}
"""APIs whose calls are more than a list of events for one name."""


def operations(
    bindings: Bindings, clock: Clock, unbound: TargetMetrics, max_events: int
) -> dict[type[Api], ApiCalls]:
    """The operation of every API. ``unbound`` counts events that are for no target."""
    found = {api: make(bindings, clock, unbound, max_events) for api, make in _OWN.items()}
    others: Iterable[Any] = (api for api in bindings.apis if api not in found)
    found.update({api: ApiOperation(api, bindings.of(api), clock, unbound) for api in others})
    return found
