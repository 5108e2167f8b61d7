"""Requests whose answer waits for AWS's word: who asked for it, for how long, and what it holds meanwhile.

Invariants:
- A wait begins when its events are ours; from there on no answer makes a sender send them again.
- While it waits a request holds no body: of its lease only what its ids, fates and answer need.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from forwarder.ingest.bindings import Route
from forwarder.ingest.budget import Lease
from forwarder.ingest.http.connections import Connection
from forwarder.receipts import MAX_WAIT_SECONDS, Receipt, Receipts, Wait

WATCHED_EVENT_BYTES = 700
"""An event's id, its places in the wait and in the register, its fate with AWS's id, and its result."""

PREFER, APPLIED, ACK = "Prefer", "Preference-Applied", "x-forwarder-ack"
_PREFERENCE = re.compile(r'(?:^|,)\s*wait\s*=\s*"?([0-9]+)"?\s*(?=[,;]|$)', re.IGNORECASE).search


def preferred_wait(headers: Mapping[str, str]) -> int:
    """Seconds by ``Prefer: wait=N`` (RFC 7240), cut to what is possible; 0 when it says nothing of it."""
    said = headers.get(PREFER)
    found = _PREFERENCE(said) if said is not None else None
    if found is None:
        return 0
    digits = found[1].lstrip("0")
    return int(MAX_WAIT_SECONDS) if len(digits) > 2 else min(int(digits or "0"), int(MAX_WAIT_SECONDS))


class Waiting:
    """One request's wish for AWS's word, ``preferred`` by itself or configured for its target."""

    __slots__ = ("_lease", "_preferred", "_seconds", "_wait")

    def __init__(self, receipts: Receipts, lease: Lease, preferred: int, configured: float) -> None:
        self._wait = Wait(receipts)
        self._lease = lease
        self._preferred = preferred
        self._seconds = preferred or configured

    def watch(self, route: Route[Any], ids: Sequence[str]) -> None:
        """Before the put. BadRequest: there is no memory to wait for so many."""
        if self._preferred or route.ack_timeout:
            self._lease.take(len(ids) * WATCHED_EVENT_BYTES)
            self._wait.watch(ids)

    def forget(self, ids: Sequence[str]) -> None:
        self._wait.forget(ids)

    async def fates(self, connection: Connection) -> Mapping[str, Receipt] | None:
        """By event id, what is known when the wait ends; None when there was nothing to wait for."""
        if not self._wait.events:
            return None
        self._lease.keep(self._wait.events * WATCHED_EVENT_BYTES + self._lease.answer)
        with connection.waits(self._wait.end):
            return await self._wait.fates(0.0 if connection.is_lost else self._seconds)

    def headers(self, *, known: bool) -> dict[str, str]:
        """What the answer says about the wait; ``known``: it has every event's fate."""
        said = {ACK: "delivered" if known else "queued"}
        if self._preferred:
            said[APPLIED] = f"wait={self._preferred}"
        return said

    def close(self) -> None:
        self._wait.close()
