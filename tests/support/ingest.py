"""An ingest server on a real socket, and a client that says exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.config import AuthConfig, Bytes, CorsConfig, Duration, IngestConfig, Listens, TlsConfig
from forwarder.daemon.senders import Senders
from forwarder.ingest.auth.files import SecretFiles
from forwarder.ingest.bindings import Bindings, OnlyBound, Route
from forwarder.ingest.budget import Budget
from forwarder.ingest.server import IngestServer
from forwarder.metrics import Metrics
from forwarder.model import Batch, Clock, Limits, SystemClock
from forwarder.queues.memory import MemoryQueue
from forwarder.receipts import Receipts

MONITOR = "00000000-0000-4000-8000-0000000000aa"
MIB = 1 << 20
EVENT = {"Source": "shop", "DetailType": "order", "Detail": {"n": 1}}
ENTRY = {"Source": "shop", "DetailType": "order", "Detail": '{"n":1}'}
NATIVE = "/v1/targets/orders/events"
PUT_EVENTS = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
PATIENCE = 60.0
"""Seconds until a test gives up, long enough for a machine that does much else."""

LIMITS = Limits(max_events=10, max_bytes=1_048_575, max_event_bytes=1_048_575, max_wait=0.1)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Peer:
    """One connection to the server."""

    # Not weak: a stream that its task drops unclosed is a warning, whenever the collector comes by.
    _open: ClassVar[set[Peer]] = set()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._open.add(self)

    @classmethod
    def abort_all(cls) -> None:
        """Close what a test left open: a stream that outlives its event loop fails a later test."""
        for peer in cls._open:
            peer.writer.transport.abort()
        cls._open.clear()

    @classmethod
    async def connect(cls, address: str, source: str | None = None) -> Peer:
        """``source``: the address to come from; on loopback any of 127.0.0.0/8."""
        if address.startswith("unix:"):
            return cls(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        host, _, port = address.rpartition(":")
        own = None if source is None else (source, 0)
        return cls(*await asyncio.open_connection(host, int(port), local_addr=own))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, to: str = "POST") -> Answer:
        """The next answer; its body by Content-Length."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")[:-2]
            headers = {}
            for line in lines:
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            length = 0 if to == "HEAD" else int(headers.get("content-length", 0))
            body = await self.reader.readexactly(length)
        return Answer(int(first.split()[1]), headers, body)

    async def is_closed(self) -> bool:
        """Wait until the server closes; anything it still says is an error."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def reset(self) -> None:
        """Go away without a word, as a process that is killed with unread data does."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        await self.close()

    async def close(self) -> None:
        self._open.discard(self)
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def request(
    path: str, body: bytes | Any = b"", headers: Mapping[str, str] | None = None, method: str = "POST"
) -> bytes:
    """The bytes of a request; what is not bytes is sent as JSON."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    given = {"Host": "localhost", **(headers or {})}
    if "Transfer-Encoding" not in given:
        given.setdefault("Content-Length", str(len(body)))
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


class Ingest:
    """A running server with one target of each API, and what its queues hold."""

    def __init__(
        self,
        server: IngestServer,
        bindings: Bindings,
        budget: Budget,
        metrics: Metrics,
        receipts: Receipts,
        files: SecretFiles,
    ) -> None:
        self.server = server
        self.files = files
        self.receipts = receipts
        self.budget = budget
        self.metrics = metrics
        self.queues = {route.name: route.queue for route in bindings.routes}

    async def peer(self, source: str | None = None) -> Peer:
        return await Peer.connect(self.server.address, source)

    async def post(
        self,
        path: str,
        body: bytes | Any = b"",
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        source: str | None = None,
    ) -> Answer:
        peer = await self.peer(source)
        try:
            await peer.send(request(path, body, headers, method))
            return await peer.answer(to=method)
        finally:
            await peer.close()

    async def put_events(self, *entries: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.post("/", {"Entries": list(entries)}, {**PUT_EVENTS, **(headers or {})})

    def count(self, target: str = "orders") -> int:
        return self.queues[target].view().waiting_events

    def batches(self, target: str = "orders") -> list[Batch]:
        """Everything the queue holds, as the batches it would leave in."""
        queue = self.queues[target]
        queue.drain()
        batches = []
        while (batch := queue.take()) is not None:
            batches.append(batch)
        return batches

    def bodies(self, target: str = "orders") -> list[Any]:
        return [json.loads(event.body) for batch in self.batches(target) for event in batch.events]

    def refused(self, target: str = "orders") -> dict[str, int]:
        return {reason: n for reason, n in self.metrics.for_target(target).refused.items() if n}


class Routes:
    """Routes as the daemon builds them."""

    def __init__(self) -> None:
        self.metrics = Metrics(SystemClock())
        self.routes: list[Route[Any]] = []

    def add(
        self,
        name: str,
        api: PutEvents | PutRumEvents | PutProjectEvents,
        *,
        region: str = "eu-west-1",
        names: tuple[str, ...] = (),
        default: bool = False,
        max_events: int = 100_000,
        max_event_bytes: int = 1_048_575,
        limits: Limits = LIMITS,
        ack_timeout: float = 0.0,
        only_bound: bool = False,
    ) -> Routes:
        metrics = self.metrics.for_target(name)
        queue = MemoryQueue(
            limits, max_events=max_events, max_bytes=64 * MIB, clock=SystemClock(), metrics=metrics
        )
        self.routes.append(
            Route(
                name,
                api,
                region,
                queue,
                metrics,
                max_event_bytes,
                names,
                default,
                ack_timeout,
                only=OnlyBound(name, type(api), names) if only_bound else None,
            )
        )
        return self


def one_of_each() -> Routes:
    routes = Routes().add("orders", PutEvents(), default=True)
    routes.add("web", PutRumEvents(app_monitors=(MONITOR,)), names=(MONITOR,), default=False)
    return routes.add("lab", PutProjectEvents(projects=("shop",)), names=("shop",), default=False)


@asynccontextmanager
async def serving(
    routes: Routes | None = None,
    *,
    budget: int = 64 * MIB,
    listen: str = "127.0.0.1:0",
    max_body: int = 8 * MIB,
    max_header_bytes: int = 16 * 1024,
    read_timeout: float = 30.0,
    keep_alive: float = 75.0,
    max_connections: int = 1024,
    trusted_proxies: Sequence[str] = (),
    spare: int = 0,
    origins: Sequence[str] = (),
    browsers: Literal["refuse", "allow"] = "refuse",
    hosts: Sequence[str] = (),
    auth: AuthConfig | None = None,
    tls: TlsConfig | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Ingest]:
    routes = routes or one_of_each()
    settings = IngestConfig(
        listen=Listens.parse(listen),
        max_body=Bytes(max_body),
        max_header_bytes=Bytes(max_header_bytes),
        read_timeout=Duration(read_timeout),
        keep_alive=Duration(keep_alive),
        max_connections=max_connections,
        trusted_proxies=list(trusted_proxies),
        browsers=browsers,
        hosts=list(hosts),
        cors=CorsConfig(origins=list(origins)),
        auth=auth or AuthConfig(),
        tls=tls,
    )
    clock = clock or SystemClock()
    senders = Senders(settings, clock, routes.metrics.senders)
    await senders.open([])
    bindings, lent, receipts = Bindings(routes.routes), Budget(budget, spare=spare), Receipts()
    server = IngestServer(
        settings,
        bindings,
        lent,
        routes.metrics,
        clock,
        chance=lambda: 0.5,
        receipts=receipts,
        guard=senders.guard,
        tls=senders.tls,
    )
    await server.start()
    try:
        yield Ingest(server, bindings, lent, routes.metrics, receipts, senders.files)
    finally:
        await server.close()
        Peer.abort_all()
        assert not receipts.waits, "every wait leaves nothing behind"
        assert lent.used == 0, "every byte of the budget comes back"


def code(answer: Answer) -> str:
    """The code in whichever shape it came."""
    body = answer.json
    return str(body["__type"] if "__type" in body else body["error"]["code"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)
