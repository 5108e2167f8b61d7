"""CloudEvents for one target that takes them: read, mapped, taken once each, answered as senders expect.

Invariants:
- A single event that was taken is answered without a body: senders of CloudEvents (Knative among them) take
  a body that is no event for a failure. Who prefers a wait or a representation gets the native answer.
- An event that came before, alone or in another batch, gets the id of the first and is not put again.
- In a batch an event is refused by itself; a batch of which nothing was taken is refused as a whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence

from forwarder.apis.put_events import PutEvents
from forwarder.apis.trace_header import from_headers
from forwarder.ingest.bindings import Route
from forwarder.ingest.bounds import MAX_EVENTS
from forwarder.ingest.budget import Lease
from forwarder.ingest.deduplication import Pending, SeenEvents
from forwarder.ingest.dialects import cloudevents, native
from forwarder.ingest.errors import NOT_FOUND, VALIDATION, BadRequest
from forwarder.ingest.intake import count, put
from forwarder.ingest.operations.aws_calls import EXPIRED
from forwarder.ingest.operations.operation import (
    FEW,
    Call,
    Fates,
    Operation,
    Refusing,
    Reply,
    Results,
    answer_bytes,
    native_reply,
    no_method,
    told,
)
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import PREFER, Waiting, preferred_wait
from forwarder.model import Clock, Draft, Refusal, id_stream
from forwarder.receipts import DELIVERED, Receipt

EVENT_ID, AWS_ID = "x-forwarder-event-id", "x-forwarder-aws-event-id"
ORIGIN, RATE = "WebHook-Request-Origin", "WebHook-Request-Rate"
ORIGIN_PATTERN = r"^[!-~]{1,255}$"
ALLOW = {"Allow": "POST, OPTIONS"}

_is_origin = re.compile(ORIGIN_PATTERN, re.ASCII).fullmatch
_wants_body = re.compile(r"(?:^|[,;])\s*return\s*=\s*\"?representation\b", re.IGNORECASE).search


class CloudEvents:
    """``POST /v1/cloudevents/TARGET``."""

    dialect = native.DIALECT
    label = "cloudevents"
    known = True
    names_batch = False
    service = ""
    is_for_pages = False
    holds_lines = staticmethod(cloudevents.check_media)
    reads_json = staticmethod(cloudevents.reads_json)

    def __init__(
        self,
        route: Route[PutEvents],
        clock: Clock,
        identities: SeenEvents,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self.bounds = cloudevents.Bounds(max_events, route.max_event_bytes)
        self.route = route
        self.clock = clock
        self.identities = identities

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        return _CloudEventsCall(self, headers)

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        """The handshake by which a sender of webhooks asks whether its events are wanted here."""
        if method != "OPTIONS":
            raise no_method(method, "POST", "OPTIONS")
        origin = headers.get(ORIGIN)
        if origin is None:
            return Reply(200, b"", ALLOW)
        if not _is_origin(origin):
            raise BadRequest(400, VALIDATION, f"{ORIGIN} must be a name of 1 to 255 characters.", events=0)
        return Reply(200, b"", {**ALLOW, "WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"})


class _CloudEventsCall:
    __slots__ = ("_headers", "_operation", "_route", "ack_timeout", "metrics")

    def __init__(self, operation: CloudEvents, headers: Mapping[str, str]) -> None:
        self.metrics = operation.route.metrics
        self.ack_timeout = operation.route.ack_timeout
        self._route = operation.route
        self._operation = operation
        self._headers = headers

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        work = Work(lease.peer)
        events = cloudevents.steps(self._headers, body, lease, self._operation.bounds)
        drafts, keys = await self._admit(events, f"{lease.peer} {lease.source}", work)
        await work.rest()
        lease.take_for_answer(answer_bytes(drafts, waiting))
        results = await self._put_once(drafts, keys, waiting, lease.peer, work)
        await work.rest()
        if Refusal not in map(type, results):
            return results
        count(self.metrics, results)
        await work.rest()
        return await told(results, lease.peer)

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        if cloudevents.is_batch(self._headers) or self._wants_body():
            return native_reply(results, fates)
        (id,) = results
        assert isinstance(id, str)  # a single event that was refused has been raised
        return _single(id, None if fates is None else fates.get(id))

    def _wants_body(self) -> bool:
        said = self._headers.get(PREFER)
        return said is not None and (preferred_wait(self._headers) > 0 or _wants_body(said) is not None)

    async def _admit(
        self, events: Iterator[cloudevents.CloudEvent | Refusal | None], sender: str, work: Work
    ) -> tuple[list[Draft | Refusal], list[bytes]]:
        """Every event admitted or refused, and by what it is known again."""
        wall, name, api = self._operation.clock.wall(), self._route.name, self._route.api
        trace = from_headers(self._headers) if api.fill_trace_header else None
        drafts: list[Draft | Refusal] = []
        keys: list[bytes] = []
        ids = id_stream(wall)
        for event in events:
            if work.is_over:
                await work.pause()  # a huge body must not hold up everybody else
            if event is None:
                continue
            if isinstance(event, Refusal):
                drafts.append(event)
                keys.append(b"")
            else:
                draft = _admit(api, event, wall, trace, next(ids))
                drafts.append(draft)
                keys.append(b"" if type(draft) is Refusal else cloudevents.identity(sender, name, event))
        return drafts, keys

    async def _put_once(
        self,
        drafts: Sequence[Draft | Refusal],
        keys: Sequence[bytes],
        waiting: Waiting | None,
        peer: str,
        work: Work,
    ) -> Results:
        """Put each event that is new; a result per event. BadRequest when the queue took none."""
        results: list[str | Refusal | None] = [d if type(d) is Refusal else None for d in drafts]
        taken = False
        while places := [i for i, result in enumerate(results) if result is None]:
            await work.rest()
            mine: list[int] = []
            theirs: list[tuple[int, Pending]] = []
            try:
                put_ = await self._claim_and_put(
                    places, drafts, keys, results, mine, theirs, waiting, peer, work
                )
            except BadRequest as problem:
                if not taken:
                    problem.events = sum(not isinstance(result, str) for result in results)
                    raise
                put_ = [Refusal(problem.code, problem.message, problem.reason)] * len(mine)
            await work.rest()
            for i, result in zip(mine, put_, strict=True):
                results[i] = result
            taken = taken or str in map(type, put_)
            await work.rest()
            for number, (i, pending) in enumerate(theirs):
                if number % FEW == 0:
                    await work.rest()  # one event may be in a batch many times
                # None when that one was not taken: then it is ours to put
                results[i] = await asyncio.shield(pending)
        return [result for result in results if result is not None]

    async def _claim_and_put(
        self,
        places: Sequence[int],
        drafts: Sequence[Draft | Refusal],
        keys: Sequence[bytes],
        results: list[str | Refusal | None],
        mine: list[int],
        theirs: list[tuple[int, Pending]],
        waiting: Waiting | None,
        peer: str,
        work: Work,
    ) -> list[str | Refusal]:
        """Claim events, and put those that are new, in the order of ``mine``.

        Whatever becomes of what was claimed is settled before anything else happens; the ids of known events
        are set; ``theirs`` are those that another request is putting.
        """
        ids: list[str | None] | None = None
        try:
            for number, i in enumerate(places):
                if number % FEW == 0:
                    await work.rest()
                self._claim(i, keys[i], results, mine, theirs)
            clock = self._operation.clock
            await work.rest()
            some = [drafts[i] for i in mine]
            put_ = await put(self._route, some, clock, waiting, peer=peer, work=work) if some else []
            ids = [result if type(result) is str else None for result in put_]
            return put_
        finally:
            await self._settle([keys[i] for i in mine], ids or [None] * len(mine), work)

    async def _settle(self, keys: Sequence[bytes], ids: Sequence[str | None], work: Work) -> None:
        """Say what became of claimed events, in slices; at once when the request is cancelled meanwhile."""
        settle, done = self._operation.identities.settle, 0
        try:
            while done < len(keys):
                upto = done + FEW
                settle(keys[done:upto], ids[done:upto])
                done = upto
                await work.rest()
        finally:
            if done < len(keys):
                settle(keys[done:], ids[done:])

    def _claim(
        self,
        i: int,
        key: bytes,
        results: list[str | Refusal | None],
        mine: list[int],
        theirs: list[tuple[int, Pending]],
    ) -> None:
        claimed = self._operation.identities.claim(key)
        if claimed is None:
            mine.append(i)
        elif isinstance(claimed, str):
            results[i] = claimed
        else:
            theirs.append((i, claimed))


def not_for(kind: str, targets: Sequence[str]) -> Operation:
    """The answer to CloudEvents for a target that does not take them."""
    others = ", ".join(targets) or "none here"
    sentence = (
        f'Target "NAME" is of kind {kind}; CloudEvents go to targets of kind {PutEvents.kind}: {others}.'
    )
    return Refusing("cloudevents", native.DIALECT, 404, NOT_FOUND, sentence)


def unknown_target(targets: Sequence[str]) -> Operation:
    sentence = f'No such target: "NAME". Targets that accept CloudEvents: {", ".join(targets) or "none"}.'
    return Refusing("cloudevents", native.DIALECT, 404, NOT_FOUND, sentence)


def _admit(
    api: PutEvents, event: cloudevents.CloudEvent, wall: float, trace: str | None, id: str
) -> Draft | Refusal:
    try:
        entry = cloudevents.entry_of(
            event, api.cloudevents, api.default_bus, api.fill_trace_header, trace, api.max_request_bytes
        )
    except cloudevents.InvalidEvent as problem:
        return problem.refusal
    return api.admit_formed(entry, wall, id)


def _single(id: str, receipt: Receipt | None) -> Reply:
    if receipt is None:
        return Reply(202, b"", {EVENT_ID: id})
    if receipt.fate == DELIVERED:
        ids = {EVENT_ID: id, AWS_ID: receipt.aws_id} if receipt.aws_id else {EVENT_ID: id}
        return Reply(204, b"", ids)
    code = EXPIRED if receipt.fate == "expired" else receipt.code
    problem = BadRequest(400, code, f"The event became a dead letter here. {receipt.message}")
    return Reply(400, native.DIALECT.error(problem), {EVENT_ID: id})
