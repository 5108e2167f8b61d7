"""``AWSEvents.DescribeEventBus``: for a forwarder in front of this one, which asks before it sends.

Invariants:
- Answers come from the stored verdicts. For an unknown bus AWS is asked, at the peer's expense. If AWS does
  not answer soon, the answer is 503, which says nothing about the bus.
- A bus that cannot be verified is reported as existing, because its events would be sent as well.
- Nothing is accepted or refused here: no event is counted, and a full queue refuses no question.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from forwarder.apis.put_events import DEFAULT_BUS, MAX_BUS, PutEvents, is_bus
from forwarder.apis.wire import region_of_scope
from forwarder.ingest.bindings import MAX_NAME, Bound, Route
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.errors import NOT_FOUND, UNAVAILABLE, VALIDATION, BadRequest
from forwarder.ingest.operations.operation import Call, Fates, PostOnly, Reply, Results
from forwarder.ingest.waiting import Waiting
from forwarder.metrics import TargetMetrics
from forwarder.model import Refusal

ANSWER_SECONDS = 2.0
NO_ACCOUNT, ANY_REGION = "000000000000", "us-east-1"
"""The account in ARNs made here, because only AWS knows the real one."""
NO_TARGET = "?"
"""In place of the name of a target: a question does not wait for room in a queue."""


class Request(msgspec.Struct):
    Name: str = DEFAULT_BUS


_REQUEST = msgspec.json.Decoder(Request)


class DescribeEventBusOperation(PostOnly):
    """``AWSEvents.DescribeEventBus``."""

    dialect = aws.JSON_1_1
    label = "describe_event_bus"
    known = True
    service = PutEvents.service

    def __init__(self, buses: Bound[PutEvents]) -> None:
        self.buses = buses
        self.metrics = TargetMetrics(NO_TARGET)

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        authorization = headers.get("Authorization")
        region = region_of_scope(authorization) if authorization is not None else None
        return _DescribeEventBusCall(self, region)


class _DescribeEventBusCall:
    __slots__ = ("_bus", "_operation", "_region", "_route", "ack_timeout", "metrics")

    def __init__(self, operation: DescribeEventBusOperation, region: str | None) -> None:
        self.metrics = operation.metrics
        self.ack_timeout = 0.0
        self._operation = operation
        self._region = region
        self._bus = DEFAULT_BUS
        self._route: Route[PutEvents]

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        try:
            self._bus = aws.decode(_REQUEST, body or b"{}").Name
            self._route = self._find()
            await self._check_existing(lease.peer)
        except BadRequest as problem:
            problem.events = 0
            raise
        return []

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        bus = self._bus
        region = self._route.region or self._region or ANY_REGION
        arn = bus if bus.startswith("arn:") else f"arn:aws:events:{region}:{NO_ACCOUNT}:event-bus/{bus}"
        return Reply(200, msgspec.json.encode({"Arn": arn, "Name": bus.rpartition("/")[2]}))

    def _find(self) -> Route[PutEvents]:
        if not is_bus(self._bus):
            message = f"Name must be an event bus's name or ARN of 1 to {MAX_BUS} characters."
            raise BadRequest(400, VALIDATION, message)
        place = self._operation.buses.find(self._bus, self._region)
        if isinstance(place, Refusal):
            raise aws.refused(place)
        return place

    async def _check_existing(self, peer: str) -> None:
        """Raises BadRequest if the bus does not exist, or if it is unknown whether it exists."""
        known = self._route.at_aws
        name = "" if self._bus == DEFAULT_BUS else self._bus
        if known is None or known.is_open(name, peer):
            return
        if known.why(name) == "unknown" and self._route.answered is not None:
            await self._route.answered(name, ANSWER_SECONDS)
        why, bus = known.why(name), self._bus[:MAX_NAME]
        if why == "missing":
            raise BadRequest(400, NOT_FOUND, f"Event bus {bus} does not exist.")
        if why == "unknown":
            message = f"Event bus {bus} is not verified yet: {known.reason(name)}."
            raise BadRequest(503, UNAVAILABLE, message)
