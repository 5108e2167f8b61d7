"""EventBridge: PutEvents on the buses of one region.

Invariants:
- EventBridge answers success for a bus that does not exist and drops the event, so with ``verify_buses`` the
  queue keeps events apart until their bus is known to exist. ``send`` sends what it is given.
- A bus that may not be described is taken to exist: verification never asks for more rights than sending.
- Access denied for a whole bus is a policy to be mended, never the fault of the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from forwarder.apis.codes import ACCESS_DENIED as ACCESS_DENIED_CODES
from forwarder.apis.codes import ENDPOINT, NOT_FOUND
from forwarder.apis.put_events import DEFAULT_BUS, PutEvents, is_bus
from forwarder.config import Bytes, Duration, Problem
from forwarder.metrics import CredentialsView
from forwarder.model import Batch, CallStatus, Kind, Limits, Outcome, Queue, Results
from forwarder.targets.asking import Asker, Hold
from forwarder.targets.aws import AwsClient
from forwarder.targets.buses import BusNames
from forwarder.targets.facts import Facts
from forwarder.targets.idle import keep
from forwarder.targets.options import Rate, Retry, TargetOptions, call_limits, positive, wrong_names
from forwarder.targets.sources import CONFIGURATION

ACCESS_DENIED = "AccessDeniedException"
THROTTLED = "ThrottlingException"
BUS_FORMS = (
    "the name of an event bus (letters, digits or ._-) or its ARN, such as "
    "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
)


class EventBridgeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may carry.

    ``max_events``: events a call.
    ``max_bytes``: bytes a call, by AWS's formula; AWS takes less than 1 MiB.
    ``max_wait``: how long the first event waits for others.
    """

    max_events: Annotated[int, msgspec.Meta(ge=1, le=10)] = 10
    max_bytes: Bytes = Bytes(1_048_575)
    max_wait: Duration = Duration(0.1)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes")


class EventBridgeOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="eventbridge"):
    """Events for EventBridge buses.

    ``buses``: names or ARNs whose events come here.
    ``verify_buses``: ask whether buses exist before sending to them, as AWS drops events for others.
    ``verify_interval``: how often to ask.
    ``max_calls_per_second``: the pace: your share of the account's quota.
    ``cloudevents``: what of a CloudEvent becomes the Detail, all of it or its data alone.
    ``fill_trace_header``: TraceHeader from `traceparent` or `X-Amzn-Trace-Id`, where an entry has none.
    """

    buses: list[str] = msgspec.field(default_factory=list)
    verify_buses: bool = True
    verify_interval: Duration = Duration(60.0)
    batch: EventBridgeBatch = msgspec.field(default_factory=EventBridgeBatch)
    retry: Retry = msgspec.field(default_factory=Retry)
    max_calls_per_second: Rate | None = None
    cloudevents: Literal["envelope", "data"] = "envelope"
    fill_trace_header: bool = False

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from positive(self, "verify_interval")
        yield from wrong_names("buses", self.buses, is_bus, BUS_FORMS)


class EventBridge:
    """The target."""

    kind = "eventbridge"

    def __init__(self, name: str, options: EventBridgeOptions) -> None:
        batch = options.batch
        self.limits: Limits = call_limits(batch.max_events, batch.max_bytes, batch.max_wait)
        default_bus = options.buses[0] if len(options.buses) == 1 else ""
        self._client = AwsClient("events", options, options.workers, name)
        self.api = PutEvents(
            int(batch.max_bytes),
            default_bus,
            self._client.region,
            options.cloudevents,
            options.fill_trace_header,
            global_endpoints=find_spec("awscrt") is not None,
        )
        self._verifies = options.verify_buses
        self._configured = frozenset(options.buses)
        self.names = BusNames(
            self._configured,
            default=options.takes_others(options.buses),
            verify=options.verify_buses,
            every=float(options.verify_interval),
            probe=float(options.hold.probe),
            cap=float(options.hold.probe_cap),
            region=self._client.region,
        )
        self.asker = Asker(name, self.names, self._describe)

    @property
    def region(self) -> str:
        return self._client.region

    @property
    def transport(self) -> str:
        return self._client.transport

    async def send(self, batch: Batch) -> Results:
        params, body = self._request(batch)
        count = len(batch.events)
        results = await self._client.call("PutEvents", params, count, self.api.read_results, body)
        if batch.key and results.called and results.code == CONFIGURATION:
            results = msgspec.structs.replace(results, code=ENDPOINT)
        return weigh(results, [event.name for event in batch.events])

    async def watch(self, queue: Queue, hold: Hold) -> None:
        async with asyncio.TaskGroup() as tasks:
            if not self._verifies:  # else its questions need keys
                tasks.create_task(keep(self._client.credentials, hold))
            await self.asker.run(queue, hold)

    async def answered(self, name: str, seconds: float) -> None:
        await self.asker.answered(name, seconds)

    def credentials(self) -> CredentialsView:
        return self._client.credentials.view()

    async def examine(self) -> Facts:
        return await self._client.examine("PutEvents")

    async def ask(self) -> Mapping[str, Results]:
        return {bus: (await self._describe(bus))[0] for bus in sorted(self._configured or {DEFAULT_BUS})}

    async def close(self) -> None:
        await self._client.close()

    @staticmethod
    def _request(batch: Batch) -> tuple[dict[str, str], bytes]:
        """What decides where the call goes, and its body. An EndpointId is in both."""
        entries = b",".join([event.body for event in batch.events])
        if not batch.key:
            return {}, b'{"Entries":[%b]}' % entries
        params = {"EndpointId": batch.key.decode()}
        return params, b'{"EndpointId":"%b","Entries":[%b]}' % (batch.key, entries)

    async def _describe(self, bus: str) -> tuple[Results, str]:
        """The answer, and the ARN in it."""
        arn = ""

        def read(answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
            nonlocal arn
            arn = str(answer.get("Arn") or "")
            return [] if arn or "Name" in answer else None  # else it is not about a bus

        # Senders choose the names, and a right that only the question needs is no reason for a new client.
        about_question = ACCESS_DENIED_CODES | NOT_FOUND
        results = await self._client.call(
            "DescribeEventBus", {"Name": bus}, 0, read, keep_after=about_question
        )
        return results, arn


_code_of = attrgetter("code")


def weigh(results: Results, buses: Sequence[str]) -> Results:
    """See the trouble of the call in the troubles of its entries. ``buses``: each event's bus.

    Access denied to all of a bus's events holds the target and costs no event; all throttled slows it down.
    """
    outcomes = results.outcomes
    if results.status is not CallStatus.OK or not any(map(_code_of, outcomes)):
        return results
    allowed = {bus for bus, outcome in zip(buses, outcomes, strict=True) if outcome.code != ACCESS_DENIED}
    denied = [outcome for bus, outcome in zip(buses, outcomes, strict=True) if bus not in allowed]
    if denied:
        again = [
            outcome if bus in allowed else Outcome(Kind.RETRY, outcome.code, outcome.message)
            for bus, outcome in zip(buses, outcomes, strict=True)
        ]
        return Results(CallStatus.HELD, again, ACCESS_DENIED, denied[0].message)
    if all(outcome.code == THROTTLED for outcome in outcomes):
        return Results(CallStatus.THROTTLED, outcomes, THROTTLED, outcomes[0].message)
    return results
