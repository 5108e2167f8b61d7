"""Connections that begin with a TLS handshake, and are the server's own when it is done.

The loop's own server has one context for all, and tells nobody of a handshake that fails. So connections
are accepted plain, and taken from the loop before it reads from them.

Invariants:
- A connection counts from its first moment: one that never completes its handshake has its place until it
  is cut, and gives it back.
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

from forwarder.ingest.connections import Connection
from forwarder.metrics import SenderMetrics

SHUTDOWN_SECONDS = 5.0


class Handshakes:
    """``make`` a connection for each handshake. ``on_lost``: one failed, and its connection never was."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        patience: float,
        metrics: SenderMetrics,
        make: Callable[[], Connection],
        on_lost: Callable[[], None],
    ) -> None:
        self._context = context
        self._patience = patience
        self._metrics = metrics
        self._make = make
        self._on_lost = on_lost
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> asyncio.Protocol:
        """The protocol for a connection that was just accepted."""
        return _Accepted(self._start)

    def close(self) -> None:
        """Cut those that are not done."""
        for task in list(self._tasks):
            task.cancel()

    def _start(self, accepted: socket.socket) -> None:
        connection = self._make()
        task = asyncio.get_running_loop().create_task(self._shake(accepted, connection))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, accepted, connection))

    async def _shake(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=self._patience,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as problem:
            self._metrics.failed_handshakes[_reason(problem)] += 1

    def _ended(self, accepted: socket.socket, connection: Connection, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not connection.sender:  # it was never made, so nobody will tell that it is lost
            accepted.close()
            self._on_lost()


class _Accepted(asyncio.Protocol):
    """Hands its socket on, unread."""

    def __init__(self, start: Callable[[socket.socket], None]) -> None:
        self._start = start

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        accepted = socket.socket(fileno=os.dup(plain.get_extra_info("socket").fileno()))
        plain.abort()  # closes the loop's own descriptor, and not the connection
        accepted.setblocking(False)
        self._start(accepted)


def _reason(problem: OSError) -> str:
    if isinstance(problem, TimeoutError | ConnectionAbortedError):
        return "timeout"
    reason = getattr(problem, "reason", None) or ""
    return (
        "certificate" if "CERTIFICATE" in reason and "ALERT" not in reason else "other"
    )  # alerts are theirs
