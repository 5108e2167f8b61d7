"""The data listener: dispatch, bounds and answers around the operations.

Invariants:
- Every request that parses as HTTP gets an answer in JSON, in its dialect's shape, whatever happens.
- A body is read only after its operation is open, and inside its lease of the budget.
- A request's lease ends when its answer is written; the answer's bytes stay in it until then.
- A sender that goes away cancels nothing: what its handler began, it ends.
- While draining every answer closes its connection; a request that is being read may still end.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from time import perf_counter
from typing import cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from forwarder.config import IngestConfig
from forwarder.hosts import Hosts
from forwarder.http_versions import Unspoken, check_version
from forwarder.ingest.auth.guard import ANYONE, Admission, Guard
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.budget import Budget, Lease
from forwarder.ingest.errors import INTERNAL, MALFORMED, VERSION, BadRequest
from forwarder.ingest.exchange import Exchange
from forwarder.ingest.http.acceptor import Acceptor
from forwarder.ingest.http.answers import is_plain, ready, refuse, respond
from forwarder.ingest.http.browsers import check_origin, check_page, misdirected
from forwarder.ingest.http.connections import Connection
from forwarder.ingest.http.cors import Cors
from forwarder.ingest.http.incoming import headers_too_large
from forwarder.ingest.http.peers import Peers, peer_of_sender
from forwarder.ingest.idempotency import IdempotencyCache
from forwarder.ingest.operations.operation import Call, Operation
from forwarder.ingest.paths import Paths
from forwarder.ingest.refusals import Place, Refusals
from forwarder.ingest.turns import Turns
from forwarder.listening import Listener, listen
from forwarder.metrics import Metrics
from forwarder.model import Chance, Clock
from forwarder.receipts import Receipts

SWEEP_SECONDS = 1.0
MAX_SWEEP_SHARE = 0.25
POLL_SECONDS = 0.02
CLOSE_SECONDS = 0.5
NO_PLACE = nullcontext()
UNKNOWN = "?"
"""The target of a request that was refused before anybody looked for it."""
REFUSAL_BYTES = 4096
"""What a refusal that waits for its answer holds of the budget, if nothing was reserved for its answer."""
_READS = frozenset({"GET", "HEAD"})


class IngestServer:
    """Listens, from ``start`` to ``close``. For a stop: ``begin_draining``, ``stop_accepting``,
    ``finish_requests``, ``close``, in that order.

    ``guard`` is None where nobody is asked who sends; ``tls``: the context of connections that come now;
    ``sending``: whether calls to AWS are in flight.
    """

    def __init__(
        self,
        settings: IngestConfig,
        bindings: Bindings,
        budget: Budget,
        metrics: Metrics,
        clock: Clock,
        chance: Chance = random.random,
        receipts: Receipts | None = None,
        guard: Guard | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        sending: Callable[[], bool] = lambda: False,
    ) -> None:
        self.address, self.addresses = settings.listen.text, [str(each) for each in settings.listen]
        self._settings = settings
        self._budget = budget
        self._http = metrics.http
        self._chance = chance
        self._turns = Turns(sending)
        self._refusals = Refusals(bindings)
        self._exchange = Exchange(
            settings,
            IdempotencyCache(clock),
            receipts or Receipts(),
            metrics.http,
            self._turns,
            self._refusals,
        )
        self._guard = guard
        self._unbound = metrics.unbound
        self._acceptor = Acceptor(settings, budget, metrics, chance, tls)
        self._peers = Peers(settings.trusted_proxies)
        self._paths = Paths(bindings, clock, metrics.unbound, settings)
        self._cors = Cors(settings.cors) if settings.cors.origins else None
        self._log = structlog.get_logger("ingest")
        self._listener: Listener | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._in_flight = 0
        self._draining = False

    @property
    def in_flight(self) -> int:
        """Requests between their head and their answer."""
        return self._in_flight

    @property
    def connections(self) -> int:
        return self._acceptor.taken

    async def start(self, given: Sequence[socket.socket] = ()) -> None:
        """Listen, on the given sockets if there are any. Raises CannotListen.

        Then ``address`` has the real port.
        """
        self._loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle, request_factory=self._begin)
        settings = self._settings
        self._acceptor.open(self._server)
        self._listener = await listen(
            settings.listen, self._acceptor.accept, given, reuse_port=settings.reuse_port
        )
        self.address, self.addresses = self._listener.address, self._listener.addresses
        self._hosts = Hosts(self._listener.addresses, settings.hosts)
        self._sweep()

    async def renew(self) -> None:
        """Listen again if the unix socket was deleted."""
        if self._listener is not None:
            await self._listener.renew()

    def begin_draining(self) -> None:
        """From now on every answer says ``Connection: close``."""
        self._draining = True

    def stop_accepting(self) -> None:
        """Close the listener; connections stay."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def finish_requests(self, grace: float) -> None:
        """Wait for the answers to requests that have begun, at most ``grace`` seconds; hang up then."""
        ends = self._loop.time() + grace
        while self._is_busy() and self._loop.time() < ends:  # noqa: ASYNC110 - a slow head sets no event
            await asyncio.sleep(POLL_SECONDS)
        for connection in self._acceptor.connections():  # nothing may be taken after the drain
            connection.hang_up()

    async def close(self) -> None:
        """Close the connections, and cancel what is still in flight."""
        self.stop_accepting()
        self._acceptor.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._server.pre_shutdown()
            await self._server.shutdown(timeout=CLOSE_SECONDS)
            self._acceptor.cut_turned_away()

    def _is_busy(self) -> bool:
        return self._in_flight > 0 or any(each.busy for each in self._acceptor.connections())

    def _sweep(self) -> None:
        now = self._loop.time()
        self._acceptor.sweep(now)
        self._exchange.arrivals.sweep(now)
        pause = min(SWEEP_SECONDS, self._settings.read_timeout * MAX_SWEEP_SHARE)
        self._sweeper = self._loop.call_later(pause, self._sweep)

    def _begin(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast(Connection, protocol).begin(message, payload)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        began = perf_counter()
        connection = cast(Connection, request.protocol)
        self._in_flight += 1
        try:
            operation, name = self._paths.find(request)
            cors = self._cors
            if cors is not None and not operation.is_for_pages:
                cors = None
            answer = self._answer(request, connection, operation, name, cors)
            response = await self._turns.measured(answer)
        finally:
            self._in_flight -= 1
            connection.handling = False
        if cors is not None:
            response.headers.update(cors.headers(request.headers))
        if self._draining or connection.ended:
            response.force_close()
        self._http.request(operation.label, response.status, perf_counter() - began)
        return response

    async def _answer(
        self,
        request: web.BaseRequest,
        connection: Connection,
        operation: Operation,
        name: str,
        cors: Cors | None,
    ) -> web.StreamResponse:
        dialect = operation.dialect
        call = None
        try:
            if cors is not None and (preflight := cors.preflight(request)) is not None:
                return preflight
            self._check_source(request, operation)
            admission = self._admit(request, connection, operation)
            if request.method != "POST" and operation.known and not connection.head_too_large:
                admission.check_nothing()
                await self._enter(connection)
                reply = operation.other(request.method, request.headers)
                return respond(dialect, reply.status, reply.body, reply.headers)
            headers = request.headers if admission.headers is None else admission.headers
            call = _open_call(headers, connection, operation, name)
            peer = self._peer(request, connection, admission)
            place: Place | nullcontext[None] = NO_PLACE
            if self._refusals.must_wait(call.metrics.name) and admission.check_body is None:
                size = request.content_length or 0
                place = await self._refusals.wait(call.metrics.name, size, peer, connection.manners)
            with place:
                source = self._peers.source_of(peer, request.headers, connection.sender)
                lease = connection.lease = Lease(self._budget, peer, proven=admission.proven, source=source)
                reply = await self._exchange.reply(
                    request, headers, connection, operation, name, call, lease, admission
                )
            lease.keep(len(reply.body))  # until it is written
            goes_on = is_plain(request) and not self._draining and not connection.ended
            if goes_on and not reply.headers and cors is None:
                return ready(dialect, reply.status, reply.body)
            return respond(dialect, reply.status, reply.body, reply.headers)
        except BadRequest as problem:
            _let_go_of_frames(problem)
            await self._refuse(request, connection, call, problem)
            return _with_lease(connection, refuse(dialect, problem, self._chance))
        except Exception:
            self._log.exception("request failed", operation=operation.label)
            return _with_lease(connection, refuse(dialect, _failure()))
        except BaseException:  # cancelled: there is no answer
            connection.end_lease()
            raise

    async def _refuse(
        self, request: web.BaseRequest, connection: Connection, call: Call | None, problem: BadRequest
    ) -> None:
        """Count a refusal, and wait until it may be answered."""
        await self._enter(connection)
        if problem.events:
            counts = self._unbound if call is None else call.metrics
            counts.add_refused(problem.reason, problem.events)
        if "Expect" in request.headers and not request.content.is_eof():
            problem.close = True  # nobody can tell whether the body still comes
        lease = connection.lease
        if lease is not None and problem.status == 429:
            lease.keep(max(lease.answer, REFUSAL_BYTES))  # nothing else while it waits
        target = call.metrics.name if call is not None else UNKNOWN
        await self._refusals.refused(target, problem, connection.manners)

    async def _enter(self, connection: Connection) -> None:
        """Wait for this request's turn, if it had none yet: what costs no event must not be free."""
        if not connection.entered:
            connection.entered = True
            if not self._turns.may_enter():
                await self._turns.enter(connection.peer)

    def _peer(self, request: web.BaseRequest, connection: Connection, admission: Admission) -> str:
        if admission.sender and admission.proven:
            return peer_of_sender(admission.sender)
        if self._peers.is_proxy(connection.sender):
            return self._peers.behind(request.headers, connection.peer)
        return connection.proven_peer or connection.peer

    def _check_source(self, request: web.BaseRequest, operation: Operation) -> None:
        """Refuse HTTP that a proxy may read otherwise, web pages that may not send, and readers that came by
        a rebound name."""
        try:
            check_version(request)
        except Unspoken as problem:
            code = VERSION if problem.status == 505 else MALFORMED
            raise BadRequest(problem.status, code, problem.message, close=True) from None
        headers = request.headers
        if request.method in _READS and not self._hosts.answers_to(headers.get("Host"), request.transport):
            raise misdirected(headers["Host"])
        if request.method != "POST":
            return
        if operation.is_for_pages:
            check_origin(headers, self._cors.allows if self._cors is not None else _no_origin)
        elif self._settings.browsers == "refuse":
            check_page(headers, self._paths.for_pages)

    def _admit(self, request: web.BaseRequest, connection: Connection, operation: Operation) -> Admission:
        if self._guard is None:
            return ANYONE
        return self._guard.admit(request, operation.dialect, operation.service, connection.sender)


def _open_call(headers: Mapping[str, str], connection: Connection, operation: Operation, name: str) -> Call:
    if connection.head_too_large:
        raise headers_too_large(connection.max_head)
    return operation.open(name, headers)


def _let_go_of_frames(problem: BadRequest) -> None:
    """Their variables have the body: it would be kept while the refusal waits, and in a cycle after that."""
    problem.__traceback__ = problem.__context__ = problem.__cause__ = None


def _no_origin(_origin: str) -> bool:
    return False


def _with_lease(connection: Connection, response: web.Response) -> web.Response:
    """Of what the request held only its answer is left."""
    if connection.lease is not None:
        connection.lease.keep(len(cast(bytes, response.body)))
    return response


def _failure() -> BadRequest:
    return BadRequest(500, INTERNAL, "The request could not be handled; the log says why.")
