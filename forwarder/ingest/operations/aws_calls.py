"""What the operations of the AWS wire have in common.

Invariants:
- A large call is read in slices: its entries are counted, then each is judged by its length before anything
  in it is.
- An answer about events that are ours has a status that no SDK tries again: 200, or for PutRumEvents 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from forwarder.apis import wire
from forwarder.ingest.bindings import A, Route
from forwarder.ingest.bounds import SMALL_BODY
from forwarder.ingest.dialects import aws
from forwarder.ingest.dialects.broken import BROKEN
from forwarder.ingest.errors import NOT_FOUND
from forwarder.ingest.operations.operation import Fates, Results
from forwarder.model import Refusal
from forwarder.receipts import DELIVERED, Receipt

EXPIRED = "EventExpired"

T = TypeVar("T")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T | None:
    """A small call that is as it should be, which nearly all are."""
    try:
        return decoder.decode(body) if len(body) <= SMALL_BODY else None
    except BROKEN:
        return None


def with_fates(results: Results, fates: Fates | None) -> Results:
    """The results with AWS's ids and refusals in place of ours, as far as they are known."""
    if not fates:
        return results
    return [_fate(result, fates.get(result)) if type(result) is str else result for result in results]


def _fate(id: str, receipt: Receipt | None) -> str | Refusal:
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
