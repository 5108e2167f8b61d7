"""Opening the listener: TCP, or a unix socket that only its owner and group can use."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from forwarder.config import Listen

BACKLOG = 1024
SOCKET_MODE = 0o660

Factory = Callable[[], asyncio.Protocol]


async def listen(where: Listen, factory: Factory) -> tuple[asyncio.AbstractServer, str]:
    """Start to accept; the server, and the address in the form of the configuration with the real port."""
    loop = asyncio.get_running_loop()
    path = where.socket_path
    if path is not None:
        return await loop.create_unix_server(factory, sock=_unix_socket(Path(path)), backlog=BACKLOG), where
    host, port = where.address
    server = await loop.create_server(factory, host, port, backlog=BACKLOG)
    return server, _address(server.sockets[0])


def remove_socket(where: Listen) -> None:
    """Take a unix socket's name away, so that clients see at once that nobody listens."""
    if where.socket_path is not None:
        Path(where.socket_path).unlink(missing_ok=True)


def _unix_socket(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~SOCKET_MODE)  # so that there is no moment with a wider mode
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove what a killed process left behind; never a file, never a socket that somebody listens at."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there already, and not a socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there already", str(path))


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
