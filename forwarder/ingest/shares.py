"""Events that would wait for a name nobody knows to exist: refused one by one once their share is used up.

Invariants:
- Only names that are not open and have a share are asked about, once each; all other events cost one look-up
  per name.
- A refused event costs its neighbours nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forwarder.ingest.bindings import Route
from forwarder.ingest.dialects.errors import THROTTLING
from forwarder.model import EVENT_OVERHEAD_BYTES, GROUP_OVERHEAD_BYTES, Draft, Refusal

SET_ASIDE_FULL = "set_aside_full"


def within_share(
    route: Route[Any], drafts: Sequence[Draft | Refusal], peer: str
) -> Sequence[Draft | Refusal]:
    """The drafts, with a refusal in place of each for whose name no more can wait."""
    known = route.at_aws
    if known is None:
        return drafts
    names = {draft.name for draft in drafts if isinstance(draft, Draft)}
    names.discard("")
    limited = {name for name in names if not known.is_open(name, peer) and known.has_share(name)}
    if not limited:
        return drafts
    return _refuse(route, drafts, limited, peer)


def _refuse(
    route: Route[Any], drafts: Sequence[Draft | Refusal], limited: set[str], peer: str
) -> Sequence[Draft | Refusal]:
    """What fits is judged together with what this very request brings for the other names."""
    wanted: dict[str, list[int]] = {}
    for place, draft in enumerate(drafts):
        if isinstance(draft, Draft) and draft.name in limited:
            wanted.setdefault(draft.name, []).append(place)
    results = list(drafts)
    events = size = 0
    for name, places in wanted.items():
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


def _memory(draft: Draft) -> int:
    """What the event will hold in memory, as the queue counts it."""
    size = EVENT_OVERHEAD_BYTES + len(draft.body)
    return size + len(draft.key) + GROUP_OVERHEAD_BYTES if draft.key else size


def is_share_refusal(refusal: Refusal) -> bool:
    return refusal.reason == SET_ASIDE_FULL
