"""Refuses events for names that are not known to exist, one by one, once their share of the queue is used up.

Invariants:
- Only names that are not open and have a share are asked about, once each; other events cost a look-up per
  name.
- A refused event costs its neighbours nothing.
- However many names a request has, they are looked at in slices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from forwarder.ingest.bindings import Route
from forwarder.ingest.errors import THROTTLING, BadRequest
from forwarder.model import EVENT_OVERHEAD_BYTES, GROUP_OVERHEAD_BYTES, Draft, Refusal

SET_ASIDE_FULL = "set_aside_full"
SLICE = 1_000
"""Names that are looked at in one turn of the event loop."""

MAX_CLOSED_NAMES = 1_000
"""Names of one request that are not open: on the disk each has a row for itself."""


def names_in(drafts: Sequence[Draft | Refusal]) -> set[str]:
    """The names that must exist at AWS; mostly none."""
    names = {draft.name for draft in drafts if type(draft) is Draft}
    names.discard("")
    return names


async def within_share(
    route: Route[Any], drafts: Sequence[Draft | Refusal], names: set[str], peer: str
) -> Sequence[Draft | Refusal]:
    """The drafts of these names, with a refusal in place of each for whose name no more can wait."""
    known = route.at_aws
    if known is None:
        return drafts
    limited: set[str] = set()
    too_many: set[str] = set()
    closed = 0
    for number, name in enumerate(names, 1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        if known.is_open(name, peer):
            continue
        closed += 1
        if closed > MAX_CLOSED_NAMES:
            too_many.add(name)
        elif known.has_share(name):
            limited.add(name)
    if too_many:
        drafts = [
            _too_many(route) if type(draft) is Draft and draft.name in too_many else draft for draft in drafts
        ]
    return await _refuse(route, drafts, limited, peer) if limited else drafts


def _too_many(route: Route[Any]) -> Refusal:
    message = (
        f"Target {route.name}: a request may bring events for at most {MAX_CLOSED_NAMES} names that are not "
        "verified yet; send fewer at once."
    )
    return Refusal(THROTTLING, message, SET_ASIDE_FULL)


async def _refuse(
    route: Route[Any], drafts: Sequence[Draft | Refusal], limited: set[str], peer: str
) -> Sequence[Draft | Refusal]:
    """Each name is judged together with what this very request brings for those before it."""
    wanted: dict[str, list[int]] = {}
    for place, draft in enumerate(drafts):
        if isinstance(draft, Draft) and draft.name in limited:
            wanted.setdefault(draft.name, []).append(place)
    results = list(drafts)
    events = size = 0
    for number, (name, places) in enumerate(wanted.items(), 1):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        more = sum(_memory(draft) for place in places if isinstance(draft := drafts[place], Draft))
        problem = route.queue.share_refusal(name, peer, events + len(places), size + more)
        if problem is None:
            events += len(places)
            size += more
        else:
            refusal = Refusal(THROTTLING, f"Target {route.name}: {problem}.", SET_ASIDE_FULL)
            for place in places:
                results[place] = refusal
    return results


def refuse_whole(results: Sequence[str | Refusal]) -> None:
    """Raise BadRequest (429) when every event of a request was refused for the share; they are counted."""
    first = results[0] if results else ""
    if isinstance(first, Refusal) and all(is_share_refusal(result) for result in results):
        raise BadRequest(429, first.code, first.message, reason=SET_ASIDE_FULL, events=0)


def is_share_refusal(result: str | Refusal) -> bool:
    return isinstance(result, Refusal) and result.reason == SET_ASIDE_FULL


def _memory(draft: Draft) -> int:
    """What the event will hold in memory, as the queue counts it."""
    size = EVENT_OVERHEAD_BYTES + len(draft.body)
    return size + len(draft.key) + GROUP_OVERHEAD_BYTES if draft.key else size
