"""EventBridge: PutEvents on the buses of one region.

Invariants:
- EventBridge answers success for a bus that does not exist and drops the event, so with ``verify_buses`` no
  event is sent to a bus that has not been seen to exist.
- A missing bus holds the target if it is configured; else its own events wait until ``verify`` finds it.
- A bus that may not be described is taken to exist: verification never asks for more rights than sending.
- Access denied for a whole bus is a policy to be mended, never the fault of the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Literal

import msgspec
import structlog

from forwarder.apis.codes import ENDPOINT
from forwarder.apis.put_events import PutEvents
from forwarder.apis.wire import region_of_arn
from forwarder.config import Bytes, Duration
from forwarder.metrics import CredentialsView
from forwarder.model import Batch, CallStatus, Kind, Limits, Outcome, Results, same_for_all
from forwarder.targets.aws import CONFIGURATION, AwsClient
from forwarder.targets.examining import Facts
from forwarder.targets.options import Rate, Retry, TargetOptions, call_limits, positive

DEFAULT_BUS = "default"
MAX_KNOWN_BUSES = 100
"""Buses watched beside the configured ones; more are sent to unwatched."""

ACCESS_DENIED = "AccessDeniedException"
THROTTLED = "ThrottlingException"
UNVERIFIED = (
    "buses are not verified, as events:DescribeEventBus is denied; "
    "AWS would drop events for a bus that does not exist"
)
NOT_FOUND = "ResourceNotFoundException"


class EventBridgeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may carry.

    ``max_events``: events a call.
    ``max_bytes``: bytes a call, by AWS's formula; AWS takes less than 1 MiB.
    ``max_wait``: how long the first event waits for others.
    """

    max_events: Annotated[int, msgspec.Meta(ge=1, le=10)] = 10
    max_bytes: Bytes = Bytes(1_048_575)
    max_wait: Duration = Duration(0.1)

    def __post_init__(self) -> None:
        positive(self, "max_bytes")


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

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "verify_interval")


class _Bus(msgspec.Struct, gc=False):
    """The only member of an entry that sending looks at."""

    EventBusName: str = DEFAULT_BUS


_bus = msgspec.json.Decoder(_Bus)


def _bus_of(body: bytes) -> str:
    """The bus of an entry; most name none, and need not be read for it."""
    return _bus.decode(body).EventBusName if b'"EventBusName"' in body else DEFAULT_BUS


