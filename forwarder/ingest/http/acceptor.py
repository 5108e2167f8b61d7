"""The connections of the data listener together: who gets a place, and what they share.

Invariants:
- A connection without a place is answered with 503, as ``TurnedAway``; their number is bounded as well.
- Descriptors are left for admin, the storage and AWS, whatever is sent here.
- All connections share the time for parsing and what one turn of the loop may bring; what a peer sends ahead
  is leased of the budget.
- ``sweep``, about once a second, cuts off slow heads and unread answers.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import structlog
from aiohttp import web

from forwarder import descriptors
from forwarder.config import IngestConfig
from forwarder.ingest.budget import Budget, Lease
from forwarder.ingest.http.connections import Connection
from forwarder.ingest.http.handshakes import Handshakes
from forwarder.ingest.http.inflow import Inflow
from forwarder.ingest.http.seats import Holder, Seats
from forwarder.ingest.http.turned_away import MAX_TURNED_AWAY, Newcomer, TurnedAway
from forwarder.ingest.http.unparsed import Parsing, Unparsed
from forwarder.logs import limited
from forwarder.metrics import Metrics
from forwarder.model import Chance


class Acceptor:
    """``open`` it before anybody connects; ``accept`` makes the protocol of each connection.

    ``tls``: the context of connections that come now, None where they are plain.
    """

    def __init__(
        self,
        settings: IngestConfig,
        budget: Budget,
        metrics: Metrics,
        chance: Chance,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._http = metrics.http
        self._unbound = metrics.unbound
        self._chance = chance
        self._seats = Seats(settings.max_connections, time.monotonic)
        self._handshakes = tls and Handshakes(
            tls, settings.read_timeout, metrics.senders, self._new_connection, self._seats, self.turned_away
        )
        self._turned_away: set[TurnedAway] = set()
        self._most_turned_away = MAX_TURNED_AWAY
        self.unwritten: set[Connection] = set()
        self._inflow = Inflow(self.connections)
        self._parsing = Parsing()
        self._log = structlog.get_logger("ingest")

    def open(self, server: web.Server) -> None:
        """``server``: aiohttp's, which handles the requests."""
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._limit()

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._seats.taken

    def connections(self) -> list[Connection]:
        """Those that are past their handshake."""
        return [cast(Connection, each) for each in self._server.connections]

    def close(self) -> None:
        """Begin no further connection: handshakes end."""
        if self._handshakes is not None:
            self._handshakes.close()

    def cut_turned_away(self) -> None:
        """Wait no longer for those who were turned away to read that."""
        for other in list(self._turned_away):
            other.cut()

    def sweep(self, now: float) -> None:
        for each in self.connections():
            each.cut_when_slow(now - self._settings.read_timeout)
        for connection in list(self.unwritten):
            connection.cut_when_unread(now, self._settings.read_timeout)
        self._http.displaced_connections = self._seats.displaced
        if descriptors.are_used_up():
            self._http.descriptors_used_up += 1
            log = limited(self._log, "open files")
            log.error("open files limit reached", limit=descriptors.limit(), connections=self._seats.taken)

    def _limit(self) -> None:
        """Leave descriptors for admin, storage and AWS, whatever is sent here."""
        wanted, files = self._settings.max_connections, descriptors.limit()
        self._seats.limit = descriptors.for_connections(wanted, files)
        self._most_turned_away = min(MAX_TURNED_AWAY, (files - self._seats.limit) // 3)
        if files < (needed := descriptors.needed_for(wanted)):
            self._log.warning(
                "open files limit is too low for ingest.max_connections",
                limit=files,
                needed=needed,
                max_connections=wanted,
                used=self._seats.limit,
            )

    def accept(self) -> asyncio.Protocol:
        if self._handshakes is not None:
            return self._handshakes.begin()
        if self._seats.taken >= self._seats.limit:
            return Newcomer(self._choose)
        return self._new_connection()

    def _choose(self, peer: str) -> asyncio.Protocol:
        return self._new_connection() if self._seats.make_room(peer) else self.turned_away()

    def _new_connection(self, before: Holder | None = None) -> Connection:
        return Connection(
            self._server,
            self._loop,
            max_head=self._settings.max_header_bytes,
            keep_alive=self._settings.keep_alive,
            host=self,
            before=before,
        )

    # --- what connections need

    def seat(self, connection: Connection) -> bool:
        if connection.before is not None:  # it is the same connection
            self._seats.give_back(connection.before, connection.peer)
        return self._seats.take(connection, connection.peer)

    def lost(self, connection: Connection) -> None:
        self._seats.give_back(connection, connection.peer)

    def turned_away(self) -> TurnedAway:
        self._http.refused_connections += 1
        return TurnedAway(self._turned_away, self._chance, self._most_turned_away)

    def came(self, size: int, peer: str) -> None:
        self._inflow.came(size, peer)

    def has_time(self, peer: str, size: int) -> bool:
        return self._parsing.has_time(peer, size)

    def parse_later(self, unparsed: Unparsed) -> None:
        self._parsing.later(unparsed)

    def lease_ahead(self, peer: str, revoke: Callable[[], None]) -> Lease:
        lease = Lease(self._budget, peer)
        lease.revocable(revoke)
        return lease

    def malformed(self, status: int) -> None:
        self._http.malformed(status)
        if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            self._unbound.add_refused("invalid")

    def unread(self) -> None:
        self._http.unread_answers += 1
