"""CloudWatch RUM: PutRumEvents, the events of one browser session a call.

Invariants:
- A call carries one user's session: its envelope is the batch's key, so sessions are never mixed.
- RUM takes all of a call or nothing, and answers success with an empty body.
- A batch keeps its BatchId on every try, also one that was derived from the ids of its events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from forwarder.apis.api import Api
from forwarder.apis.put_rum_events import PutRumEvents, batch_id, is_uuid, read_envelope
from forwarder.config import Bytes, Duration, Problem
from forwarder.model import Batch, Limits
from forwarder.targets.aws import AwsTarget
from forwarder.targets.options import Count, MaxAge, Rate, Retry, TargetOptions, positive, wrong_names

MONITOR_FORMS = "the id of an app monitor (a UUID), and not its name"

UNASKED = (
    "the app monitors were not checked: AWS finds them by name, not by id, and only with the permission "
    "rum:GetAppMonitor, which sending does not need"
)


class RumBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call. AWS publishes none; these are about those of its own browser client."""

    max_events: Annotated[Count, Meta(description="Most events in a call.")] = 100
    max_bytes: Annotated[
        Bytes,
        Meta(
            description="Maximum bytes in a call, as the API counts them; a client's own batch and a larger "
            "event are sent whole."
        ),
    ] = Bytes(256 << 10)
    max_event_bytes: Annotated[
        Bytes,
        Meta(
            description="Most bytes of one event; a larger one is refused, and the rest of its batch is "
            "accepted."
        ),
    ] = Bytes(4 << 20)
    max_wait: Annotated[
        Duration,
        Meta(description="How long the first event of a batch waits for others."),
    ] = Duration(1.0)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes", "max_event_bytes")


class RumRetry(Retry, frozen=True, kw_only=True):
    """As for every kind, but telemetry loses its value within hours."""

    max_age: MaxAge = Duration(6 * 3600.0)


class RumOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="rum"):
    """Events for CloudWatch RUM app monitors."""

    api: ClassVar[type[Api]] = PutRumEvents

    app_monitors: Annotated[
        list[str],
        Meta(description="Ids whose events go to this target."),
    ] = msgspec.field(default_factory=list)
    merge: Annotated[
        bool,
        Meta(description="Join the batches that clients send for one session, up to the limits of `batch`."),
    ] = False
    batch: RumBatch = msgspec.field(default_factory=RumBatch)
    retry: RumRetry = msgspec.field(default_factory=RumRetry)
    max_calls_per_second: Annotated[
        Rate | None,
        Meta(description="Limit of calls a second; AWS accepts 50 in an account and region."),
    ] = 50.0

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from wrong_names("app_monitors", self.app_monitors, is_uuid, MONITOR_FORMS)


def build(name: str, options: RumOptions) -> AwsTarget:
    """A target of this kind."""
    batch = options.batch
    most = int(batch.max_event_bytes)
    limits = Limits(batch.max_events, int(batch.max_bytes), most, float(batch.max_wait), whole=True)
    api = PutRumEvents(tuple(options.app_monitors), options.merge, max_event_bytes=most)
    return AwsTarget(name, options, api, limits, _request, unasked=UNASKED)


def _request(batch: Batch) -> tuple[dict[str, str], bytes]:
    envelope = read_envelope(batch.key)
    params = {"Id": envelope.pop("Id")}
    ids = [event.id for event in batch.events]
    if "BatchId" not in envelope:
        envelope["BatchId"] = batch_id(ids)
    elif batch.part:  # not the batch that the client named, and never taken under its name
        envelope["BatchId"] = batch_id([envelope["BatchId"], *ids])
    events = b",".join([event.body for event in batch.events])
    return params, b'%b,"RumEvents":[%b]}' % (msgspec.json.encode(envelope)[:-1], events)
