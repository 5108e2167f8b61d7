"""Which target an event is for: by the name of its bus, app monitor or project, and by region.

Invariants:
- A name belongs to the targets that list it, one per region; every other name to the default of its kind.
- An ARN matches a binding by the plain name, or one by the same ARN. An ARN of another account or region than
  the one that is bound is another name.
- A plain name that is bound in two accounts of one region is refused: nobody can tell which is meant.
- A request made for a region is answered by a target of that region or by none: events never change region
  unnoticed. A target without a region (its endpoint is its own) takes any.
- The region in an ARN is about that one event, so it goes before the region the request was signed for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from forwarder.apis import wire
from forwarder.apis.api import Api
from forwarder.apis.put_events import DEFAULT_BUS
from forwarder.ingest.errors import NOT_FOUND, VALIDATION
from forwarder.metrics import TargetMetrics
from forwarder.model import Names, Refusal
from forwarder.queues.queue import Queue

ANY_REGION = ""
MAX_NAME = 200
"""Characters of a name that are said back: AWS counts none of a bus's, so it may be of any length."""

T = TypeVar("T")


class KnownNames(Names, Protocol):
    """``why``: one word for ``reason``, ``missing`` among them; "" when the name is open."""

    def why(self, name: str) -> str: ...


class OnlyBound:
    """Refuses the names that no binding of one target names."""

    def __init__(self, target: str, api: type[Api], names: Iterable[str]) -> None:
        self._target = target
        self._noun, self._field = api.noun, api.bound_by
        self._names: _Names[str] = _Names()
        for name in names:
            self._names.add(name, "", target)

    def refusal(self, name: str) -> Refusal | None:
        """Why an event of this name is not accepted; None when it is. "" is the default event bus."""
        name = name or DEFAULT_BUS
        if self._names.find(name):
            return None
        message = (
            f"{self._noun} {name[:MAX_NAME]!r} is not in targets.{self._target}.{self._field}, "
            "and this target has only_bound: true."
        )
        return Refusal(NOT_FOUND, message, "unknown_target")


class _Names(Generic[T]):
    """What names are bound to, by region."""

    def __init__(self) -> None:
        self._by_arn: dict[str, dict[str, T]] = {}
        self._by_plain: dict[str, dict[str, T]] = {}
        self._by_either: dict[str, dict[str, T]] = {}
        self.twice: dict[tuple[str, str], list[T]] = {}

    def add(self, name: str, region: str, place: T) -> None:
        plain = plain_name(name)
        exact = self._by_plain if name == plain else self._by_arn
        exact.setdefault(name, {})[region] = place
        there = self._by_either.setdefault(plain, {})
        if there.setdefault(region, place) is not place:
            self.twice.setdefault((plain, region), [there[region]]).append(place)

    def find(self, name: str) -> dict[str, T]:
        """By region; empty when the name is not bound."""
        if name.startswith("arn:"):
            return self._by_arn.get(name) or self._by_plain.get(plain_name(name)) or {}
        return self._by_either.get(name) or {}


A = TypeVar("A", bound=Api)


@dataclass(frozen=True, slots=True, eq=False)
class Route(Generic[A]):
    """The way into one target. ``names``: the buses, app monitors or projects bound to it, names or ARNs.

    ``ack_timeout``: seconds that an answer waits for AWS's word, where the request does not say. ``at_aws``:
    what is known of names; ``answered`` waits, so many seconds at most, until one was asked about. ``only``:
    what refuses names that are not bound to it, where the target is configured to (``only_bound``).
    """

    name: str
    api: A
    region: str
    queue: Queue
    metrics: TargetMetrics
    max_event_bytes: int
    names: tuple[str, ...] = ()
    default: bool = False
    ack_timeout: float = 0.0
    at_aws: KnownNames | None = None
    answered: Callable[[str, float], Awaitable[None]] | None = None
    only: OnlyBound | None = None


class Bound(Generic[A]):
    """The routes of one API, found by name and region."""

    def __init__(self, api: type[A], routes: Iterable[Route[A]]) -> None:
        self.routes: tuple[Route[A], ...] = tuple(routes)
        self._noun = api.noun
        self._by_name: _Names[Route[A]] = _Names()
        self._defaults: dict[str, Route[A]] = {}
        for route in self.routes:
            for name in route.names:
                self._by_name.add(name, route.region, route)
            if route.default:
                self._defaults[route.region] = route

    def find(self, name: str, region: str | None = None) -> Route[A] | Refusal:
        """The route for a name or an ARN. A Refusal: nobody takes that name, or nobody in that region.

        ``region``: where the request was signed for, if it was.
        """
        of = "The request is for"
        routes: dict[str, Route[A]] = self._by_name.find(name) or self._defaults
        if name.startswith("arn:"):
            region, of = wire.region_of_arn(name) or region, "The ARN is of"
        if not routes:
            message = (
                f"{self._noun} {name[:MAX_NAME]!r} is not bound to a target, and no target is the default "
                "(targets.*.default)."
            )
            return Refusal(NOT_FOUND, message, "unknown_target")
        if region is None:
            route: Route[A] | None = next(iter(routes.values()))
        else:
            route = routes.get(region) or routes.get(ANY_REGION) or self._defaults.get(region)
        if route is not None and self._by_name.twice and (name, route.region) in self._by_name.twice:
            return self._in_two_accounts(name, self._by_name.twice[name, route.region])
        return route or self._wrong_region(
            name[:MAX_NAME], f"{of} region {(region or '')[:MAX_NAME]}", routes
        )

    def _in_two_accounts(self, name: str, routes: Sequence[Route[A]]) -> Refusal:
        places = " and ".join(route.name for route in routes)
        message = f"{self._noun} {name[:MAX_NAME]!r} exists in the accounts of {places}: send its ARN."
        return Refusal(NOT_FOUND, message, "unknown_target")

    def _wrong_region(self, name: str, what: str, routes: dict[str, Route[A]]) -> Refusal:
        places = " and ".join(f"target {route.name} in {route.region}" for route in routes.values())
        message = f"{what}, but {self._noun} {name!r} belongs to {places}."
        return Refusal(VALIDATION, message, "unknown_target")


class Bindings:
    """Every route, and each API's way to find one. Built once; the configuration was checked before.

    ``apis``: those whose calls are known here, with or without a route; those of the routes always are.
    """

    def __init__(self, routes: Sequence[Route[Any]], apis: Iterable[type[Api]] = ()) -> None:
        self.routes: tuple[Route[Any], ...] = tuple(routes)
        self.apis: tuple[type[Api], ...] = tuple(
            dict.fromkeys([*apis, *(type(route.api) for route in self.routes)])
        )
        self._bound: dict[type[Api], Bound[Any]] = {}

    def of(self, api: type[A]) -> Bound[A]:
        """The routes of one API."""
        found = self._bound.get(api)
        if found is None:
            routes = [route for route in self.routes if isinstance(route.api, api)]
            found = self._bound[api] = Bound(api, routes)
        return found

    @property
    def takers(self) -> list[Route[Any]]:
        """The routes that take CloudEvents."""
        return [route for route in self.routes if route.api.takes_cloudevents]


def plain_name(name: str) -> str:
    """The name that an ARN ends with; any other name as it is."""
    return name.rpartition("/")[2] if name.startswith("arn:") else name
