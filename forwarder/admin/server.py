"""The admin listener: health, metrics and status. It changes nothing, so it may listen on any address.

For programs metrics, health and JSON; for people a page that shows the same JSON.

Invariants:
- ``live`` says that the event loop turns, ``ready`` that the daemon listens and does not stop; neither knows
  of AWS, so no trouble there takes a pod out of service.
- A scrape reads every number in one step of the loop, so the ledger balances in each.
- At most MAX_CONNECTIONS are open, fewer where the limit of open files is low; one more closes the oldest
  that is idle, else the oldest. So whoever only holds connections keeps no probe out.
- Every answer to a request, but the metrics and the page, is JSON, errors too.
- Malformed HTTP is not logged; otherwise any client could flood the log with text of its choosing.
- On a loopback listener, only health checks answer to a host name that is not allowed (DNS rebinding).
- Expensive answers are rendered at most once a second, and served from memory in between. Requests without
  pause wait (``pacing``), so monitoring takes little of the event loop from ingest.
- The page runs its own script and no other, asks this listener and nobody else, and holds no data itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from forwarder import descriptors
from forwarder.addresses import Listens
from forwarder.admin.exposition import MetricsAnswers
from forwarder.admin.pacing import AnswerPace
from forwarder.admin.page import PAGE
from forwarder.aiohttp_private import is_in_progress
from forwarder.hosts import Hosts
from forwarder.http2 import RefusesHttp2
from forwarder.http_versions import Unspoken, check_version
from forwarder.json_errors import Handler, Problem, code_of, errors_as_json
from forwarder.listening import Listener, listen
from forwarder.metrics import Metrics
from forwarder.urls import CONFIG, HEALTH, HISTORY, LIVE, METRICS, READY, STATUS

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
CLOSE_SECONDS = 1.0
MAX_CONNECTIONS = 128


def _is_of_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log = logging.getLogger("forwarder.admin")
_http_log.addFilter(_is_of_ours)

JSON = "application/json"
MAX_AGE_SECONDS = 1.0
"""How old an answer may be. It takes milliseconds of the event loop to make one."""


def page_pace() -> AnswerPace:
    """For everything but health: 60 answers a second take 2 to 4 % of a core."""
    return AnswerPace(rate=60.0, burst=50, longest=1.0)


def health_pace() -> AnswerPace:
    """For health checks: a probe waits a second or more for its answer, so a quarter never fails one."""
    return AnswerPace(rate=200.0, burst=100, longest=0.25)


class _Newcomer(RefusesHttp2):
    """A connection that has room made for it when it is made: many may be accepted before the first is."""

    def __init__(
        self, http1: asyncio.Protocol, refused: Callable[[], None], make_room: Callable[[], None]
    ) -> None:
        super().__init__(http1, refused)
        self._make_room = make_room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._make_room()
        super().connection_made(transport)


class AdminServer:
    """``start`` it with where to listen; ``close`` it last, so that a stop can be watched.

    ``hosts``: names it answers to, see ``Hosts``. ``max_age``: seconds for which an answer is given again.
    """

    def __init__(
        self,
        metrics: Metrics,
        status: Callable[[], Mapping[str, Any]],
        ready: Callable[[], bool],
        config: Callable[[], Mapping[str, Any]] = dict,
        hosts: Sequence[str] = (),
        max_age: float = MAX_AGE_SECONDS,
    ) -> None:
        self._metrics = metrics
        self._ready = ready
        self._names = hosts
        self._most = MAX_CONNECTIONS
        self._pace, self._health_pace = page_pace(), health_pace()
        self._metrics_answers = MetricsAnswers(metrics.expose, max_age)
        self._get_status = _cached(lambda: _encoded(status()), JSON, max_age)
        self._get_history = _cached(lambda: _encoded(metrics.history.report()), JSON, max_age)
        self._get_config = _cached(lambda: _encoded(config()), JSON, max_age)
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None

    def app(self) -> web.Application:
        app = web.Application(
            middlewares=[
                self._wait_turn,
                errors_as_json("admin", _explained, HEADERS),
                self._check_version,
                self._check_host,
            ]
        )
        app.add_routes(
            [
                web.get(METRICS, self._get_metrics),
                *_health(LIVE, self._get_live),
                *_health(READY, self._get_ready),
                web.get(STATUS, self._get_status),
                web.get(HISTORY, self._get_history),
                web.get(CONFIG, self._get_config),
                *(web.get(path, self._get_page) for path in PAGE),
                web.options("/", self._get_ready),
            ]
        )
        return app

    async def start(self, where: Listens, given: Sequence[socket.socket] = ()) -> None:
        """Listen, on the given sockets if there are any. Raises CannotListen."""
        self._most = descriptors.for_admin(MAX_CONNECTIONS, descriptors.limit())
        self._runner = web.AppRunner(
            self.app(), access_log=None, logger=_http_log, shutdown_timeout=CLOSE_SECONDS
        )
        await self._runner.setup()
        self._listener = await listen(where, self._connect, given)
        self._hosts = Hosts(self._listener.addresses, self._names)

    async def renew(self) -> None:
        """Listen again if the unix socket was deleted."""
        if self._listener is not None:
            await self._listener.renew()

    def _connect(self) -> asyncio.Protocol:
        assert self._runner is not None
        assert self._runner.server is not None
        return _Newcomer(self._runner.server(), self._refused_version, self._make_room)

    def _make_room(self) -> None:
        """For one connection more: of too many an idle one is closed."""
        assert self._runner is not None
        assert self._runner.server is not None
        there = self._runner.server.connections
        if (beyond := len(there) - self._most + 1) > 0:
            by_age = sorted(there, key=is_in_progress)  # stable: they are in the order in which they came
            for other in by_age[:beyond]:
                other.force_close()

    def _refused_version(self) -> None:
        self._metrics.process.admin_refused["version"] += 1

    @property
    def address(self) -> str:
        """Where it listens, in the form of the configuration, with the port in use."""
        return "" if self._listener is None else self._listener.address

    @property
    def addresses(self) -> list[str]:
        """The same, each by itself."""
        return [] if self._listener is None else self._listener.addresses

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _wait_turn(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        pace = self._health_pace if _is_health_check(request) else self._pace
        if seconds := pace.wait(time.monotonic()):
            await asyncio.sleep(seconds)
        return await handler(request)

    @web.middleware
    async def _check_version(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_version(request)
        except Unspoken as problem:
            self._refused_version()
            code = "HttpVersionNotSupported" if problem.status == 505 else "BadRequest"
            answer = _json({"error": {"code": code, "message": problem.message}}, problem.status)
            answer.force_close()
            return answer
        return await handler(request)

    @web.middleware
    async def _check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host")
        if self._hosts.answers_to(host, request.transport) or _is_health_check(request):
            return await handler(request)
        self._metrics.process.admin_refused["host"] += 1
        message = f"Host {host!r:.100} is not allowed on this listener. Add it to admin.hosts."
        return _json({"error": {"code": "MisdirectedRequest", "message": message}}, status=421)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        get = request.headers.get
        kind, body = self._metrics_answers.answer(get("Accept", ""), get("Accept-Encoding", ""))
        return web.Response(body=body, headers={**HEADERS, **kind})

    async def _get_live(self, _request: web.Request) -> web.Response:
        return _json({"live": True})

    async def _get_ready(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        return _json({"ready": ready}, status=200 if ready else 503)

    async def _get_page(self, request: web.Request) -> web.Response:
        kind, body = PAGE[request.path]
        return web.Response(body=body, headers={**HEADERS, **PAGE_HEADERS, "Content-Type": kind})


def _is_health_check(request: web.Request) -> bool:
    """HAProxy checks by ``OPTIONS /`` unless it is told a path."""
    return request.path.startswith(HEALTH) or request.method == "OPTIONS"


def _health(path: str, handler: Handler) -> list[web.RouteDef]:
    """Load balancers also check by HEAD, and HAProxy by OPTIONS: each gets the status that GET would get."""
    return [web.get(path, handler), web.options(path, handler)]


def _explained(_request: web.Request, error: Exception) -> Problem | None:
    if not isinstance(error, web.HTTPException):
        return None
    messages = {
        404: f"No such page. There are /, {METRICS}, {LIVE}, {READY}, {STATUS}, {HISTORY} and {CONFIG}.",
        405: "The admin listener is read-only: use GET.",
    }
    return Problem(error.status, code_of(error), messages.get(error.status, error.reason))


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    headers = {**HEADERS, "Content-Type": JSON, **(headers or {})}
    return web.Response(body=_encoded(content), status=status, headers=headers)


def _encoded(content: Any) -> bytes:
    return msgspec.json.encode(content, enc_hook=str)


def _cached(make: Callable[[], bytes], content_type: str, max_age: float) -> Handler:
    """A handler that makes its body anew when the last one is older than ``max_age`` seconds."""
    headers = {**HEADERS, "Content-Type": content_type}
    body, made_at = b"", -math.inf

    async def handle(_request: web.Request) -> web.StreamResponse:
        nonlocal body, made_at
        now = time.monotonic()
        if now - made_at >= max_age:
            body, made_at = make(), now
        return web.Response(body=body, headers=headers)

    return handle
