"""Evidently: PutProjectEvents at an endpoint of the operator's own, for AWS ended the service.

Invariants:
- Nothing is ever sent to AWS's Evidently hosts: without an endpoint_url the options are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from forwarder.apis.api import Api
from forwarder.apis.put_project_events import PutProjectEvents, is_project
from forwarder.config import Bytes, Duration, Problem
from forwarder.model import Batch
from forwarder.targets.aws import AwsTarget
from forwarder.targets.options import MaxAge, Rate, Retry, TargetOptions, call_limits, positive, wrong_names

ENDED = (
    "AWS ended Evidently on 2025-10-16. Set endpoint_url to your own endpoint that implements "
    "its API, or send these events to an eventbridge target, or to rum as custom events"
)

PROJECT_FORMS = (
    "the name of a project (letters, digits or -._) or its ARN, such as "
    "arn:aws:evidently:eu-west-1:123456789012:project/shop"
)

UNASKED = "the projects were not checked, because endpoint_url is not an AWS endpoint"


class EvidentlyBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one call."""

    max_events: Annotated[int, Meta(ge=1, le=50, description="Most events in a call.")] = 50
    max_bytes: Annotated[Bytes, Meta(description="Maximum bytes in a call, as the API counts them.")] = Bytes(
        1 << 20
    )
    max_wait: Annotated[
        Duration,
        Meta(description="How long the first event of a batch waits for others."),
    ] = Duration(0.1)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "max_bytes")


class EvidentlyRetry(Retry, frozen=True, kw_only=True):
    """As for every kind, but Evidently ignores events that are an hour old."""

    max_age: MaxAge = Duration(3600.0)


class EvidentlyOptions(TargetOptions, frozen=True, kw_only=True, tag_field="kind", tag="evidently"):
    """Events for Evidently projects, at your own endpoint."""

    api: ClassVar[type[Api]] = PutProjectEvents

    projects: Annotated[
        list[str],
        Meta(description="Names or ARNs whose events go to this target."),
    ] = msgspec.field(default_factory=list)
    batch: EvidentlyBatch = msgspec.field(default_factory=EvidentlyBatch)
    retry: EvidentlyRetry = msgspec.field(default_factory=EvidentlyRetry)
    max_calls_per_second: Annotated[
        Rate | None,
        Meta(description="Limit of calls a second, if your endpoint has a quota."),
    ] = None

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        if self.endpoint_url is None:
            yield Problem("endpoint_url", f"is required: {ENDED}")
        yield from wrong_names("projects", self.projects, is_project, PROJECT_FORMS)


def build(name: str, options: EvidentlyOptions) -> AwsTarget:
    """A target of this kind."""
    batch = options.batch
    api = PutProjectEvents(projects=tuple(options.projects), max_event_bytes=int(batch.max_bytes))
    limits = call_limits(batch.max_events, batch.max_bytes, batch.max_wait)
    return AwsTarget(name, options, api, limits, _request, unasked=UNASKED)


def _request(batch: Batch) -> tuple[dict[str, str], bytes]:
    params = {"project": batch.key.decode()}
    return params, b'{"events":[%b]}' % b",".join([event.body for event in batch.events])
