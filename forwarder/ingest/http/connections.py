"""Connections: a place for each, and answers until the socket has taken them.

``incoming.py`` has the other half: bytes until they are a request.

Invariants:
- At most ``max_connections`` are served. When all are in use, an idle one is closed for the new one
  (``Seats``). If none may be closed, the new one is answered with 503 and closed.
- An answer's lease lasts until the socket has taken all of it. A peer that reads nothing of it for
  ``read_timeout`` is cut off. The next request of the connection begins only after that.
- An idle connection holds nothing of its last request and answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

from aiohttp import web

from forwarder.ingest.budget import Lease
from forwarder.ingest.http.incoming import Incoming, Reader
from forwarder.ingest.http.manners import Manners
from forwarder.ingest.http.peers import peer_of_address, peer_of_certificate, sender_of
from forwarder.ingest.http.seats import Holder
from forwarder.ingest.http.turned_away import TOO_MANY, TurnedAway, become, raw_answer

SILENT_SECONDS = 5.0
"""For so long a connection may say nothing before it goes when others of its own peer wait."""


class Host(Reader, Protocol):
    """What a connection needs of the server, beside what reading does.

    ``unwritten``: those whose socket has not taken all of an answer.
    """

    unwritten: set[Connection]

    def seat(self, connection: Connection) -> bool:
        """A place for it; False when it must be turned away."""

    def lost(self, connection: Connection) -> None: ...

    def turned_away(self) -> TurnedAway: ...

    def unread(self) -> None:
        """An answer was given up that its peer did not read."""


class Connection(Incoming):
    """One of the data listener's, from its first byte to its last."""

    __slots__ = (
        "_host",
        "_made_at",
        "_unread",
        "_unread_since",
        "_wait_end",
        "before",
        "lease",
        "manners",
        "pieces",
        "proven_peer",
        "sender",
    )

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head: int,
        keep_alive: float,
        host: Host,
        before: Holder | None = None,
    ) -> None:
        super().__init__(server, loop, max_head=max_head, keep_alive=keep_alive, reader=host)
        self.before = before  # what had this connection's place until now: its TLS handshake
        self._host = host
        self.sender = ""
        self.proven_peer = ""  # of a client certificate
        self.lease: Lease | None = None  # of the request that is being handled, until its answer is written
        self.pieces = 0  # of answers that were written in pieces
        self.manners = Manners()
        self._wait_end: Callable[[], None] | None = None
        self._made_at = 0.0
        self._unread = (0, 0)
        self._unread_since = 0.0

    @contextmanager
    def waits(self, end: Callable[[], None]) -> Iterator[None]:
        """Within this block a request waits for something; ``end`` is called when nobody is left to tell."""
        self._wait_end = end
        if self.is_lost:
            end()
        try:
            yield
        finally:
            self._wait_end = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        try:
            self.sender = sender_of(transport)
            self.peer = peer_of_address(self.sender)
            self.proven_peer = peer_of_certificate(transport.get_extra_info("peercert"))
            if not self._host.seat(self):
                become(wire, self._host.turned_away())
                return
            self._made_at = self.loop.time()
            wire.set_write_buffer_limits(
                high=1, low=0
            )  # so that an answer is written when its coroutine ends
            super().connection_made(transport)
        except OSError:  # it was reset meanwhile
            wire.abort()
            self._host.lost(self)
        except BaseException:
            wire.abort()
            self._host.lost(self)
            raise

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True
        if self._wait_end is not None:
            self._wait_end()
        self._host.lost(self)
        self._host.unwritten.discard(self)
        super().connection_lost(exc)
        if not self.in_progress:
            self.end_lease()

    # --- its answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """aiohttp writes the answer here. When it returns the socket has taken all of it, or never will."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if self.lease is not None and not self._unwritten():
                self.end_lease()
            self.forget_body()

    def pause_writing(self) -> None:
        """The socket did not take all of an answer."""
        super().pause_writing()
        self._host.unwritten.add(self)

    def resume_writing(self) -> None:
        self._host.unwritten.discard(self)
        self._unread = 0, 0
        super().resume_writing()

    def _unwritten(self) -> int:
        if self.wire is None or self.is_lost:
            return 0
        try:
            return self.wire.get_write_buffer_size()
        except AttributeError:  # asyncio's, over TLS, once it is closed
            return 0

    def end_lease(self) -> None:
        if self.lease is not None:
            self.lease.end()
            self.lease = None

    def cut_when_unread(self, now: float, timeout: float) -> None:
        """Cut off a peer that took nothing of an answer for so long. Ask about once a second."""
        unwritten = self._unwritten()
        if (unwritten, self.pieces) != self._unread:
            self._unread, self._unread_since = (unwritten, self.pieces), now
            if self.lease is not None:
                self.lease.revocable(None)
        elif now - self._unread_since >= timeout:
            self._cut_off()
        elif self.lease is not None:
            self.lease.revocable(self._cut_off)

    def _cut_off(self) -> None:
        if self.wire is not None:
            self._host.unread()
            self.wire.abort()

    # --- its place

    def may_leave(self, now: float, fair: bool) -> tuple[int, float] | None:
        """Whether it may be closed for another (see ``Seats``)."""
        if self.is_lost:
            return None
        if not self.spoke:
            return (0, self._made_at) if fair or now - self._made_at >= SILENT_SECONDS else None
        if self.is_at_rest:
            return 0, self.idle_until
        if not fair:
            return None
        if self.is_coming:
            return 1, self.head_since
        return (2, self.head_since) if self._wait_end is not None else None

    def leave(self) -> None:
        """Close for another's sake: at once, or after an answer that is given now instead of later."""
        if self._wait_end is not None:
            self.ended = True
            self._wait_end()
        elif self.wire is not None:
            if self.head_bytes:  # it gets no time to read this: descriptors may be short
                self._host.malformed(TOO_MANY.status)
                self.wire.write(raw_answer(TOO_MANY))
            self.force_close()
            if not self.head_bytes:
                self.wire.abort()

    def hang_up(self) -> None:
        """Close now, or after the request that is being handled.

        aiohttp's ``close`` leaves an idle one open and deaf: who sends on it waits until the process ends.
        """
        if self.is_idle:
            self.force_close()
        else:
            self.close()
