"""The control listener: a unix socket in the storage directory that its owner alone can use; JSON in and out.

Invariants:
- What changes the state of a running daemon comes in here and nowhere else.
- A request does one bounded step, and is done to its end, whoever waits for the answer.
- Errors are JSON, name what is wrong, and say what is possible.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from forwarder.control.operations import Operations, Stopping, UnknownTarget
from forwarder.dead_letters import LettersFull, LettersGone, Wanted
from forwarder.json_errors import Handler, Problem, code_of, errors_as_json
from forwarder.listening import say_not_renewed, say_renewed
from forwarder.model import QueueFull, QueueUnavailable
from forwarder.queues.queue import Chosen
from forwarder.sockets import SocketFile, unix_socket
from forwarder.storage import StorageError
from forwarder.urls import (
    COUNT_LETTERS,
    COUNT_QUEUE,
    LISTENERS,
    PURGE_LETTERS,
    PURGE_QUEUE,
    TARGET_NAMES,
    operation_on,
)

MODE = 0o600
CLOSE_SECONDS = 5.0
MAX_BODY_BYTES = 64 << 10

_wanted = msgspec.json.Decoder(Wanted)
_chosen = msgspec.json.Decoder(Chosen)

_STATUS: dict[type[Exception], tuple[int, str]] = {
    UnknownTarget: (404, "UnknownTarget"),
    QueueFull: (429, "QueueFull"),
    QueueUnavailable: (503, "StorageUnavailable"),
    StorageError: (503, "StorageUnavailable"),
    LettersGone: (503, "TryAgain"),
    LettersFull: (409, "DeadLettersFull"),
    Stopping: (503, "Stopping"),
}


class ControlServer:
    """``start`` it once the storage's directory is ours; ``close`` it before the queues are.

    ``listeners``: the URLs of the daemon's other listeners, by name, with the ports in use.
    """

    def __init__(
        self, controls: Operations, path: Path, listeners: Callable[[], dict[str, list[str]]] = dict
    ) -> None:
        self.path = path
        self._listeners = listeners
        self._controls = controls
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite
        self._name: SocketFile

    async def start(self) -> None:
        """Listen; raises OSError when the path cannot be had.

        A socket that is there was left behind: only the owner of the storage's lock listens here.
        """
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(self.path.lstat().st_mode):
                self.path.unlink()
        listener = unix_socket(self.path, MODE)
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        await self._listen(runner, listener)
        self._runner = runner

    async def _listen(self, runner: web.AppRunner, listener: socket.socket) -> None:
        site, name = web.SockSite(runner, listener), SocketFile(self.path)
        try:
            await site.start()
        except BaseException:
            name.remove()
            listener.close()
            raise
        self._site, self._name = site, name

    async def renew(self) -> None:
        """Make the socket again if it was deleted: without it nobody can do anything to the daemon."""
        if self._runner is None or self._name.is_there():
            return
        before = self._site
        try:
            await self._listen(self._runner, unix_socket(self.path, MODE))
        except OSError as problem:
            say_not_renewed(self.path, problem)
            return
        say_renewed(self.path)
        await before.stop()

    async def close(self) -> None:
        """Finish what was begun, and take the socket away."""
        self._controls.stop()
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._name.remove()
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(
            middlewares=[errors_as_json("control", _explained, {})], client_max_size=MAX_BODY_BYTES
        )
        app.add_routes(
            [
                web.get(LISTENERS, self._tell_listeners),
                web.get(TARGET_NAMES, self._targets),
                web.post(operation_on("{target}", "pause"), self._does(self._controls.pause)),
                web.post(operation_on("{target}", "resume"), self._does(self._controls.resume)),
                web.post(operation_on("{target}", "flush"), self._flush),
                web.post(operation_on("{target}", "replay"), self._replay),
                web.post(operation_on("{target}", COUNT_QUEUE), self._count_queue),
                web.post(operation_on("{target}", PURGE_QUEUE), self._purge_queue),
                web.post(COUNT_LETTERS, self._count),
                web.post(PURGE_LETTERS, self._purge),
            ]
        )
        return app

    @staticmethod
    def _does(operation: Callable[[str], dict[str, Any]]) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            return _json(operation(request.match_info["target"]))

        return handle

    async def _flush(self, request: web.Request) -> web.Response:
        return _json(await self._controls.flush(request.match_info["target"]))

    async def _tell_listeners(self, _request: web.Request) -> web.Response:
        return _json(self._listeners())

    async def _targets(self, _request: web.Request) -> web.Response:
        return _json({"targets": self._controls.names})

    async def _replay(self, request: web.Request) -> web.Response:
        wanted = _wanted.decode(await request.read() or b"{}")
        return _json(await self._controls.replay(request.match_info["target"], wanted))

    async def _count_queue(self, request: web.Request) -> web.Response:
        chosen = _chosen.decode(await request.read() or b"{}")
        return _json(await self._controls.count_queue(request.match_info["target"], chosen))

    async def _purge_queue(self, request: web.Request) -> web.Response:
        chosen = _chosen.decode(await request.read() or b"{}")
        return _json(await self._controls.purge_queue(request.match_info["target"], chosen))

    async def _count(self, request: web.Request) -> web.Response:
        wanted = _wanted.decode(await request.read() or b"{}")
        return _json({"targets": await self._controls.count(wanted)})

    async def _purge(self, request: web.Request) -> web.Response:
        wanted = _wanted.decode(await request.read() or b"{}")
        return _json({"purged": await self._controls.purge(wanted)})


def _explained(request: web.Request, error: Exception) -> Problem | None:
    if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError)):
        known = Chosen if "/queue/" in request.path else Wanted
        fields = ", ".join(known.__struct_fields__)
        return Problem(400, "BadRequest", f"{error}; known fields: {fields}")
    for kind, (status, code) in _STATUS.items():
        if isinstance(error, kind):
            return Problem(status, code, str(error))
    if isinstance(error, web.HTTPException):
        return Problem(error.status, code_of(error), f"{request.method} {request.path}")
    return None


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")
