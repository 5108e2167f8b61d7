"""The undocumented members of aiohttp that the listeners need: all of them stand here, under our names.

aiohttp's documented interface bounds neither what is pipelined nor how a body is buffered, and does not say
whether a connection is idle. The bounds of the data listener depend on that.

Invariants:
- No other file uses a member of aiohttp that begins with an underscore; a test looks for them.
- The daemon asks ``problem`` before it listens, and does not start where a bound would not hold.
- What only saves something falls back: without ``_http_chunk_splits`` there is nothing to forget, and without
  ``_version`` the documented ``version`` is read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from aiohttp import HttpVersion, StreamReader, web
from aiohttp.streams import EMPTY_PAYLOAD

from forwarder.members import Form, changed_methods, is_none_or, missing

TESTED = "3.14.5"
"""The release of aiohttp that all tests passed with; ``make newest`` tests newer ones."""
ALLOWED = "aiohttp>=3.14.5,<3.15"
"""As in ``dependencies`` of pyproject.toml."""

_STATE: dict[str, Form] = {
    "_buffer_paused": bool,
    "_close": bool,
    "_messages": deque,
    "_next_keepalive_close_time": float,
    "_reading_paused": bool,
    "_request_in_progress": bool,
    "_waiter": is_none_or(asyncio.Future),
}
_METHODS: dict[str, tuple[str, ...]] = {
    "_pause_reading_for_buffer": (),
    "_pause_transport_reading": (),
    "_resume_reading_if_drained": (),
}
_HOOKS: dict[str, tuple[str, ...]] = {
    "_resume_transport_reading": (),
    "finish_response": ("request", "resp", "start_time"),
    "handle_error": ("request", "status", "exc", "message"),
    "resume_reading": ("resume_parser",),
}
"""Methods of aiohttp that connections override."""
_BODY: dict[str, Form] = {"_buffer": deque, "_buffer_offset": int, "_exception": is_none_or(BaseException)}


class HttpConnection(web.RequestHandler):
    """aiohttp's server side of a connection, with what bounds need of it."""

    __slots__ = ("loop",)

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head: int,
        keep_alive: float,
        linger: float,
    ) -> None:
        super().__init__(server, loop=loop, **_options(max_head, keep_alive, linger))
        self.loop = loop

    @property
    def is_closing(self) -> bool:
        """No further request is read."""
        return self._close

    @property
    def is_idle(self) -> bool:
        """It waits for a request."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def idle_until(self) -> float:
        """When it is closed if it stays idle."""
        return self._next_keepalive_close_time

    @property
    def in_progress(self) -> bool:
        """Between the start of a request's handler and the end of its answer."""
        return self._request_in_progress

    @property
    def queued(self) -> deque[tuple[Any, StreamReader]]:
        """Requests that are parsed and not begun, with their bodies; a new one is appended."""
        return self._messages

    @property
    def body_is_full(self) -> bool:
        """Reading paused for a body that is not read."""
        return self._reading_paused

    @property
    def queue_is_full(self) -> bool:
        """Reading paused for requests that wait their turn."""
        return self._buffer_paused

    @property
    def is_full(self) -> bool:
        """aiohttp holds as much as it may."""
        return self._reading_paused or self._buffer_paused

    def pause_socket(self) -> None:
        self._pause_transport_reading()

    def resume_socket(self) -> None:
        """Unless ``may_resume`` says no."""
        self._resume_transport_reading()

    def pause_for_queued(self) -> None:
        """Read nothing until ``resume_for_queued``."""
        self._pause_reading_for_buffer()

    def resume_for_queued(self) -> None:
        self._resume_reading_if_drained()

    def may_resume(self) -> bool:
        """Asked whenever aiohttp is about to read from the socket again."""
        return True

    def _resume_transport_reading(self) -> None:
        if self.may_resume():
            super()._resume_transport_reading()


def _options(max_head: int, keep_alive: float, linger: float) -> dict[str, Any]:
    return {
        "max_line_size": max_head,
        "max_field_size": max_head,
        "keepalive_timeout": keep_alive,
        "auto_decompress": False,
        "lingering_time": linger,
        "access_log": None,
    }


def is_in_progress(connection: web.RequestHandler) -> bool:
    """Whether a connection of any server handles a request."""
    return connection._request_in_progress


# --- bodies


def join_chunks(body: StreamReader, most: int) -> None:
    """Make one chunk of more than ``most``, and forget where each of them ended: nobody asks for that."""
    if body is EMPTY_PAYLOAD or len(body._buffer) <= most:
        return
    whole = b"".join(body._buffer)[body._buffer_offset :]
    body._buffer_offset = 0
    body._buffer.clear()
    body._buffer.append(whole)
    if splits := getattr(body, "_http_chunk_splits", None):
        splits.clear()


def forget_chunks(body: StreamReader) -> None:
    """Let go of what was not read."""
    if body is not EMPTY_PAYLOAD:
        body._buffer.clear()


def forget_exception(body: StreamReader) -> None:
    """Reading the body raises no longer what ``set_exception`` was given."""
    body._exception = None


# --- requests


def version_of(request: web.BaseRequest) -> HttpVersion:
    """The request's ``version``, which would be remembered with the request."""
    found: HttpVersion | None = getattr(request, "_version", None)
    return request.version if found is None else found


def answer_with(request: web.BaseRequest, version: HttpVersion) -> None:
    """Have the answer claim this version; the request's own where that cannot be set."""
    if hasattr(request, "_version"):
        request._version = version


# --- the check at start


def problem(
    loop: asyncio.AbstractEventLoop,
    connections: type[web.RequestHandler] = web.RequestHandler,
    bodies: type[StreamReader] = StreamReader,
) -> str:
    """Why the data listener cannot work with the aiohttp that is installed, in a sentence; "" if it can."""
    found = "; ".join(_problems(loop, connections, bodies))
    if not found:
        return ""
    return (
        f"aiohttp {version('aiohttp')} cannot be used: {found}. The daemon was tested with aiohttp {TESTED}. "
        f"Install {ALLOWED}"
    )


def _problems(
    loop: asyncio.AbstractEventLoop, connections: type[web.RequestHandler], bodies: type[StreamReader]
) -> list[str]:
    callers = (*connections.__mro__, *bodies.__mro__)
    found = [*changed_methods(connections, _METHODS), *changed_methods(connections, _HOOKS, callers)]
    try:
        connection = connections(web.Server(_handle), loop=loop, **_options(8190, 75.0, 3.0))
        body = bodies(connection, 2**16, loop=loop)
    except (AttributeError, TypeError) as error:
        return [*found, f"{connections.__name__} or {bodies.__name__} cannot be created: {error}"]
    found += [*missing(connection, _STATE), *missing(body, _BODY)]
    return found or [*_unlike(body)]


def _unlike(body: StreamReader) -> Iterator[str]:
    """All members are there: whether a body is where we look for it."""
    body.feed_data(b"a")
    body.feed_data(b"b")
    join_chunks(body, 1)
    if len(body._buffer) != 1 or body.read_nowait() != b"ab":
        yield f"{type(body).__name__} has no member _buffer for the body"


async def _handle(_request: web.BaseRequest) -> web.StreamResponse:
    raise web.HTTPNotFound
