"""The sandbox on the network: one port for the APIs and the control endpoints.

Invariants:
- Every request that is AWS's gets an answer in AWS's shape, or the end that a fault ordered for it.
- ``reset`` is a real TCP reset: the socket is closed with linger 0, the caller sees RST.
- No call outlasts the sandbox: those that hang or are slow are let go when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterable

import msgspec
from aiohttp import web

from forwarder.apis.api import Api
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.apis.wire import region_of_scope
from forwarder.listening import listen
from forwarder.model import new_ids
from forwarder.sandbox.answers import EXPIRED, REST_JSON, Answer, Ending, error, of_fault
from forwarder.sandbox.calls import SERIALIZATION
from forwarder.sandbox.cloud import Cloud, Verdict
from forwarder.sandbox.control import Control
from forwarder.sandbox.settings import SandboxSettings
from forwarder.sandbox.upstream import Upstream
from forwarder.sockets import reachable

DESCRIBE_EVENT_BUS = "AWSEvents.DescribeEventBus"
DEFAULT_REGION = "us-east-1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
STOP_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""How often a call that hangs looks whether its caller is still there."""


class _BusRequest(msgspec.Struct):
    Name: str = "default"


class Front:
    """Takes requests to the cloud and its answers back."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._require_auth = cloud.settings.require_auth
        self._upstream: Upstream | None = None
        self._released = asyncio.Event()

    async def life(self, app: web.Application) -> AsyncIterator[None]:
        """aiohttp's cleanup context: the upstream's connections."""
        if self._cloud.settings.upstream is not None:
            self._upstream = Upstream(self._cloud.settings.upstream)
        yield
        if self._upstream is not None:
            await self._upstream.close()

    def release(self) -> None:
        """Let go every call that hangs or is late."""
        self._released.set()
        self._released = asyncio.Event()

    async def stop(self, app: web.Application) -> None:
        self.release()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request that is not for the control endpoints."""
        try:
            answer = await self._answer(request)
        except web.HTTPRequestEntityTooLarge:
            return _too_large()
        except web.RequestPayloadError:
            answer = error(PutRumEvents, "MalformedHttpRequestException", "The body cannot be read.")
        await self._late(answer, request)
        if answer.ending is not Ending.ANSWER:
            _reset(request)
        headers = {
            "Content-Type": answer.media,
            "x-amzn-RequestId": new_ids(1, self._cloud.wall)[0],
            **answer.headers,
        }
        return web.Response(status=answer.status or 500, body=answer.body, headers=headers)

    async def _late(self, answer: Answer, request: web.Request) -> None:
        """Wait as long as a fault says; a call that hangs as long as caller, fault and sandbox are there."""
        released = self._released
        if answer.delay:
            await _passed(released, answer.delay)
        while answer.ending is Ending.HANG and request.transport is not None:
            if await _passed(released, LOOK_SECONDS):
                return

    async def _answer(self, request: web.Request) -> Answer:
        body = await request.read()
        target = request.headers.get("X-Amz-Target")
        path = request.raw_path.partition("?")[0]
        api, name = find(self._cloud.services, path, target)
        if api is None:
            return error(PutRumEvents, "UnknownOperationException", f"There is no {path} here.", 404)
        if request.method != "POST":
            message = f"Method {request.method} is not allowed; use POST."
            return error(api, "MethodNotAllowed", message, 405, {"Allow": "POST"})
        if self._require_auth and not _signed(request):
            return error(api, "MissingAuthenticationToken", "Missing Authentication Token", 403)
        if self._cloud.access_keys is not None and access_key(request) not in self._cloud.access_keys:
            return error(api, "ExpiredTokenException", EXPIRED, 403)
        if target is not None and target != api.target:
            return await self._other_operation(request, target, body)
        return await self._events(request, self._cloud.judge(api, name, body), body)

    async def _events(self, request: web.Request, verdict: Verdict, body: bytes) -> Answer:
        if verdict.answer is not None:
            return verdict.answer
        places = verdict.to_take
        asked = verdict.service.api is PutEvents and verdict.kind != "missing_results" and places
        if self._upstream is None or not asked:
            return self._cloud.conclude(verdict)
        taken = await self._upstream.put_events(request.headers, body, places, len(verdict.refusals))
        if isinstance(taken, Answer):
            taken.delay = verdict.delay
            return taken
        return self._cloud.conclude(verdict, taken)

    async def _other_operation(self, request: web.Request, target: str, body: bytes) -> Answer:
        if target != DESCRIBE_EVENT_BUS:
            if self._upstream is not None:
                return await self._upstream.pass_on(request.headers, body)
            return error(PutEvents, "UnknownOperationException", f"The sandbox does not know {target}.")
        try:
            bus = msgspec.json.decode(body, type=_BusRequest).Name
        except msgspec.DecodeError as problem:
            return error(PutEvents, SERIALIZATION, str(problem))
        hit = self._cloud.bus_fault(bus)
        answer = of_fault(PutEvents, hit.fault) if hit.fault else None
        if answer is None and self._upstream is not None:
            answer = await self._upstream.pass_on(request.headers, body)
        if answer is None:
            region = region_of_scope(request.headers.get("Authorization", "")) or DEFAULT_REGION
            answer = self._cloud.describe_bus(bus, region)
        answer.delay = hit.delay
        if hit.fault and hit.fault.fault == "reset_after":
            answer.ending = Ending.RESET
        return answer


