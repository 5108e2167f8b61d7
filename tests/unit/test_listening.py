"""How many connections one turn of the event loop accepts, on the event loop that the daemon uses."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
import uvloop

from forwarder.addresses import Listens
from forwarder.listening import MOST_ACCEPTED, listen


async def accepted(where: str, turns: int, connections: int) -> tuple[int, int]:
    """How many were accepted after so many turns, and in the end; the last one is answered."""
    made: list[asyncio.BaseTransport] = []

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            cast(asyncio.Transport, transport).write(b"hello")  # uvloop's are none by inheritance

    listener = await listen(Listens.parse(where), Greeting)
    clients = [_connect(listener.address) for _ in range(connections)]
    for _ in range(turns):
        await asyncio.sleep(0)
    early = len(made)
    while len(made) < connections:
        await asyncio.sleep(0.001)
    loop = asyncio.get_running_loop()
    clients[-1].setblocking(False)
    assert await loop.sock_recv(clients[-1], 5) == b"hello"
    listener.close()
    for client in clients:
        client.close()
    await asyncio.sleep(0.01)
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)), closing(_connect(listener.address)):
        pass  # nobody listens there any more
    return early, len(made)


def _connect(address: str) -> socket.socket:
    path = address.removeprefix("unix:")
    if path != address:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
        except OSError:
            client.close()
            raise
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_turn_of_the_loop_accepts_many_connections(kind: str, tmp_path: Path) -> None:
    where = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path}/s"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        early, all_of_them = runner.run(accepted(where, 6, 3 * MOST_ACCEPTED // 2))
    assert early >= MOST_ACCEPTED
    assert all_of_them == 3 * MOST_ACCEPTED // 2
