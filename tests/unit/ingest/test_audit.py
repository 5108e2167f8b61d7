"""Every refusal that ``docs/security.md`` lists: status, reason and counter, and the setting that lifts it.

Invariants:
- Each row of the page has a case here; a case is made to happen over a real connection.
- The message names a setting of its row, if the row has one; a request with that setting is accepted.
- Each case names the test of ``make welcome`` in which honest clients come close to it and are not refused.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.config import AuthConfig
from forwarder.ingest.auth.tokens import make
from forwarder.ingest.http import bodies
from forwarder.model import QueueFull, QueueUnavailable, SystemClock
from forwarder.queues.memory import MemoryQueue
from tests.repository.test_refusals_page import rows
from tests.support.ingest import (
    ENTRY,
    EVENT,
    LIMITS,
    MIB,
    MONITOR,
    NATIVE,
    PUT_EVENTS,
    Answer,
    Ingest,
    Routes,
    code,
    request,
    serving,
)
from tests.unit.ingest.test_aws import rum_call

WELCOME = Path(__file__).parents[2] / "welcome"
CLOUDEVENT = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
PAGE = {"Origin": "https://shop.example.com"}
Provoke = Callable[[Ingest], Awaitable[Answer]]


@dataclass(frozen=True)
class Case:
    """``row``: how the page's sentence of what is refused begins. ``lifted``: settings with which the same
    request is accepted. ``welcome``: the test of honest clients, and ``counted``: whether events are.
    """

    row: str
    provoke: Provoke
    status: int
    code: str
    reason: str
    welcome: str
    given: Mapping[str, Any] = field(default_factory=dict)
    lifted: Mapping[str, Any] | None = None


def post(
    path: str, body: Any = b"", headers: Mapping[str, str] | None = None, method: str = "POST"
) -> Provoke:
    async def send(ingest: Ingest) -> Answer:
        return await ingest.post(path, body, headers, method)

    return send


def said(data: bytes) -> Provoke:
    """Exactly these bytes."""

    async def send(ingest: Ingest) -> Answer:
        peer = await ingest.peer()
        try:
            await peer.send(data)
            return await peer.answer()
        finally:
            await peer.close()

    return send


def twice(path: str, first: Any, second: Any, headers: Mapping[str, str]) -> Provoke:
    async def send(ingest: Ingest) -> Answer:
        assert (await ingest.post(path, first, headers)).status == 202
        return await ingest.post(path, second, headers)

    return send


async def beside_a_large_body(ingest: Ingest) -> Answer:
    """It has not arrived yet, and holds the memory that another body needs."""
    peer, data = await ingest.peer("127.0.0.2"), request(NATIVE, BIG)
    try:
        await peer.send(data[:-100])
        await asyncio.sleep(0.05)
        answer = await ingest.post(NATIVE, BIG)
        await peer.send(data[-100:])
        await peer.answer()
        return answer
    finally:
        await peer.close()


async def beside_all_connections(ingest: Ingest) -> Answer:
    """The only one that there may be sends a body."""
    first = await ingest.peer()
    try:
        await first.send(request(NATIVE, b"{", {"Content-Length": "10"}))
        await asyncio.sleep(0.05)
        return await ingest.post(NATIVE, EVENT)
    finally:
        await first.close()


def orders(**more: Any) -> Routes:
    return Routes().add("orders", PutEvents(), **{"default": True, **more})


def with_queue(**methods: Any) -> Routes:
    """With methods of the queue replaced."""
    routes = orders()
    queue = type("Queue", (MemoryQueue,), methods)(
        LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=routes.metrics.for_target("orders")
    )
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    return routes


def cannot_store(*_: Any, **__: Any) -> None:
    raise QueueUnavailable("events cannot be stored now: the storage is full (storage.max_bytes)")


def is_full(*_: Any, **__: Any) -> None:
    raise QueueFull("the queue is full: raise targets.orders.queue_limits")


BIG = {**EVENT, "Detail": {"x": "y" * 5_000}}
ATTRIBUTES = {f"a{n}": "v" for n in range(260)}
OTHER_BUS = {**EVENT, "EventBusName": "other"}
ENDPOINT = {"Entries": [ENTRY], "EndpointId": "abcde.veo"}
POSTS = "test_a_program_that_posts_json_is_accepted"
SDKS = "test_a_client_is_accepted"
CLOUD = "test_a_cloudevents_sdk_is_accepted"
SIGNS = "test_a_client_that_signs_is_accepted_behind_a_proxy"
LARGE = "test_arrays_close_to_the_largest_body_are_accepted"
SLOW = "test_who_takes_its_time_is_waited_for"
QUEUE = "test_one_peer_alone_may_fill_the_whole_queue_with_requests_of_20_000"
PAGES = "test_a_page_with_the_rum_web_client_is_accepted"
CONNECTIONS = "test_one_peer_alone_may_have_500_connections"
BUSES = "test_a_configuration_starts_on_a_volume_and_again"

CASES = (
    Case("a body or an event", post(NATIVE, b"{"), 400, "SerializationException", "invalid", POSTS),
    Case(
        "a body that ends early",
        post(NATIVE, b"no gzip", {"Content-Encoding": "gzip"}),
        *(400, "MalformedHttpRequestException", "invalid", SDKS),
    ),
    Case(
        "a second `Authorization`",
        said(request(NATIVE, EVENT, {"Authorization": "Bearer a\r\nAuthorization: Bearer b"})),
        *(400, "MalformedHttpRequestException", "unauthenticated", SIGNS),
        given={"auth": "tokens"},
    ),
    Case(
        "an `Idempotency-Key` over",
        post(NATIVE, EVENT, {"Idempotency-Key": "k" * 256}),
        *(400, "ValidationException", "invalid", POSTS),
    ),
    Case(
        "a CloudEvent with more",
        post("/v1/cloudevents/orders", {**CLOUDEVENT, **ATTRIBUTES}, STRUCTURED),
        *(400, "ValidationException", "invalid", CLOUD),
    ),
    Case(
        "an `EndpointId`",
        post("/", ENDPOINT, PUT_EVENTS),
        *(400, "ValidationException", "global_endpoint", SDKS),
        given={"routes": lambda: Routes().add("orders", PutEvents(global_endpoints=False), default=True)},
        lifted={"routes": orders},
    ),
    Case(
        "a project named",
        post(NATIVE, OTHER_BUS),
        *(400, "ResourceNotFoundException", "unknown_target", BUSES),
        given={"routes": lambda: orders(names=("mine",), only_bound=True)},
        lifted={"routes": lambda: orders(names=("mine", "other"), only_bound=True)},
    ),
    Case(
        "a name that is bound to no target",
        post(f"/appmonitors/{MONITOR}", rum_call()),
        *(404, "ResourceNotFoundException", "unknown_target", BUSES),
        given={"routes": lambda: Routes().add("web", PutRumEvents())},
        lifted={"routes": lambda: Routes().add("web", PutRumEvents(), default=True)},
    ),
    Case(
        "a request without valid authentication",
        post(NATIVE, EVENT),
        *(401, "MissingAuthenticationTokenException", "unauthenticated", SIGNS),
        given={"auth": "tokens"},
        lifted={},
    ),
    Case(
        "a web page",
        post(NATIVE, EVENT, PAGE),
        *(403, "AccessDeniedException", "browser", PAGES),
        lifted={"browsers": "allow"},
    ),
    Case("a method that", post(NATIVE, method="PUT"), 405, "MethodNotAllowedException", "-", POSTS),
    Case(
        "a body that takes longer",
        post(NATIVE, b"{", {"Content-Length": "10"}),
        *(408, "RequestTimeoutException", "invalid", SLOW),
        given={"read_timeout": 0.1},
    ),
    Case(
        "a body slower than",
        post(NATIVE, b"{", {"Content-Length": "10"}),
        *(408, "RequestTimeoutException", "too_slow", SLOW),
    ),
    Case(
        "headers that take longer",
        said(b"POST / HTTP/1.1\r\nHost: a\r\n"),
        *(408, "RequestTimeoutException", "-", SLOW),
        given={"read_timeout": 0.1},
    ),
    Case(
        "a body over `ingest.max_body`",
        post(NATIVE, BIG),
        *(413, "RequestEntityTooLargeException", "too_large", LARGE),
        given={"max_body": 4096},
        lifted={},
    ),
    Case(
        "an event that no call",
        post(NATIVE, BIG),
        *(413, "RequestEntityTooLargeException", "too_large", LARGE),
        given={"routes": lambda: orders(max_event_bytes=4096)},
        lifted={},
    ),
    Case(
        "an unknown content type",
        post(NATIVE, EVENT, {"Content-Encoding": "br"}),
        *(415, "UnsupportedMediaTypeException", "invalid", SDKS),
    ),
    Case(
        "a GET request for a host name",
        post("/v1/openapi.json", headers={"Host": "shop.example.com"}, method="GET"),
        *(421, "MisdirectedRequestException", "-", BUSES),
        lifted={"hosts": ["shop.example.com"]},
    ),
    Case(
        "an `Idempotency-Key` that",
        twice(NATIVE, EVENT, BIG, {"Idempotency-Key": "k"}),
        *(422, "IdempotentParameterMismatchException", "invalid", POSTS),
    ),
    Case(
        "events for a full queue",
        post(NATIVE, EVENT),
        *(429, "ThrottlingException", "queue_full", QUEUE),
        given={"routes": lambda: with_queue(put_nowait=is_full)},
        lifted={},
    ),
    Case(
        "a request for which no memory",
        beside_a_large_body,
        *(429, "ThrottlingException", "memory", QUEUE),
        given={"budget": 10_000},
        lifted={},
    ),
    Case(
        "headers over",
        post(NATIVE, EVENT, {"X-Long": "x" * 5_000}),
        *(431, "RequestHeaderFieldsTooLargeException", "invalid", SDKS),
        given={"max_header_bytes": 2_048},
        lifted={},
    ),
    Case(
        "events for a disk queue",
        post(NATIVE, EVENT),
        *(503, "ServiceUnavailable", "storage", BUSES),
        given={"routes": lambda: with_queue(put_nowait=cannot_store)},
        lifted={},
    ),
    Case(
        "a new connection when",
        beside_all_connections,
        *(503, "ServiceUnavailable", "-", CONNECTIONS),
        given={"max_connections": 1},
        lifted={},
    ),
    Case(
        "HTTP/0.9 and HTTP/2",
        said(f"POST {NATIVE} HTTP/2.0\r\nHost: a\r\n\r\n".encode()),
        *(505, "HttpVersionNotSupportedException", "invalid", SDKS),
    ),
)
ELSEWHERE = {"events for a name that is missing": "integration/test_names.py"}
"""Rows whose refusal needs a whole daemon, and where it happens."""


def row_of(case: str) -> list[str]:
    (found,) = (row for row in rows() if row[3].startswith(case))
    return found


def test_every_row_of_the_page_has_a_case() -> None:
    tried = [case.row for case in CASES] + list(ELSEWHERE)
    for row in rows():
        assert len([each for each in tried if row[3].startswith(each)]) == 1, row[3]
    tests = Path(__file__).parents[2]
    for path in ELSEWHERE.values():
        assert "set_aside_full" in (tests / path).read_text()


def settings(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    made = {key: value() if callable(value) else value for key, value in given.items()}
    if "auth" in made:
        (folder / "tokens").write_text(f"{make('shop')[1]}\n")
        made["auth"] = AuthConfig(tokens=str(folder / "tokens"))
    return made


def paths(named: list[str]) -> Iterator[str]:
    """As messages have them: of a target, or of its batches as a whole."""
    for name in named:
        of_target = name.replace("targets.*", "targets.orders")
        yield from (name, of_target, of_target.removesuffix(".max_bytes"))


def counted(ingest: Ingest) -> set[str]:
    """The reasons for which events were refused."""
    return {*ingest.refused(), *(reason for reason, n in ingest.metrics.unbound.refused.items() if n)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.row.replace(" ", "_"))
async def test_a_refusal_is_counted_and_names_what_lifts_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, codes, reason, _, lifts = row_of(case.row)
    assert str(case.status) in status
    assert case.code in codes or codes in ("one for each cause", "that of the API")
    assert case.reason in reason
    if case.reason == "too_slow":
        monkeypatch.setattr(bodies, "RATE_GRACE", -10.0)
    async with serving(**settings(case.given, tmp_path)) as ingest:
        answer = await case.provoke(ingest)
        assert (answer.status, code(answer)) == (case.status, case.code), answer.body
        assert counted(ingest) == {case.reason} - {"-"}
    named = re.findall(r"`((?:ingest|storage|targets)\.[\w.*]+)`", lifts)
    said = answer.body.decode()
    assert not named or any(each in said for each in paths(named)), said
    if case.lifted is not None:
        async with serving(**settings(case.lifted, tmp_path)) as ingest:
            answer = await case.provoke(ingest)
            assert answer.status < 300, answer.body
            assert not counted(ingest)


def test_honest_clients_come_close_to_every_refusal_in_make_welcome() -> None:
    known = {
        name
        for path in WELCOME.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert {case.welcome for case in CASES} <= known
