"""Connections that begin with a TLS handshake, and are the server's own when it is done.

The loop's own server has one context for all connections, and does not report failed handshakes. So
connections are accepted plain, and taken from the loop before it reads from them.

Invariants:
- A connection has its place from its first moment, and the handshake gives it back however it ends; the
  connection that comes of it takes it over.
- Each uses the context that is in force when it comes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import cast

import structlog

from forwarder.ingest.http.connections import SILENT_SECONDS, Connection
from forwarder.ingest.http.peers import peer_of_address, sender_of
from forwarder.ingest.http.seats import Holder, Seats
from forwarder.ingest.http.turned_away import TurnedAway, become
from forwarder.logs import limited
from forwarder.metrics import SenderMetrics
from forwarder.metrics.families import OTHER

SHUTDOWN_SECONDS = 5.0


class Handshakes:
    """``make`` a connection of each handshake. ``seats``: where each has its place until then."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        timeout: float,
        metrics: SenderMetrics,
        make: Callable[[Holder], Connection],
        seats: Seats,
        turned_away: Callable[[], TurnedAway],
    ) -> None:
        self._context = context
        self._timeout = timeout
        self._metrics = metrics
        self._make = make
        self._seats = seats
        self._turned_away = turned_away
        self._log = structlog.get_logger("ingest")
        self._all: set[_Handshake] = set()

    def begin(self) -> asyncio.Protocol:
        """The protocol for a connection that was just accepted."""
        return _Accepted(self._start)

    def close(self) -> None:
        """Cut those that are not done."""
        for handshake in list(self._all):
            handshake.leave()

    def _start(self, plain: asyncio.Transport) -> None:
        """Take the socket from the loop, if there is a place for it."""
        handshake = _Handshake(peer_of_address(sender_of(plain)))
        if not self._seats.take(handshake, handshake.peer):
            become(plain, self._turned_away())
            return
        try:
            accepted = socket.socket(fileno=os.dup(plain.get_extra_info("socket").fileno()))
        except OSError:
            self._seats.give_back(handshake, handshake.peer)
            raise
        plain.abort()  # closes the loop's own descriptor, and not the connection
        accepted.setblocking(False)
        connection = self._make(handshake)
        handshake.task = asyncio.get_running_loop().create_task(self._shake(accepted, connection))
        self._all.add(handshake)
        handshake.task.add_done_callback(partial(self._ended, handshake, accepted, connection))

    async def _shake(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as problem:
            self._metrics.failed_handshakes[_reason(problem)] += 1

    def _ended(
        self,
        handshake: _Handshake,
        accepted: socket.socket,
        connection: Connection,
        task: asyncio.Task[None],
    ) -> None:
        self._all.discard(handshake)
        self._seats.give_back(handshake, handshake.peer)
        if not connection.sender:  # it was never made, and is nobody's
            accepted.close()
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._metrics.failed_handshakes[OTHER] += 1
            log = limited(self._log, "TLS handshake")
            log.error("TLS handshake failed unexpectedly", exc_info=problem)


class _Handshake:
    """One that goes on, as the holder of a place."""

    __slots__ = ("_began", "peer", "task")

    def __init__(self, peer: str) -> None:
        self._began = asyncio.get_running_loop().time()
        self.peer = peer
        self.task: asyncio.Task[None] | None = None

    def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
        return (0, self._began) if fair or now - self._began >= SILENT_SECONDS else None

    def leave(self) -> None:
        if self.task is not None:
            self.task.cancel()


class _Accepted(asyncio.Protocol):
    """Hands its socket on, unread."""

    def __init__(self, start: Callable[[asyncio.Transport], None]) -> None:
        self._start = start

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        try:
            self._start(plain)
        except OSError:  # it was reset meanwhile, or descriptors are used up
            plain.abort()


def _reason(problem: OSError) -> str:
    if isinstance(problem, TimeoutError | ConnectionAbortedError):
        return "timeout"
    reason = getattr(problem, "reason", None) or ""
    return (
        "certificate" if "CERTIFICATE" in reason and "ALERT" not in reason else "other"
    )  # alerts are theirs
