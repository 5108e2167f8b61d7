"""Opening a listener: TCP, a unix socket that only its owner and group can use, or what we were given.

Invariants:
- The socket of a unix path is made again when something deletes it: nobody would get through any more.
- A socket that was given belongs to the giver: it is neither shut down nor its name removed, so that
  connections wait in it for whoever listens there next.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from forwarder.config import Listen
from forwarder.logs import limited
from forwarder.sockets import SocketFile, unix_socket, written

BACKLOG = 1024
SOCKET_MODE = 0o660

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """Accepts until it is closed. ``name``: of a unix socket of our own."""

    def __init__(self, server: asyncio.Server, factory: Factory, name: SocketFile | None = None) -> None:
        self.address = written(server.sockets[0].getsockname())
        self._server = server
        self._factory = factory
        self._name = name
        self._closed = False

    def close(self) -> None:
        """Accept no more; clients of a unix socket see at once that nobody listens."""
        self._closed = True
        self._server.close()
        if self._name is not None:
            self._name.remove()

    async def renew(self) -> None:
        """Listen again if the unix socket was deleted. Connections stay."""
        if self._name is None or self._name.is_there():
            return
        path = self._name.path
        try:
            again = await _listen_at(path, self._factory)
        except OSError as problem:
            say_not_renewed(path, problem)
            return
        if self._closed:  # meanwhile
            again.close()
            return
        self._server.close()
        self._server, self._name = again._server, again._name
        say_renewed(path)


async def listen(
    where: Listen, factory: Factory, given: socket.socket | None = None, *, reuse_port: bool = False
) -> Listener:
    """Start to accept; ``address`` is in the form of the configuration, with the real port."""
    loop = asyncio.get_running_loop()
    if given is not None:
        server = await loop.create_server(factory, sock=given, backlog=BACKLOG)
    elif where.socket_path is not None:
        return await _listen_at(Path(where.socket_path), factory)
    else:
        host, port = where.address
        server = await loop.create_server(factory, host, port, backlog=BACKLOG, reuse_port=reuse_port)
    return Listener(server, factory)


async def _listen_at(path: Path, factory: Factory) -> Listener:
    listening = unix_socket(path, SOCKET_MODE)
    server = await asyncio.get_running_loop().create_unix_server(factory, sock=listening, backlog=BACKLOG)
    return Listener(server, factory, SocketFile(path))


def say_renewed(path: Path) -> None:
    log = structlog.get_logger("sockets")
    limited(log, f"renewed {path}").warning("unix socket was deleted; made again", path=str(path))


def say_not_renewed(path: Path, problem: OSError) -> None:
    log = limited(structlog.get_logger("sockets"), f"not renewed {path}", every=60.0)
    log.error("unix socket was deleted and cannot be made again", path=str(path), error=str(problem))
