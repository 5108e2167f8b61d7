"""EventBridge: PutEvents on the buses of one region.

Invariants:
- EventBridge answers success for a bus that does not exist and drops the event, so with ``verify_buses`` the
  queue keeps events apart until their bus is known to exist. ``send`` sends what it is given.
- A bus that may not be described is taken to exist: verification never asks for more rights than sending.
- Access denied for a whole bus is a policy to be mended, never the fault of the events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from forwarder.apis.api import Api
from forwarder.apis.codes import ACCESS_DENIED as ACCESS_DENIED_CODES
from forwarder.apis.codes import ENDPOINT, NOT_FOUND
from forwarder.apis.put_events import DEFAULT_BUS, PutEvents, is_bus
from forwarder.config import Bytes, Duration, Problem
from forwarder.model import Batch, CallStatus, Kind, Outcome, Results
from forwarder.targets.asking import Asker
from forwarder.targets.aws import Asking, AwsTarget, client_of
from forwarder.targets.buses import BusNames
from forwarder.targets.client import AwsClient
from forwarder.targets.options import Rate, Retry, TargetOptions, call_limits, positive, wrong_names
from forwarder.targets.sources import CONFIGURATION

ACCESS_DENIED = "AccessDeniedException"
DROPS = "AWS reports success for a bus that does not exist, and drops the event"
THROTTLED = "ThrottlingException"
BUS_FORMS = (
    "the name of an event bus (letters, digits or ._-) or its ARN, such as "
    "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
)


class EventBridgeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call."""

    max_events: Annotated[int, Meta(ge=1, le=10, description="Most events in a call.")] = 10
    max_bytes: Annotated[
        Bytes,
        Meta(description="Most bytes in a call, by AWS's formula; AWS accepts less than 1 MiB."),
    ] = Bytes(1_048_575)
    max_wait: Annotated[
        Duration,
        Meta(description="How long the first event of a batch waits for others."),
    ] = Duration(0.1)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes")


class EventBridgeOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="eventbridge"):
    """Events for EventBridge buses."""

    api: ClassVar[type[Api]] = PutEvents

    buses: Annotated[
        list[str],
        Meta(description="Names or ARNs whose events go to this target."),
    ] = msgspec.field(default_factory=list)
    verify_buses: Annotated[
        bool,
        Meta(
            description="Check that a bus exists before sending to it, because AWS drops events for missing "
            "buses."
        ),
    ] = True
    verify_interval: Annotated[Duration, Meta(description="How often to check.")] = Duration(60.0)
    batch: EventBridgeBatch = msgspec.field(default_factory=EventBridgeBatch)
    retry: Retry = msgspec.field(default_factory=Retry)
    max_calls_per_second: Annotated[
        Rate | None,
        Meta(description="Limit of calls a second: your share of the account's quota."),
    ] = None
    cloudevents: Annotated[
        Literal["envelope", "data"],
        Meta(
            description="What becomes the Detail: the whole CloudEvent (`envelope`) or only its data "
            "(`data`)."
        ),
    ] = "envelope"
    fill_trace_header: Annotated[
        bool,
        Meta(description="Fill TraceHeader from `traceparent` or `X-Amzn-Trace-Id` if an entry has none."),
    ] = False

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from positive(self, "verify_interval")
        yield from wrong_names("buses", self.buses, is_bus, BUS_FORMS)


def build(name: str, options: EventBridgeOptions) -> AwsTarget:
    """A target of this kind."""
    batch, client = options.batch, client_of(name, options)
    asks_by_itself = options.verify_buses and not {DEFAULT_BUS}.issuperset(options.buses)
    names = BusNames(
        frozenset(options.buses),
        default=options.takes_others,
        verify=options.verify_buses,
        every=float(options.verify_interval),
        probe=float(options.hold.probe),
        cap=float(options.hold.probe_cap),
        region=client.region,
    )
    api = PutEvents(
        int(batch.max_bytes),
        options.buses[0] if len(options.buses) == 1 else "",
        client.region,
        options.cloudevents,
        options.fill_trace_header,
        global_endpoints=find_spec("awscrt") is not None,
    )
    return AwsTarget(
        name,
        options,
        api,
        call_limits(batch.max_events, batch.max_bytes, batch.max_wait),
        _request,
        client=client,
        asker=Asker(name, names, partial(_describe, client)),
        asking=Asking(
            partial(_ask, sorted(options.buses or {DEFAULT_BUS})), "events:DescribeEventBus", DROPS
        ),
        weigh=_weigh_call,
        is_idle=not asks_by_itself,  # else its questions need keys, with or without events
    )


def _request(batch: Batch) -> tuple[dict[str, str], bytes]:
    """What decides where the call goes, and its body. An EndpointId is in both."""
    entries = b",".join([event.body for event in batch.events])
    if not batch.key:
        return {}, b'{"Entries":[%b]}' % entries
    params = {"EndpointId": batch.key.decode()}
    return params, b'{"EndpointId":"%b","Entries":[%b]}' % (batch.key, entries)


async def _ask(buses: Sequence[str], client: AwsClient) -> Mapping[str, Results]:
    return {bus: (await _describe(client, bus))[0] for bus in buses}


async def _describe(client: AwsClient, bus: str) -> tuple[Results, str]:
    """The answer, and the ARN in it."""
    arn = ""

    def read(answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
        nonlocal arn
        arn = str(answer.get("Arn") or "")
        return [] if arn or "Name" in answer else None  # else it is not about a bus

    # Senders choose the names, and a right that only the question needs is no reason for a new client.
    about_question = ACCESS_DENIED_CODES | NOT_FOUND
    results = await client.call("DescribeEventBus", {"Name": bus}, 0, read, keep_after=about_question)
    return results, arn


def _weigh_call(batch: Batch, results: Results) -> Results:
    if batch.key and results.called and results.code == CONFIGURATION:
        results = msgspec.structs.replace(results, code=ENDPOINT)
    return weigh(results, [event.name for event in batch.events])


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
