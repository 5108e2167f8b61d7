"""Opening the listener: TCP, or a unix socket that only its owner and group can use."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forwarder.config import Listen
from forwarder.sockets import unix_socket

BACKLOG = 1024
SOCKET_MODE = 0o660

Factory = Callable[[], asyncio.Protocol]


async def listen(where: Listen, factory: Factory) -> tuple[asyncio.AbstractServer, str]:
    """Start to accept; the server, and the address in the form of the configuration with the real port."""
    loop = asyncio.get_running_loop()
    path = where.socket_path
    if path is not None:
        listener = unix_socket(Path(path), SOCKET_MODE)
        return await loop.create_unix_server(factory, sock=listener, backlog=BACKLOG), where
    host, port = where.address
    server = await loop.create_server(factory, host, port, backlog=BACKLOG)
    return server, _address(server.sockets[0])


def remove_socket(where: Listen) -> None:
    """Take a unix socket's name away, so that clients see at once that nobody listens."""
    if where.socket_path is not None:
        with suppress(OSError):  # a broken disk keeps it; the next start replaces it
            Path(where.socket_path).unlink(missing_ok=True)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
