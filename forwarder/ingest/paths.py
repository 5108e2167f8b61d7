"""From a request's path to its operation: exact paths by a dict, the rest by plain string searches.

Invariants:
- What is percent-encoded in a path (an ARN with slashes) is one name. Doubled slashes, a last slash, and
  letters that are percent-encoded for no reason mean nothing.
- The Host header means nothing (SDKs put ``dataplane.`` before it), and AWS paths may have any prefix. So
  ``X-Amz-Target`` decides wherever the path names no other operation; native paths have no prefix.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from aiohttp import web

from forwarder.apis import wire
from forwarder.apis.put_events import PutEvents
from forwarder.config import IngestConfig
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.deduplication import SeenEvents
from forwarder.ingest.openapi.serving import OpenApiDocument
from forwarder.ingest.operations.api import operations
from forwarder.ingest.operations.cloudevents import CloudEvents, not_for
from forwarder.ingest.operations.cloudevents import unknown_target as no_such_target
from forwarder.ingest.operations.describe_event_bus import DescribeEventBusOperation
from forwarder.ingest.operations.elsewhere import Elsewhere
from forwarder.ingest.operations.operation import NativeEvents, Operation, unknown_target
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock
from forwarder.urls import CLOUDEVENTS, EVENTS, OPENAPI, TARGETS, events_of

DESCRIBE_EVENT_BUS = "AWSEvents.DescribeEventBus"
TARGET_HEADER = "X-Amz-Target"

_slashes = re.compile("//+").sub
_needless = re.compile("%(2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])").sub
"""Percent-encoded letters, digits, and ``-._~`` (RFC 3986, 6.2.2.2)."""


class Paths:
    """Every operation there is, and which one a request asks for.

    ``for_pages``: the services to whose paths web pages send, for messages.
    """

    def __init__(
        self, bindings: Bindings, clock: Clock, unbound: TargetMetrics, settings: IngestConfig
    ) -> None:
        self._exact: dict[str, Operation] = {
            events_of(route.name): NativeEvents(route, clock, max_events=settings.max_events)
            for route in bindings.routes
        }
        self._exact[OPENAPI] = OpenApiDocument(bindings.routes, settings)
        identities = SeenEvents(clock)
        for route in bindings.takers:
            self._exact[f"{CLOUDEVENTS}{route.name}"] = CloudEvents(
                route, clock, identities, settings.max_events
            )
        self._no_cloudevents = _no_cloudevents(bindings)
        self._unknown_target = unknown_target([route.name for route in bindings.routes])
        calls = operations(bindings, clock, unbound, settings.max_events)
        self._by_target: dict[str, Operation] = {
            **{api.target: each for api, each in calls.items() if api.target},
            DESCRIBE_EVENT_BUS: DescribeEventBusOperation(bindings.of(PutEvents)),
        }
        self.for_pages = " or ".join(api.title for api, each in calls.items() if each.is_for_pages)
        self._located = [(api, each) for api, each in calls.items() if not api.target]
        self._elsewhere = Elsewhere(calls, accepted=self._by_target)

    def find(self, request: web.BaseRequest) -> tuple[Operation, str]:
        """The operation, and the name that the path gives it."""
        raw = request.rel_url.raw_path
        exact = self._exact.get(raw)
        if exact is not None:
            return exact, ""
        path = raw if raw == "/" else _normal(raw)
        if path != "/" and (found := self._by_path(path, request)) is not None:
            return found
        target = request.headers.get(TARGET_HEADER)
        if target is None:
            return self._elsewhere.by_path(request.method, path, request.headers)
        operation = self._by_target.get(target)
        return self._elsewhere.by_target(target) if operation is None else (operation, "")

    def _by_path(self, path: str, request: web.BaseRequest) -> tuple[Operation, str] | None:
        """The operation that this path names, if it does: a proxy may let only such paths through, so no
        header may turn them into another."""
        exact = self._exact.get(path.removesuffix("/"))
        if exact is not None:
            return exact, ""
        for api, operation in self._located:
            name = api.locate(path)
            if name is not None:
                region = wire.region_of_query(request.rel_url.raw_query_string)
                return operation.presigned(region) if region else operation, name
        return self._by_unknown_name(path.removesuffix("/"))

    def _by_unknown_name(self, path: str) -> tuple[Operation, str] | None:
        if path.startswith(TARGETS) and path.endswith(EVENTS) and len(path) > len(TARGETS + EVENTS):
            return self._unknown_target, unquote(path[len(TARGETS) : -len(EVENTS)])
        if path.startswith(CLOUDEVENTS):
            name = unquote(path[len(CLOUDEVENTS) :])
            return self._no_cloudevents.get(name, self._no_cloudevents[""]), name
        return None


def _normal(path: str) -> str:
    """The path without doubled slashes, and without percent-encoding where that changes nothing."""
    if "//" in path:
        path = _slashes("/", path)
    if "%" in path:
        path = _needless(_character, path)
    return path or "/"


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _no_cloudevents(bindings: Bindings) -> dict[str, Operation]:
    """By name, the targets that cannot take CloudEvents; at "" all that do not exist."""
    takers = [route.name for route in bindings.takers]
    others = {
        route.name: not_for(route.api.kind, takers) for route in bindings.routes if route.name not in takers
    }
    return {**others, "": no_such_target(takers)}
