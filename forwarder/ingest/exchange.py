"""From an opened call to its reply: read, known again or taken, and AWS's word waited for.

Invariants:
- A repeat of a request takes nothing: it gets the answer of the first.
- While it waits a request holds neither its body nor the budget's bytes for it.
- Whatever ends a request, its wait is over and nothing waits for its events.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial

from aiohttp import web

from forwarder.config import IngestConfig
from forwarder.ingest.auth.guard import Admission
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects.beginnings import json_of
from forwarder.ingest.http.bodies import Arrivals, codings_of, read_body
from forwarder.ingest.http.connections import Connection
from forwarder.ingest.http.peers import peer_of_sender
from forwarder.ingest.idempotency import IdempotencyCache, IdempotencyEntry, values_of
from forwarder.ingest.operations.operation import Call, Operation, Reply, Results, is_known, told_fates
from forwarder.ingest.refusals import Refusals
from forwarder.ingest.slices import Work
from forwarder.ingest.turns import Turns
from forwarder.ingest.waiting import Waiting, preferred_wait
from forwarder.metrics import HttpMetrics
from forwarder.receipts import Receipts

NOT_REPEATED = nullcontext()


class Exchange:
    """Answers requests, one ``reply`` each, with what all of them share."""

    def __init__(
        self,
        settings: IngestConfig,
        repeats: IdempotencyCache,
        receipts: Receipts,
        metrics: HttpMetrics,
        turns: Turns,
        refusals: Refusals,
    ) -> None:
        self._settings = settings
        self._repeats = repeats
        self._receipts = receipts
        self._metrics = metrics
        self.arrivals = Arrivals()
        self._turns = turns
        self._refusals = refusals

    async def reply(
        self,
        request: web.BaseRequest,
        headers: Mapping[str, str],
        connection: Connection,
        operation: Operation,
        name: str,
        call: Call,
        lease: Lease,
        admission: Admission,
    ) -> Reply:
        """``headers``: those of the request that can be believed."""
        settings = self._settings
        lines, codings = operation.holds_lines(headers), codings_of(headers)
        body = await read_body(
            request,
            lease,
            settings.max_body,
            settings.read_timeout,
            self.arrivals,
            codings,
            partial(_check, admission, lease) if admission.check_body is not None else None,
        )
        connection.entered = True
        if not self._turns.may_enter():
            await self._turns.enter(lease.peer)
        scope = (lease.peer, operation.label, call.metrics.name, name, lease.source)
        values = values_of(headers, names_batch=operation.names_batch)
        attempt, repeated = self._repeats.claim(scope, values, body) if values else (None, False)
        if attempt is not None and repeated:
            del body
            lease.keep(0)
            return await self._again(operation, attempt, connection)
        await Work(lease.peer).begin(len(body))
        if operation.reads_json(headers):
            body = json_of(body, codings)
        waiting = self._waiting(headers, call, lease)
        try:
            with attempt or NOT_REPEATED:
                lease.check_parsing(body)
                results = await call.take(body, lines, lease, waiting)
                self._refusals.learn(call.metrics.name, len(body), len(results))
                del body
                reply = await _answer(call, results, waiting, connection, lease.peer)
                if attempt is not None:
                    attempt.keep(reply)
                return reply
        finally:
            if waiting is not None:
                waiting.close()

    async def _again(self, operation: Operation, attempt: IdempotencyEntry, connection: Connection) -> Reply:
        self._metrics.repeat(operation.label)
        return await attempt.again(connection.waits)

    def _waiting(self, headers: Mapping[str, str], call: Call, lease: Lease) -> Waiting | None:
        preferred = preferred_wait(headers)
        if preferred or call.ack_timeout:
            return Waiting(self._receipts, lease, preferred, call.ack_timeout)
        return None


def _check(admission: Admission, lease: Lease, body: bytes) -> None:
    """Whether the body is what was signed; from then on the request is its sender's."""
    assert admission.check_body is not None
    admission.check_body(body)
    lease.prove(peer_of_sender(admission.sender))


async def _answer(
    call: Call, results: Results, waiting: Waiting | None, connection: Connection, peer: str
) -> Reply:
    fates = None if waiting is None else await waiting.fates(connection)
    if fates is not None:
        results = await told_fates(results, fates, peer)
    reply = call.reply(results, fates)
    if waiting is not None and fates is not None:
        reply.headers = {**reply.headers, **waiting.headers(known=is_known(results, fates))}
    return reply