def find(apis: Iterable[type[Api]], path: str, target: str | None) -> tuple[type[Api] | None, str]:
    """The API of a request, and the name that its (raw) path gives, after any prefix."""
    if target is not None:
        return next((api for api in apis if api.target == target), PutEvents), ""
    for api in apis:
        name = api.locate(path)
        if name is not None:
            return api, name
    return None, ""


def make_app(settings: SandboxSettings, cloud: Cloud | None = None) -> web.Application:
    """The whole sandbox as an aiohttp application."""
    cloud = cloud or Cloud(settings)
    front = Front(cloud)
    app = web.Application(client_max_size=settings.max_body_bytes)
    app.cleanup_ctx.append(front.life)
    app.on_shutdown.append(front.stop)
    app.add_routes(Control(cloud, front.release).routes())
    app.router.add_route("*", "/{path:.*}", front.handle)
    return app


class Sandbox(msgspec.Struct, frozen=True):
    """A sandbox that runs: where, and (for tests in the same process) its inside."""

    url: str
    cloud: Cloud


@contextlib.asynccontextmanager
async def running(settings: SandboxSettings | None = None) -> AsyncIterator[Sandbox]:
    """A sandbox for as long as the block lasts. Without settings it is on any free port of 127.0.0.1."""
    settings = settings or SandboxSettings(listen="127.0.0.1:0")
    cloud = Cloud(settings)
    runner = web.AppRunner(make_app(settings, cloud), access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    assert runner.server is not None
    listener = None
    try:
        listener = await listen(settings.places, runner.server)
        yield Sandbox(_url(listener.addresses[0]), cloud)
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()


async def serve(settings: SandboxSettings) -> None:
    """Run until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with running(settings) as sandbox:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        print(f"The sandbox is at {sandbox.url} ({sandbox.url}/_sandbox: what it can do).", file=sys.stderr)
        await stopped.wait()


def _url(address: str) -> str:
    """For a program on this host."""
    place = reachable(address)[0]
    return place if place.startswith("unix:") else f"http://{place}"


def _signed(request: web.Request) -> bool:
    return "Authorization" in request.headers or "X-Amz-Signature" in request.query


def access_key(request: web.Request) -> str:
    """The access key that the request says it is signed with, in its header or its query; else ""."""
    _, _, scope = request.headers.get("Authorization", "").partition("Credential=")
    return (scope or request.query.get("X-Amz-Credential", "")).partition("/")[0]


def _too_large() -> web.Response:
    """What AWS says of a body far beyond its limits: nothing."""
    answer = web.Response(status=413, headers={"Content-Type": REST_JSON})
    answer.force_close()
    return answer


def _reset(request: web.Request) -> None:
    """End the connection with RST."""
    transport = request.transport
    if transport is not None:
        peer: socket.socket = transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()


async def _passed(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event happens, at most so long; whether it did."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
            return True
    return False
