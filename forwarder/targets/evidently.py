"""Evidently: PutProjectEvents at an endpoint of the operator's own, for AWS ended the service.

Invariants:
- Nothing is ever sent to AWS's Evidently hosts: without an endpoint_url the options are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

from forwarder.apis.put_project_events import PutProjectEvents, is_project
from forwarder.config import Bytes, Duration, Problem
from forwarder.metrics import CredentialsView
from forwarder.model import Batch, Limits, Queue, Results
from forwarder.targets.asking import Hold, Prober
from forwarder.targets.aws import AwsClient
from forwarder.targets.facts import Facts
from forwarder.targets.idle import keep
from forwarder.targets.names import CalledNames
from forwarder.targets.options import Rate, Retry, TargetOptions, call_limits, positive, wrong_names

ENDED = (
    "AWS ended Evidently on 2025-10-16, so this needs an endpoint_url, an endpoint of your own that speaks "
    "its API; else send these events to an eventbridge target, or to rum as custom events"
)

PROJECT_FORMS = (
    "the name of a project (letters, digits or -._) or its ARN, such as "
    "arn:aws:evidently:eu-west-1:123456789012:project/shop"
)

UNASKED = "whether the projects exist was not asked: the endpoint is your own"


class EvidentlyBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What one call may carry.

    ``max_events``: events a call.
    ``max_bytes``: bytes a call, by the API's formula.
    ``max_wait``: how long the first event waits for others.
    """

    max_events: Annotated[int, msgspec.Meta(ge=1, le=50)] = 50
    max_bytes: Bytes = Bytes(1 << 20)
    max_wait: Duration = Duration(0.1)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes")


class EvidentlyRetry(Retry, frozen=True, kw_only=True):
    """As for every kind; an hour after the evaluation its events count for nothing."""

    max_age: Duration = Duration(3600.0)


class EvidentlyOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="evidently"):
    """Events for Evidently projects, at an endpoint of your own.

    ``projects``: names or ARNs whose events come here.
    ``max_calls_per_second``: the pace, where your endpoint has a quota.
    """

    projects: list[str] = msgspec.field(default_factory=list)
    batch: EvidentlyBatch = msgspec.field(default_factory=EvidentlyBatch)
    retry: EvidentlyRetry = msgspec.field(default_factory=EvidentlyRetry)
    max_calls_per_second: Rate | None = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.endpoint_url is None:
            yield Problem("endpoint_url", f"is required: {ENDED}")
        yield from wrong_names("projects", self.projects, is_project, PROJECT_FORMS)


class Evidently:
    """The target."""

    kind = "evidently"

    def __init__(self, name: str, options: EvidentlyOptions) -> None:
        batch = options.batch
        self.limits: Limits = call_limits(batch.max_events, batch.max_bytes, batch.max_wait)
        self.api = PutProjectEvents(projects=tuple(options.projects), max_event_bytes=int(batch.max_bytes))
        self._client = AwsClient("evidently", options, options.workers, name)
        self._name = name
        self.names = CalledNames(
            "project",
            options.projects,
            default=options.takes_others(options.projects),
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
        params = {"project": batch.key.decode()}
        body = b'{"events":[%b]}' % b",".join([event.body for event in batch.events])
        count = len(batch.events)
        return await self._client.call("PutProjectEvents", params, count, self.api.read_results, body)

    async def watch(self, queue: Queue, hold: Hold) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep(self._client.credentials, hold))
            await Prober(self._name, self.names).run(queue)

    async def answered(self, name: str, seconds: float) -> None:
        """Nobody asks."""

    def credentials(self) -> CredentialsView:
        return self._client.credentials.view()

    async def examine(self) -> Facts:
        return msgspec.structs.replace(await self._client.examine("PutProjectEvents"), unasked=UNASKED)

    async def ask(self) -> Mapping[str, Results]:
        return {}

    async def close(self) -> None:
        await self._client.close()