class EventBridge:
    """The target."""

    kind = "eventbridge"

    def __init__(self, name: str, options: EventBridgeOptions) -> None:
        batch = options.batch
        self.limits: Limits = call_limits(batch.max_events, batch.max_bytes, batch.max_wait)
        self.verify_every = float(options.verify_interval) if options.verify_buses else None
        default_bus = options.buses[0] if len(options.buses) == 1 else ""
        self._client = AwsClient("events", options, options.workers, name)
        self.api = PutEvents(
            int(batch.max_bytes),
            default_bus,
            self._client.region,
            options.cloudevents,
            options.fill_trace_header,
        )
        self._configured = frozenset(options.buses)
        self._existing = {DEFAULT_BUS}
        self._absent: set[str] = set()  # found missing, not configured; asked for again by verify alone
        self._asking = asyncio.Lock()
        self._denied: set[str] = set()
        self._log = structlog.get_logger("target").bind(target=name)

    @property
    def region(self) -> str:
        return self._client.region

    @property
    def transport(self) -> str:
        return self._client.transport

    async def send(self, batch: Batch) -> Results:
        buses = [_bus_of(event.body) for event in batch.events]
        missing = await self._missing(buses)
        there = [i for i, bus in enumerate(buses) if bus not in missing]
        if not there:
            return self._all_missing(missing, len(buses))
        params, body = self._request(batch, there)
        results = await self._client.call("PutEvents", params, len(there), self.api.read_results, body)
        if batch.key and results.code == CONFIGURATION:
            results = msgspec.structs.replace(results, code=ENDPOINT)
        results = weigh(results, [buses[i] for i in there])
        return self._with_missing(results, there, len(buses), missing) if missing else results

    async def verify(self) -> str | None:
        """Ask for every bus again. A missing one holds the target if configured, else only its own events."""
        known = sorted(self._existing | self._configured | self._absent)
        missing = {bus for bus in known if not await self._exists(bus)}
        for bus in self._absent - missing:
            self._log.info("the event bus is there now", bus=bus)
        self._existing -= missing
        self._absent &= missing
        return self._sentence(missing & self._configured) if missing & self._configured else None

    def note(self) -> str:
        return f"some events wait: {self._sentence(self._absent)}" if self._absent else ""

    def credentials(self) -> CredentialsView:
        return self._client.credentials.view()

    async def examine(self) -> Facts:
        return await self._client.examine("PutEvents")

    async def ask(self) -> Mapping[str, Results]:
        return {bus: await self._describe(bus) for bus in sorted(self._configured or {DEFAULT_BUS})}

    async def close(self) -> None:
        await self._client.close()

    @staticmethod
    def _request(batch: Batch, there: Sequence[int]) -> tuple[dict[str, str], bytes]:
        """What decides where the call goes, and its body. An EndpointId is in both."""
        entries = b",".join([batch.events[i].body for i in there])
        if not batch.key:
            return {}, b'{"Entries":[%b]}' % entries
        params = {"EndpointId": batch.key.decode()}
        return params, b'{"EndpointId":"%b","Entries":[%b]}' % (batch.key, entries)

    async def _missing(self, buses: Sequence[str]) -> set[str]:
        """Which of these do not exist; asks AWS for those that no event was sent to yet."""
        if self.verify_every is None or self._existing.issuperset(buses):
            return set()
        async with self._asking:  # the other workers wait for one answer instead of asking as well
            unknown = sorted({bus for bus in buses if bus not in self._existing and self._watches(bus)})
            missing = {bus for bus in unknown if bus in self._absent or not await self._exists(bus)}
            self._existing.update(bus for bus in unknown if bus not in missing)
            if len(self._absent) < MAX_KNOWN_BUSES:  # else their many tries would have us throttled
                for bus in missing - self._configured - self._absent:
                    self._log.warning("events wait: their event bus does not exist", bus=bus)
                self._absent |= missing - self._configured
        return missing

    def _watches(self, bus: str) -> bool:
        return bus in self._configured or len(self._existing) <= MAX_KNOWN_BUSES

    async def _exists(self, bus: str) -> bool:
        """False when AWS says that there is no such bus; what cannot be found out stays as it was known."""
        elsewhere = bool(self.region) and bus.startswith("arn:") and region_of_arn(bus) != self.region
        if bus == DEFAULT_BUS or elsewhere or bus in self._denied:
            return True
        results = await self._describe(bus)
        if results.code == ACCESS_DENIED:
            if not self._denied:
                self._log.warning(UNVERIFIED, bus=bus)
            self._denied.add(bus)
        if results.status is not CallStatus.OK and bus in self._absent:
            return results.code == ACCESS_DENIED
        return results.code != NOT_FOUND

    async def _describe(self, bus: str) -> Results:
        return await self._client.call("DescribeEventBus", {"Name": bus}, 0, lambda answer, count: [])

    def _all_missing(self, missing: Collection[str], count: int) -> Results:
        """A batch of which nothing can be sent. Only what the configuration names may stop the others."""
        if self._configured.intersection(missing):
            return same_for_all(CallStatus.HELD, count, NOT_FOUND, self._sentence(missing))
        outcomes = [Outcome(Kind.RETRY, NOT_FOUND, self._sentence(missing))] * count
        return Results(CallStatus.OK, outcomes, called=False)

    def _sentence(self, missing: Collection[str]) -> str:
        place = self.region or "the configured endpoint"
        what = "event buses" if len(missing) > 1 else "event bus"
        verb = "do" if len(missing) > 1 else "does"
        return f"{what} {', '.join(sorted(missing))} {verb} not exist in {place}"

    def _with_missing(self, results: Results, there: list[int], count: int, missing: set[str]) -> Results:
        """Results for all events of a batch, of which only those at ``there`` were sent."""
        outcomes = [Outcome(Kind.RETRY, NOT_FOUND, self._sentence(missing))] * count
        for place, outcome in zip(there, results.outcomes, strict=True):
            outcomes[place] = outcome
        return msgspec.structs.replace(results, outcomes=outcomes)


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
