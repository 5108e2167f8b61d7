"""Opening a listener: TCP, unix sockets that only their owner and group can use, or what we were given.

Invariants:
- A listener has all its addresses or none: what was opened before one that fails is closed again.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from forwarder import descriptors
from forwarder.addresses import Listen, Listens
from forwarder.logs import limited
from forwarder.sockets import SocketFile, format_address, tcp_sockets, unix_socket

BACKLOG = 1024
SOCKET_MODE = 0o660
MOST_ACCEPTED = 64
FEW_LEFT_SECONDS = 1.0
"""Once half of the descriptors are in use, a turn accepts one connection again for so long."""

Factory = Callable[[], asyncio.Protocol]


class CannotListen(OSError):
    """An address cannot be had. ``place``: its index and text, after the name of the setting."""

    def __init__(self, place: str, problem: OSError) -> None:
        super().__init__(problem.errno, problem.strerror or str(problem))
        self.place = place

    def __str__(self) -> str:
        return f"{self.place.strip()}: {self.strerror}"


class Backlog:
    """The factory that an event loop calls for a connection: it accepts the others that wait as well.

    So ``factory`` may be called for several connections before the first of them is made.
    """

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._many = descriptors.limit() // 2
        self._again_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> asyncio.Protocol:
        protocol = self.factory()
        if self._loop.time() >= self._again_at:
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
                if self._loop.time() < self._again_at:
                    return
                accepted, _ = listening.accept()
                accepted.setblocking(False)
                # The system gives the lowest number that is free, so this is about how many are in use.
                if accepted.fileno() >= self._many:
                    self._again_at = self._loop.time() + FEW_LEFT_SECONDS
                task = self._loop.create_task(self._serve(accepted))
                self._tasks.add(task)
                task.add_done_callback(partial(self._served, accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self.factory, accepted)
        except OSError:  # it was reset meanwhile
            accepted.close()

    def _served(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # the loop ends, and nobody else may have it yet
            accepted.close()


class Listener:
    """Accepts at all its places until it is closed."""

    def __init__(self, places: Sequence[_Place]) -> None:
        self.addresses = [each.address for each in places]
        self._places = places

    @property
    def address(self) -> str:
        """All addresses, in the form of the configuration, with the ports in use."""
        return ", ".join(self.addresses)

    def close(self) -> None:
        """Accept no more; clients of a unix socket see at once that nobody listens."""
        for each in self._places:
            each.close()

    async def renew(self) -> None:
        """Listen again if a unix socket was deleted. Connections stay."""
        for each in self._places:
            await each.renew()


class _Place:
    """One socket that accepts. ``name``: of a unix socket of our own."""

    def __init__(self, server: asyncio.Server, backlog: Backlog, name: SocketFile | None = None) -> None:
        self.address = format_address(server.sockets[0].getsockname())
        self._server = server
        self._backlog = backlog
        self._name = name
        self._closed = False
        backlog.begin(server)

    def close(self) -> None:
        self._closed = True
        self._backlog.end()
        self._server.close()
        if self._name is not None:
            self._name.remove()

    async def renew(self) -> None:
        if self._name is None or self._name.is_there():
            return
        path = self._name.path
        try:
            again = await _accept(unix_socket(path, SOCKET_MODE), self._backlog.factory, SocketFile(path))
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
    where: Listens, factory: Factory, given: Sequence[socket.socket] = (), *, reuse_port: bool = False
) -> Listener:
    """Start to accept at every address, or at none. Raises CannotListen.

    ``given``: sockets to use in place of the addresses.
    """
    made = list(given) or await _make_all(where, reuse_port)
    return Listener([await _accept(each, factory, None if given else _name_of(each)) for each in made])


async def _make_all(where: Listens, reuse_port: bool) -> list[socket.socket]:
    made: list[socket.socket] = []
    for place, each in where.places(""):
        try:
            made += await _make(each, reuse_port)
        except OSError as problem:
            for other in made:
                _give_up(other)
            raise CannotListen(f"{place} {each}", problem) from None
    return made


async def _make(where: Listen, reuse_port: bool) -> list[socket.socket]:
    if where.socket_path is not None:
        return [unix_socket(Path(where.socket_path), SOCKET_MODE)]
    host, port = where.address
    made = await asyncio.to_thread(tcp_sockets, host, port, reuse_port=reuse_port)  # a name may ask DNS
    if not host and len(made) == 1:
        log = structlog.get_logger("sockets")
        log.info(
            "only one address family on this host", listen=where, used=format_address(made[0].getsockname())
        )
    return made


def _give_up(made: socket.socket) -> None:
    name = _name_of(made)
    made.close()
    if name is not None:
        name.remove()


def _name_of(made: socket.socket) -> SocketFile | None:
    return SocketFile(Path(made.getsockname())) if made.family == socket.AF_UNIX else None


async def _accept(made: socket.socket, factory: Factory, name: SocketFile | None) -> _Place:
    loop = asyncio.get_running_loop()
    backlog, create = Backlog(factory), loop.create_server if name is None else loop.create_unix_server
    return _Place(await create(backlog, sock=made, backlog=BACKLOG), backlog, name)


def say_renewed(path: Path) -> None:
    log = structlog.get_logger("sockets")
    limited(log, f"renewed {path}").warning("unix socket was deleted; created again", path=str(path))


def say_not_renewed(path: Path, problem: OSError) -> None:
    log = limited(structlog.get_logger("sockets"), f"not renewed {path}", every=60.0)
    log.error("unix socket was deleted and cannot be created again", path=str(path), error=str(problem))
