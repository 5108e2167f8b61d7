"""From a request's path to its operation: exact paths by a dict, the rest by plain string searches.

Invariants:
- The path is judged as it came: what is percent-encoded in it (an ARN with slashes) is one name.
- The Host header means nothing (SDKs put ``dataplane.`` before it), and AWS paths may have any prefix.
"""

from __future__ import annotations

from urllib.parse import unquote

from aiohttp import web

from forwarder.apis import wire
from forwarder.config import IngestConfig
from forwarder.ingest.aws_operations import (
    PutEventsOperation,
    PutProjectEventsOperation,
    PutRumEventsOperation,
)
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.cloudevents_operation import CloudEvents, not_for
from forwarder.ingest.cloudevents_operation import unknown_target as no_such_target
from forwarder.ingest.describe_operation import DescribeEventBusOperation
from forwarder.ingest.described import CLOUDEVENTS, EVENTS, TARGETS, Described
from forwarder.ingest.dialects import aws, native, unknown
from forwarder.ingest.dialects.errors import UNKNOWN_OPERATION
from forwarder.ingest.identities import Identities
from forwarder.ingest.operations import NativeEvents, Operation, Refusing, unknown_target
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock

NATIVE = "/v1/"
OPENAPI = "/v1/openapi.json"
MONITORS = "/appmonitors/"
PROJECTS = "/events/projects/"
PUT_EVENTS = "AWSEvents.PutEvents"
DESCRIBE_EVENT_BUS = "AWSEvents.DescribeEventBus"
TARGET_HEADER = "X-Amz-Target"

UNKNOWN_CALL = Refusing(
    "put_events",
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    f'X-Amz-Target is "NAME"; only {PUT_EVENTS} and {DESCRIBE_EVENT_BUS} are known.',
)
NATIVE_NOWHERE = Refusing(
    "other",
    native.DIALECT,
    404,
    UNKNOWN_OPERATION,
    f"There is nothing at NAME; events go to {TARGETS}<target>{EVENTS}.",
    known=False,
)
NOWHERE = Refusing("other", unknown.DIALECT, 404, UNKNOWN_OPERATION, "There is nothing at NAME.", known=False)


class Paths:
    """Every operation there is, and which one a request asks for."""

    def __init__(
        self, bindings: Bindings, clock: Clock, unbound: TargetMetrics, settings: IngestConfig
    ) -> None:
        self._exact: dict[str, Operation] = {
            f"{TARGETS}{route.name}{EVENTS}": NativeEvents(route, clock, max_events=settings.max_events)
            for route in bindings.routes
        }
        self._exact[OPENAPI] = Described(bindings.routes, settings)
        identities = Identities(clock)
        for route in bindings.buses.routes:
            self._exact[f"{CLOUDEVENTS}{route.name}"] = CloudEvents(
                route, clock, identities, settings.max_events
            )
        self._no_cloudevents = _no_cloudevents(bindings)
        self._unknown_target = unknown_target([route.name for route in bindings.routes])
        self._put_events = PutEventsOperation(bindings.buses, clock, unbound)
        self._describe_event_bus = DescribeEventBusOperation(bindings.buses)
        self._put_rum_events = PutRumEventsOperation(bindings.monitors, clock, max_events=settings.max_events)
        self._put_project_events = PutProjectEventsOperation(bindings.projects, clock)

    def find(self, request: web.BaseRequest) -> tuple[Operation, str]:
        """The operation, and the name that the path gives it."""
        path = request.rel_url.raw_path
        exact = self._exact.get(path)
        if exact is not None:
            return exact, ""
        if path.endswith("/"):
            target = request.headers.get(TARGET_HEADER)
            if target == PUT_EVENTS:
                return self._put_events, ""
            if target == DESCRIBE_EVENT_BUS:
                return self._describe_event_bus, ""
            if target is not None or path == "/":
                return UNKNOWN_CALL, target or ""
        return self._find_by_name(path, request)

    def _find_by_name(self, path: str, request: web.BaseRequest) -> tuple[Operation, str]:
        if path.startswith(NATIVE):
            if path.startswith(TARGETS) and path.endswith(EVENTS):
                return self._unknown_target, unquote(path[len(TARGETS) : -len(EVENTS)])
            if path.startswith(CLOUDEVENTS):
                name = unquote(path[len(CLOUDEVENTS) :])
                return self._no_cloudevents.get(name, self._no_cloudevents[""]), name
            return NATIVE_NOWHERE, path
        project = path.partition(PROJECTS)[2].removesuffix("/")
        if project:
            return self._put_project_events, unquote(project)
        monitor = path.rpartition(MONITORS)[2].removesuffix("/")
        if monitor and "/" not in monitor:
            region = wire.region_of_query(request.rel_url.raw_query_string)
            operation = self._put_rum_events.presigned(region) if region else self._put_rum_events
            return operation, unquote(monitor)
        return NOWHERE, path


def _no_cloudevents(bindings: Bindings) -> dict[str, Operation]:
    """By name, the targets that cannot take CloudEvents; at "" all that do not exist."""
    takers = [route.name for route in bindings.buses.routes]
    others = {
        route.name: not_for(route.api.kind, takers) for route in bindings.routes if route.name not in takers
    }
    return {**others, "": no_such_target(takers)}
