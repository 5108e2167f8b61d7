"""``PutRumEvents``: a client's batch, taken whole or not at all.

Invariants:
- A call leaves as the one batch it came as, unless its target merges.
- An event that AWS would refuse costs the whole call, as there. One that only this daemon refuses (it is too
  large, or has half of a surrogate pair in a string) costs no other: the others are accepted, and the answer
  is 400, which makes no client try again (AWS's web client drops its batch, and stays on).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import structlog

from forwarder.apis import surrogates, wire
from forwarder.apis.api import label as label_of
from forwarder.apis.put_rum_events import Envelope, PutRumEvents, RumEvent
from forwarder.apis.surrogates import HalfPair
from forwarder.ingest.bindings import Bound, Route
from forwarder.ingest.bounds import MAX_EVENTS, longest_event, too_long, too_many_events
from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects import aws
from forwarder.ingest.dialects.arrays import Part
from forwarder.ingest.dialects.broken import BROKEN
from forwarder.ingest.errors import VALIDATION
from forwarder.ingest.intake import count, put, within_limits
from forwarder.ingest.operations.aws_calls import bound, decoded, region_of, with_fates
from forwarder.ingest.operations.operation import Call, Fates, PostOnly, Reply, Results
from forwarder.ingest.shares import refuse_whole
from forwarder.ingest.slices import Work
from forwarder.ingest.waiting import Waiting
from forwarder.logs import limited
from forwarder.model import Clock, Draft, Refusal, id_stream

TOO_LARGE = "too_large"

_log = structlog.get_logger("ingest")


class PutRumEventsOperation(PostOnly):
    """``PutRumEvents``: a client's batch, taken whole or not at all."""

    dialect = aws.REST_JSON
    label = label_of(PutRumEvents)
    known = True
    service = PutRumEvents.service
    is_for_pages = True
    names_batch = True  # BatchId, the same on every try of AWS's web client (DataPlaneClient)

    def __init__(
        self,
        monitors: Bound[PutRumEvents],
        clock: Clock,
        presigned_for: str | None = None,
        max_events: int = MAX_EVENTS,
    ) -> None:
        self._monitors = monitors
        self._clock = clock
        self._presigned_for = presigned_for
        self._max_events = max_events

    def presigned(self, region: str) -> PutRumEventsOperation:
        """The operation for a request whose query was signed for this region, as a beacon's is."""
        return PutRumEventsOperation(self._monitors, self._clock, region, self._max_events)

    def open(self, name: str, headers: Mapping[str, str]) -> Call:
        region = self._presigned_for or region_of(headers)
        route = bound(self._monitors.find(name, region))
        return _PutRumEventsCall(name, route, self._clock, self._max_events)


class _PutRumEventsCall:
    __slots__ = ("_clock", "_max_events", "_monitor", "_route", "ack_timeout", "metrics")

    def __init__(self, monitor: str, route: Route[PutRumEvents], clock: Clock, max_events: int) -> None:
        self.metrics = route.metrics
        self.ack_timeout = route.ack_timeout
        self._monitor = monitor
        self._max_events = max_events
        self._route = route
        self._clock = clock

    async def take(self, body: bytes, lines: bool, lease: Lease, waiting: Waiting | None) -> Results:
        work = Work(lease.peer)
        request = decoded(aws.PUT_RUM_EVENTS, body)
        if request is not None:
            lease.take_for_events(len(request.RumEvents))
            drafts = await self._admit(request, request.RumEvents, work)
        else:
            await work.through(aws.check_signs(body))
            raw = await work.through(aws.read(aws.RAW_PUT_RUM_EVENTS, body, "RumEvents"))
            await work.rest()
            drafts = await self._admit(raw, await self._apart(raw.RumEvents, lease, work), work)
        lease.take_for_answer(aws.answer_bytes(0))
        complete = not self._route.api.merge
        taken = await put(
            self._route, drafts, self._clock, waiting, complete=complete, peer=lease.peer, work=work
        )
        await work.rest()
        count(self.metrics, taken)
        refuse_whole(taken)
        await work.rest()
        return taken

    async def _apart(self, raw: msgspec.Raw, lease: Lease, work: Work) -> list[Part]:
        events = await work.through(aws.apart(raw, self._max_events, "RumEvents", lease))
        if events is None:
            raise too_many_events(self._max_events)
        lease.take_for_events(len(events))
        events.reverse()
        return events

    async def _admit(
        self, request: Envelope, events: Sequence[RumEvent | Part], work: Work
    ) -> list[Draft | Refusal]:
        """Every event admitted, or refused for a reason of our own; BadRequest when AWS would refuse one (it
        takes all or nothing), and when none is left."""
        api, name, most = self._route.api, self._monitor, self._route.max_event_bytes
        longest = longest_event(most)
        key = api.call_key(name, request)
        if isinstance(key, Refusal):
            raise aws.refused(key, events=max(1, len(events)))
        drafts: list[Draft | Refusal] = []
        ids = id_stream(self._clock.wall())
        for i, event in enumerate(events):
            await work.rest()
            if not isinstance(event, RumEvent):
                size = memoryview(event).nbytes
                if size > longest:
                    drafts.append(Refusal(VALIDATION, f"RumEvents[{i}]: {too_long(size, most)}", TOO_LARGE))
                    continue
                place = f"$.RumEvents[{i}]"
                part = event
                try:
                    event = await work.through(surrogates.decode_steps(aws.RUM_EVENT, part))
                except HalfPair as problem:
                    drafts.append(Refusal(VALIDATION, f"{place}: {problem}."))
                    continue
                except BROKEN as problem:
                    raise aws.unreadable(problem, part, place) from None
                await work.rest()
            draft = api.admit_one(event, key, name, i, next(ids))
            if isinstance(draft, Draft):
                [draft] = within_limits(self._route, [draft])
                if isinstance(draft, Refusal):
                    draft = Refusal(draft.code, f"RumEvents[{i}]: {draft.message}", draft.reason)
            if isinstance(draft, Refusal) and draft.reason != TOO_LARGE:
                raise aws.refused(draft, events=len(events))
            drafts.append(draft)
        self._log_refused(drafts)
        if drafts and all(isinstance(draft, Refusal) for draft in drafts):
            assert isinstance(drafts[0], Refusal)
            raise aws.refused(drafts[0], events=len(events))
        return drafts

    def _log_refused(self, drafts: Sequence[Draft | Refusal]) -> None:
        """The page that sent them does not read the answer."""
        refusals = [draft for draft in drafts if isinstance(draft, Refusal)]
        if refusals:
            log = limited(_log, f"event refused {self._route.name} {refusals[0].reason}")
            log.warning(
                "event refused",
                target=self._route.name,
                reason=refusals[0].reason,
                refused=len(refusals),
                accepted=len(drafts) - len(refusals),
                error=refusals[0].message,
            )

    def reply(self, results: Results, fates: Fates | None) -> Reply:
        refused = [result for result in results if isinstance(result, Refusal)]
        pairs = zip(results, with_fates(results, fates), strict=True)
        dead = [told for result, told in pairs if type(result) is str and type(told) is Refusal]
        if not refused and not dead:
            return Reply(200, self._route.api.render_results(results))
        first = (dead or refused)[0]
        accepted = len(results) - len(refused) - len(dead)
        message = f"{accepted} accepted, {len(refused)} refused, {len(dead)} dead-lettered. {first.message}"
        return Reply(400, wire.error_body(first.code, message), {wire.ERROR_HEADER: first.code})
