"""Refuses events for names that are not known to exist, one by one, once their share of the queue is used up.

Invariants:
- Only names that are not open and have a share are asked about, once each; other events cost a look-up per
  name.
- A refused event costs its neighbours nothing.
- However many names and events a request has, they are looked at in steps, for ``Work`` to pause between.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from forwarder.ingest.bindings import Route
from forwarder.ingest.errors import THROTTLING, BadRequest
from forwarder.model import EVENT_OVERHEAD_BYTES, GROUP_OVERHEAD_BYTES, Draft, Refusal

T = TypeVar("T")
Steps = Generator[None, None, T]

SET_ASIDE_FULL = "set_aside_full"
STEP_EVENTS, STEP_NAMES = 1_000, 100
"""Events and names that are looked at in one step. The queue may be asked about each name."""

MAX_CLOSED_NAMES = 1_000
"""Names of one request that are not open: on the disk each has a row for itself."""


def names_in(drafts: Sequence[Draft | Refusal]) -> set[str]:
    """The names that must exist at AWS; mostly none."""
    names = {draft.name for draft in drafts if type(draft) is Draft}
    names.discard("")
    return names


def within_share(
    route: Route[Any], drafts: Sequence[Draft | Refusal], names: set[str], peer: str
) -> Steps[Sequence[Draft | Refusal]]:
    """The drafts of these names, with a refusal in place of each for whose name no more can wait."""
    known = route.at_aws
    if known is None:
        return drafts
    too_many = _too_many(route)
    refused: dict[str, Refusal] = {}
    limited: set[str] = set()
    closed = 0
    for number, name in enumerate(names, 1):
        if number % STEP_NAMES == 0:
            yield
        if known.is_open(name, peer):
            continue
        closed += 1
        if closed > MAX_CLOSED_NAMES:
            refused[name] = too_many
        elif known.has_share(name):
            limited.add(name)
    if limited:
        refused |= yield from _without_room(route, drafts, limited, peer)
    return (yield from _with_refusals(drafts, refused)) if refused else drafts


def _too_many(route: Route[Any]) -> Refusal:
    message = (
        f"Target {route.name}: a request may bring events for at most {MAX_CLOSED_NAMES} names that are not "
        "verified yet; send fewer at once."
    )
    return Refusal(THROTTLING, message, SET_ASIDE_FULL)


def _without_room(
    route: Route[Any], drafts: Sequence[Draft | Refusal], limited: set[str], peer: str
) -> Steps[dict[str, Refusal]]:
    """By name: why no more can wait. A name is judged with what the request brings for those before it."""
    wanted: dict[str, tuple[int, int]] = {}
    for start in range(0, len(drafts), STEP_EVENTS):
        for draft in drafts[start : start + STEP_EVENTS]:
            if type(draft) is Draft and draft.name in limited:
                count, held = wanted.get(draft.name, (0, 0))
                wanted[draft.name] = count + 1, held + _memory(draft)
        yield
    refused: dict[str, Refusal] = {}
    events = size = 0
    for number, (name, (count, held)) in enumerate(wanted.items(), 1):
        if number % STEP_NAMES == 0:
            yield
        problem = route.queue.share_refusal(name, peer, events + count, size + held)
        if problem is None:
            events += count
            size += held
        else:
            refused[name] = Refusal(THROTTLING, f"Target {route.name}: {problem}.", SET_ASIDE_FULL)
    return refused


def _with_refusals(
    drafts: Sequence[Draft | Refusal], refused: dict[str, Refusal]
) -> Steps[Sequence[Draft | Refusal]]:
    """Each draft, or the refusal of its name."""
    results: list[Draft | Refusal] = []
    for start in range(0, len(drafts), STEP_EVENTS):
        some = drafts[start : start + STEP_EVENTS]
        results += [refused.get(draft.name, draft) if type(draft) is Draft else draft for draft in some]
        yield
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
