"""What the calls of the AWS operations have in common: how they are read, and how they are answered.

Invariants:
- An answer about events that are ours has a status that no SDK tries again: 200, or for RUM 400.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from forwarder.apis import wire
from forwarder.ingest.bindings import A, Route
from forwarder.ingest.dialects import aws
from forwarder.ingest.dialects.bounds import (
    SMALL_BODY,
)
from forwarder.ingest.dialects.broken import BROKEN
from forwarder.ingest.dialects.errors import INTERNAL, NOT_FOUND, THROTTLING, BadRequest
from forwarder.ingest.operations import Fates, Results
from forwarder.model import Draft, Refusal
from forwarder.receipts import DELIVERED, Receipt

INVALID_ARGUMENT = "InvalidArgument"
EXPIRED = "EventExpired"
T = TypeVar("T")
_ENTRY_CODES = {429: THROTTLING, 503: INTERNAL}
"""By the status a whole request would get: the codes of entries that AWS's clients try again."""


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T | None:
    """A small call that is as it should be, which nearly all are."""
    try:
        return decoder.decode(body) if len(body) <= SMALL_BODY else None
    except BROKEN:
        return None


def told(results: Results, fates: Fates | None) -> Results:
    """The results with AWS's ids and refusals in place of ours, as far as they are known."""
    if not fates:
        return results
    return [fate(result, fates.get(result)) if type(result) is str else result for result in results]


def fate(id: str, receipt: Receipt | None) -> str | Refusal:
    if receipt is None:
        return id
    if receipt.fate == DELIVERED:
        return receipt.aws_id or id
    # a code that SDKs do not try again, whatever was AWS's last word about an event that is too old
    code = EXPIRED if receipt.fate == "expired" else receipt.code
    return Refusal(code, receipt.message)


def bound(place: Route[A] | Refusal) -> Route[A]:
    if isinstance(place, Refusal):
        raise aws.refused(place, 404 if place.code == NOT_FOUND else 400)
    return place


def region_of(headers: Mapping[str, str]) -> str | None:
    """The region a request was signed for."""
    authorization = headers.get("Authorization")
    return wire.region_of_scope(authorization) if authorization is not None else None


def instead(problem: BadRequest, draft: Draft | Refusal) -> Refusal:
    """What an entry is told when its target took none of them."""
    if isinstance(draft, Refusal):
        return draft
    code = _ENTRY_CODES.get(problem.status, INVALID_ARGUMENT)
    return Refusal(code, problem.message, problem.reason)


def worst(problems: Sequence[BadRequest]) -> BadRequest:
    """One answer for a call of which nothing was taken; its entries are counted. 429, 503: try again."""
    problem = max(problems, key=lambda problem: problem.status)
    problem.events = 0
    return problem
