"""Connections that begin with a TLS handshake, and are the server's own when it is done.

Invariants:
- A connection counts from its first moment: one that never completes its handshake has its place until it
  is cut, and gives it back.
- Each uses the context that is in force when it comes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from forwarder.metrics import SenderMetrics

SHUTDOWN_SECONDS = 5.0


class Handshakes:
    """Makes protocols that become ``make()``'s. ``on_lost``: one of them ended before it was."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        patience: float,
        metrics: SenderMetrics,
        make: Callable[[], asyncio.Protocol],
        on_lost: Callable[[], None],
    ) -> None:
        self._context = context
        self._patience = patience
        self._metrics = metrics
        self._make = make
        self._on_lost = on_lost
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> asyncio.Protocol:
        return _Handshake(self._start)

    def close(self) -> None:
        """Cut those that are not done."""
        for task in list(self._tasks):
            task.cancel()

    def _start(self, transport: asyncio.Transport, waiting: _Handshake) -> None:
        task = asyncio.get_running_loop().create_task(self._shake(transport, waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _shake(self, transport: asyncio.Transport, waiting: _Handshake) -> None:
        """From here on exactly one is told of the end: ``on_lost``, or the connection that was made."""
        loop, secured = asyncio.get_running_loop(), None
        try:
            secured = await loop.start_tls(
                transport,
                waiting,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=self._patience,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        except OSError as problem:
            self._metrics.failed_handshakes[_reason(problem)] += 1
        finally:
            if secured is None or waiting.is_lost:
                transport.abort()
                self._on_lost()
        if secured is not None and not waiting.is_lost:
            waiting.hand_over(secured, self._make())


class _Handshake(asyncio.Protocol):
    """Waits for the handshake, and keeps what came right behind it."""

    def __init__(self, start: Callable[[asyncio.Transport, _Handshake], None]) -> None:
        self._start = start
        self._data: list[bytes] = []
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # the first byte is TLS's
        self._start(transport, self)

    def data_received(self, data: bytes) -> None:
        self._data.append(data)

    def connection_lost(self, problem: Exception | None) -> None:
        self.is_lost = True

    def hand_over(self, secured: asyncio.Transport, connection: asyncio.Protocol) -> None:
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._data:
            connection.data_received(b"".join(self._data))


def _reason(problem: OSError) -> str:
    if isinstance(problem, TimeoutError | ConnectionAbortedError):
        return "timeout"
    reason = getattr(problem, "reason", None) or ""
    return (
        "certificate" if "CERTIFICATE" in reason and "ALERT" not in reason else "other"
    )  # alerts are theirs
