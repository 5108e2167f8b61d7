"""Which target an event is for: by the name of its bus, app monitor or project, and by region.

Invariants:
- A name belongs to the targets that list it, one per region; every other name to the default of its kind.
- A request made for a region is answered by a target of that region or by none: events never change region
  unnoticed. A target without a region (its endpoint is its own) takes any.
- The region in an ARN is about that one event, so it goes before the region the request was signed for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from forwarder.apis import wire
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.ingest.dialects.errors import NOT_FOUND, VALIDATION
from forwarder.metrics import TargetMetrics
from forwarder.model import Names, Queue, Refusal

ANY_REGION = ""
MAX_NAME = 200
"""Characters of a name that are said back: AWS counts none of a bus's, so it may be of any length."""


class KnownNames(Names, Protocol):
    """``why``: one word for ``reason``, ``missing`` among them; "" when the name is open."""

    def why(self, name: str) -> str: ...


A = TypeVar("A", PutEvents, PutRumEvents, PutProjectEvents)


@dataclass(frozen=True, slots=True, eq=False)
class Route(Generic[A]):
    """The way into one target. ``names``: the buses, app monitors or projects bound to it, names or ARNs.

    ``patience``: seconds that an answer waits for AWS's word, where the request does not say. ``at_aws``:
    what is known of names; ``answered`` waits, so many seconds at most, until one was asked about.
    """

    name: str
    api: A
    region: str
    queue: Queue
    metrics: TargetMetrics
    max_event_bytes: int
    names: tuple[str, ...] = ()
    default: bool = False
    patience: float = 0.0
    at_aws: KnownNames | None = None
    answered: Callable[[str, float], Awaitable[None]] | None = None


class Bound(Generic[A]):
    """The routes of one API, found by name and region. ``noun``: what the names are names of."""

    def __init__(self, noun: str, routes: Iterable[Route[A]]) -> None:
        self.routes: tuple[Route[A], ...] = tuple(routes)
        self._noun = noun
        self._named: dict[str, dict[str, Route[A]]] = {}
        self._defaults: dict[str, Route[A]] = {}
        for route in self.routes:
            for name in route.names:
                self._named.setdefault(_plain(name), {})[route.region] = route
            if route.default:
                self._defaults[route.region] = route

    def find(self, name: str, region: str | None = None) -> Route[A] | Refusal:
        """The route for a name or an ARN. A Refusal: nobody takes that name, or nobody in that region.

        ``region``: where the request was signed for, if it was.
        """
        of = "The request is for"
        if name.startswith("arn:"):
            region, of = wire.region_of_arn(name) or region, "The ARN is of"
            name = _plain(name)
        routes: dict[str, Route[A]] = self._named.get(name) or self._defaults
        if not routes:
            message = (
                f"{self._noun} {name[:MAX_NAME]!r} is not bound to a target, and no target is the default."
            )
            return Refusal(NOT_FOUND, message, "unknown_target")
        if region is None:
            return next(iter(routes.values()))
        route = routes.get(region) or routes.get(ANY_REGION) or self._defaults.get(region)
        return route or self._wrong_region(name[:MAX_NAME], f"{of} region {region[:MAX_NAME]}", routes)

    def _wrong_region(self, name: str, what: str, routes: dict[str, Route[A]]) -> Refusal:
        places = " and ".join(f"target {route.name} in {route.region}" for route in routes.values())
        message = f"{what}, but {self._noun} {name!r} belongs to {places}."
        return Refusal(VALIDATION, message, "unknown_target")


class Bindings:
    """Every route, and the three ways to find one. Built once; the configuration was checked before."""

    def __init__(self, routes: Sequence[Route[Any]]) -> None:
        self.routes = tuple(routes)
        of = self._of
        self.buses: Bound[PutEvents] = Bound("event bus", of(PutEvents))
        self.monitors: Bound[PutRumEvents] = Bound("app monitor", of(PutRumEvents))
        self.projects: Bound[PutProjectEvents] = Bound("project", of(PutProjectEvents))

    def _of(self, api: type) -> list[Route[Any]]:
        return [route for route in self.routes if isinstance(route.api, api)]


def _plain(name: str) -> str:
    return name.rpartition("/")[2] if name.startswith("arn:") else name
