"""Opening a listener: TCP, a unix socket that only its owner and group can use, or what we were given.

Invariants:
- A socket that was given belongs to the giver: it is neither shut down nor its name removed, so that
  connections wait in it for whoever listens there next.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from forwarder.config import Listen
from forwarder.sockets import unix_socket, written

BACKLOG = 1024
SOCKET_MODE = 0o660

Factory = Callable[[], asyncio.Protocol]


class Listener(NamedTuple):
    """Accepts until it is closed. ``path``: of a unix socket of our own."""

    server: asyncio.AbstractServer
    address: str
    path: Path | None

    def close(self) -> None:
        """Accept no more; clients of a unix socket see at once that nobody listens."""
        self.server.close()
        if self.path is not None:
            with suppress(OSError):  # a broken disk keeps it; the next start replaces it
                self.path.unlink(missing_ok=True)


async def listen(
    where: Listen, factory: Factory, given: socket.socket | None = None, *, reuse_port: bool = False
) -> Listener:
    """Start to accept; ``address`` is in the form of the configuration, with the real port."""
    loop = asyncio.get_running_loop()
    path = None
    if given is not None:
        server = await loop.create_server(factory, sock=given, backlog=BACKLOG)
    elif where.socket_path is not None:
        path = Path(where.socket_path)
        server = await loop.create_unix_server(factory, sock=unix_socket(path, SOCKET_MODE), backlog=BACKLOG)
    else:
        host, port = where.address
        server = await loop.create_server(factory, host, port, backlog=BACKLOG, reuse_port=reuse_port)
    return Listener(server, written(server.sockets[0].getsockname()), path)
