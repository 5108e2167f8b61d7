"""Opening a listener: TCP, a unix socket that only its owner and group can use, or what we were given.

Invariants:
- The socket of a unix path is made again when something deletes it: nobody would get through any more.
- A socket that was given belongs to the giver: it is neither shut down nor its name removed, so that
  connections wait in it for whoever listens there next.
- A turn of the event loop accepts up to ``MOST_ACCEPTED`` connections. uvloop accepts one, so that a
  sender with a thousand connections would keep the next sender out for a thousand turns.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from forwarder.config import Listen
from forwarder.logs import limited
from forwarder.sockets import SocketFile, unix_socket, written

BACKLOG = 1024
SOCKET_MODE = 0o660
MOST_ACCEPTED = 64

Factory = Callable[[], asyncio.Protocol]


class Backlog:
    """The factory that an event loop calls for a connection: it accepts the others that wait as well."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def __call__(self) -> asyncio.Protocol:
        protocol = self.factory()
        with suppress(OSError):  # no more wait, or no descriptor is left
            for listening in self._listening:
                self._accept(listening)
        return protocol

    def begin(self, server: asyncio.Server) -> None:
        self._listening = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
        for each in self._listening:
            each.setblocking(False)

    def end(self) -> None:
        for each in self._listening:
            each.close()
        self._listening.clear()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(MOST_ACCEPTED - 1):
                accepted, _ = listening.accept()
                accepted.setblocking(False)
                task = self._loop.create_task(self._serve(accepted))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self.factory, accepted)
        except OSError:  # it was reset meanwhile
            accepted.close()


class Listener:
    """Accepts until it is closed. ``name``: of a unix socket of our own."""

    def __init__(self, server: asyncio.Server, backlog: Backlog, name: SocketFile | None = None) -> None:
        self.address = written(server.sockets[0].getsockname())
        self._server = server
        self._backlog = backlog
        self._name = name
        self._closed = False
        backlog.begin(server)

    def close(self) -> None:
        """Accept no more; clients of a unix socket see at once that nobody listens."""
        self._closed = True
        self._backlog.end()
        self._server.close()
        if self._name is not None:
            self._name.remove()

    async def renew(self) -> None:
        """Listen again if the unix socket was deleted. Connections stay."""
        if self._name is None or self._name.is_there():
            return
        path = self._name.path
        try:
            again = await _listen_at(path, self._backlog.factory)
        except OSError as problem:
            say_not_renewed(path, problem)
            return
        if self._closed:  # meanwhile
            again.close()
            return
        self._backlog.end()
        self._server.close()
        self._server, self._backlog, self._name = again._server, again._backlog, again._name
        say_renewed(path)


async def listen(
    where: Listen, factory: Factory, given: socket.socket | None = None, *, reuse_port: bool = False
) -> Listener:
    """Start to accept; ``address`` is in the form of the configuration, with the real port."""
    loop, backlog = asyncio.get_running_loop(), Backlog(factory)
    if given is not None:
        server = await loop.create_server(backlog, sock=given, backlog=BACKLOG)
    elif where.socket_path is not None:
        return await _listen_at(Path(where.socket_path), factory)
    else:
        host, port = where.address
        server = await loop.create_server(backlog, host, port, backlog=BACKLOG, reuse_port=reuse_port)
    return Listener(server, backlog)


async def _listen_at(path: Path, factory: Factory) -> Listener:
    listening, backlog = unix_socket(path, SOCKET_MODE), Backlog(factory)
    server = await asyncio.get_running_loop().create_unix_server(backlog, sock=listening, backlog=BACKLOG)
    return Listener(server, backlog, SocketFile(path))


def say_renewed(path: Path) -> None:
    log = structlog.get_logger("sockets")
    limited(log, f"renewed {path}").warning("unix socket was deleted; made again", path=str(path))


def say_not_renewed(path: Path, problem: OSError) -> None:
    log = limited(structlog.get_logger("sockets"), f"not renewed {path}", every=60.0)
    log.error("unix socket was deleted and cannot be made again", path=str(path), error=str(problem))
