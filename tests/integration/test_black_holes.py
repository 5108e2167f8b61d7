"""Name servers and instance metadata that never answer delay neither the start nor an answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from forwarder.threads import DaemonThreads
from tests.support.events import event, markers
from tests.support.harness import World, daemon_of, until

HOST = "events.example.com"


class Silence:
    """Look-ups of HOST hang until this is over. Then HOST is this machine."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked = 0
        self._resolve = socket.getaddrinfo

    def resolve(self, host: Any, *args: Any, **options: Any) -> Any:
        if host != HOST:
            return self._resolve(host, *args, **options)
        self.asked += 1
        assert self.over.wait(60)
        return self._resolve("127.0.0.1", *args, **options)


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silence]:
    made = Silence()
    monkeypatch.setattr(socket, "getaddrinfo", made.resolve)
    yield made
    made.over.set()


async def test_silent_name_servers_delay_neither_ready_nor_an_answer(place: World, silence: Silence) -> None:
    asyncio.get_running_loop().set_default_executor(DaemonThreads())  # as the daemon's own loop has
    [name] = markers(1)
    port = urlsplit(place.sandbox).port
    async with daemon_of(place, orders={"endpoint_url": f"http://{HOST}:{port}"}) as daemon:
        assert await place.ready()
        await place.send("eventbridge", [event("eventbridge", name)])

        async def asked() -> bool:
            return silence.asked > 0

        await until(asked, "the name is asked for")
        assert (await place.ledger("eventbridge"))["in_queue"] == 1
        assert await place.ready()
        silence.over.set()
        assert await place.all_arrive("eventbridge", [name]) == {name: 1}
        await daemon.stop()


async def test_silent_instance_metadata_delays_neither_ready_nor_an_answer(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    asked, over = asyncio.Event(), asyncio.Event()

    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()

    server = await asyncio.start_server(never_answers, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{address[1]}")
    async with daemon_of(place, shutdown={"drain_timeout": "1s"}) as daemon:
        assert await place.ready()
        await asyncio.wait_for(asked.wait(), 30)
        await place.send("eventbridge", [event("eventbridge", "waits")])
        assert (await place.ledger("eventbridge"))["in_queue"] == 1
        over.set()
        await daemon.stop()
    server.close()
