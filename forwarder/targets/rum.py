"""CloudWatch RUM: PutRumEvents, the events of one browser session a call.

Invariants:
- A call carries one user's session: its envelope is the batch's key, so sessions are never mixed.
- RUM takes all of a call or nothing, and answers success with an empty body.
- A batch keeps its BatchId on every try, also one that was derived from the ids of its events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import msgspec

from forwarder.apis.put_rum_events import PutRumEvents, batch_id, is_uuid, read_envelope
from forwarder.config import Bytes, Duration, Problem
from forwarder.metrics import CredentialsView
from forwarder.model import Batch, Limits, Queue, Results
from forwarder.targets.asking import Hold, Prober
from forwarder.targets.aws import AwsClient
from forwarder.targets.facts import Facts
from forwarder.targets.idle import keep
from forwarder.targets.names import CalledNames
from forwarder.targets.options import Count, Rate, Retry, TargetOptions, positive, wrong_names

MONITOR_FORMS = "the id of an app monitor (a UUID), and not its name"

UNASKED = (
    "whether the app monitors exist was not asked: AWS answers that by name and not by id, to who may do "
    "rum:GetAppMonitor, which sending does not need"
)


class RumBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may carry. AWS publishes no limits; these are those of its own browser client, about.

    ``max_events``: events a call.
    ``max_bytes``: bytes a call, by the API's formula; a client's own batch, and a larger event, leave whole.
    ``max_event_bytes``: bytes of one event; a larger one is refused, and costs no other event of its batch.
    ``max_wait``: how long the first event waits for others.
    """

    max_events: Count = 100
    max_bytes: Bytes = Bytes(256 << 10)
    max_event_bytes: Bytes = Bytes(4 << 20)
    max_wait: Duration = Duration(1.0)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes", "max_event_bytes")


class RumRetry(Retry, frozen=True, kw_only=True):
    """As for every kind; telemetry is of use for hours."""

    max_age: Duration = Duration(6 * 3600.0)


class RumOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="rum"):
    """Events for CloudWatch RUM app monitors.

    ``app_monitors``: ids whose events come here.
    ``merge``: join the batches that clients send for one session, up to the limits of ``batch``.
    ``max_calls_per_second``: the pace; AWS takes 50 calls a second in an account and region.
    """

    app_monitors: list[str] = msgspec.field(default_factory=list)
    merge: bool = False
    batch: RumBatch = msgspec.field(default_factory=RumBatch)
    retry: RumRetry = msgspec.field(default_factory=RumRetry)
    max_calls_per_second: Rate | None = 50.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from wrong_names("app_monitors", self.app_monitors, is_uuid, MONITOR_FORMS)


class Rum:
    """The target."""

    kind = "rum"

    def __init__(self, name: str, options: RumOptions) -> None:
        batch = options.batch
        most = int(batch.max_event_bytes)
        self.limits = Limits(batch.max_events, int(batch.max_bytes), most, float(batch.max_wait), whole=True)
        self.api = PutRumEvents(tuple(options.app_monitors), options.merge, max_event_bytes=most)
        self._client = AwsClient("rum", options, options.workers, name)
        self._name = name
        self.names = CalledNames(
            "app monitor",
            options.app_monitors,
            default=options.takes_others(options.app_monitors),
            probe=float(options.hold.probe),
            cap=float(options.hold.probe_cap),
        )

    @property
    def region(self) -> str:
        return self._client.region

    @property
    def transport(self) -> str:
        return self._client.transport

    async def send(self, batch: Batch) -> Results:
        envelope = read_envelope(batch.key)
        params = {"Id": envelope.pop("Id")}
        ids = [event.id for event in batch.events]
        if "BatchId" not in envelope:
            envelope["BatchId"] = batch_id(ids)
        elif batch.part:  # not the batch that the client named, and never taken under its name
            envelope["BatchId"] = batch_id([envelope["BatchId"], *ids])
        events = b",".join([event.body for event in batch.events])
        body = b'%b,"RumEvents":[%b]}' % (msgspec.json.encode(envelope)[:-1], events)
        count = len(batch.events)
        return await self._client.call("PutRumEvents", params, count, self.api.read_results, body)

    async def watch(self, queue: Queue, hold: Hold) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep(self._client.credentials, hold))
            await Prober(self._name, self.names).run(queue)

    async def answered(self, name: str, seconds: float) -> None:
        """Nobody asks."""

    def credentials(self) -> CredentialsView:
        return self._client.credentials.view()

    async def examine(self) -> Facts:
        return msgspec.structs.replace(await self._client.examine("PutRumEvents"), unasked=UNASKED)

    async def ask(self) -> Mapping[str, Results]:
        return {}

    async def close(self) -> None:
        await self._client.close()
