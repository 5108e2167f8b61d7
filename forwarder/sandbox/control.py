"""The sandbox's own endpoints, under ``/_sandbox/``: order faults, read what arrived, make and delete buses.

Invariants:
- Nothing here is AWS's; every answer is JSON (JSON lines for events, text for the help), errors are
  ``{"error": {"code", "message"}}``.
- Reading changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

import forwarder.sandbox
from forwarder.sandbox.answers import REDIRECTED
from forwarder.sandbox.cloud import Cloud
from forwarder.sandbox.eventbridge import bus_name
from forwarder.sandbox.faults import Fault, Ordered
from forwarder.sandbox.record import Counts

LINES_PER_WRITE = 500
_FAULTS = msgspec.json.Decoder(list[Fault])
_KEYS = msgspec.json.Decoder(list[str])
_ONE_FAULT = msgspec.json.Decoder(Fault)


class Control:
    """The handlers. ``release`` ends the calls that hang."""

    def __init__(self, cloud: Cloud, release: Callable[[], None]) -> None:
        self._cloud = cloud
        self._release = release

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sandbox", self.help, allow_head=False),
            web.get("/_sandbox/", self.help, allow_head=False),
            web.get("/_sandbox/events", self.events, allow_head=False),
            web.get("/_sandbox/summary", self.summary, allow_head=False),
            web.get("/_sandbox/faults", self.faults, allow_head=False),
            web.post("/_sandbox/faults", self.order),
            web.delete("/_sandbox/faults", self.clear),
            web.post("/_sandbox/reset", self.reset),
            web.put("/_sandbox/access-keys", self.accept),
            web.delete("/_sandbox/access-keys", self.accept_any),
            web.get("/_sandbox/buses", self.buses, allow_head=False),
            web.post("/_sandbox/buses/{name}", self.make_bus),
            web.delete("/_sandbox/buses/{name}", self.delete_bus),
            web.route("*", REDIRECTED, self.redirected),
        ]

    async def help(self, request: web.Request) -> web.Response:
        return web.Response(text=forwarder.sandbox.__doc__ or "")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The events of the record as JSON lines: ``?api=``, ``?since=`` (a number), ``?dropped=true``."""
        api, since = request.query.get("api"), request.query.get("since", "0")
        kinds = [each.kind for each in self._cloud.services]
        if (api is not None and api not in kinds) or not since.isdecimal():
            return _bad(f"api must be one of {', '.join(kinds)}, and since must be the number of an event")
        dropped = request.query.get("dropped") == "true"
        lines = self._cloud.record.lines(api, int(since), dropped)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await answer.prepare(request)
        while chunk := b"".join(islice(lines, LINES_PER_WRITE)):
            await answer.write(chunk)
            await asyncio.sleep(0)
        return answer

    async def summary(self, request: web.Request) -> web.Response:
        record = self._cloud.record
        apis = {api: _counts(counts) for api, counts in record.counts.items()}
        return _json({"apis": apis, "redirects_followed": record.redirects_followed})

    async def faults(self, request: web.Request) -> web.Response:
        return _json(self._view())

    async def order(self, request: web.Request) -> web.Response:
        """One fault or a list of them; all are in force then, or, when one cannot be, none."""
        body = await request.read()
        try:
            single = body.lstrip()[:1] == b"{"
            faults = [_ONE_FAULT.decode(body)] if single else _FAULTS.decode(body)
            self._cloud.order(faults)
        except ValueError as problem:
            return _bad(str(problem))
        return _json(self._view())

    async def clear(self, request: web.Request) -> web.Response:
        self._cloud.faults.clear()
        self._release()
        return _json([])

    async def reset(self, request: web.Request) -> web.Response:
        self._cloud.reset()
        self._release()
        return _json({})

    async def accept(self, request: web.Request) -> web.Response:
        """From now on calls signed with other access keys than these are told that theirs have expired."""
        try:
            keys = _KEYS.decode(await request.read())
        except msgspec.DecodeError as problem:
            return _bad(str(problem))
        self._cloud.access_keys = frozenset(keys)
        return _json(sorted(keys))

    async def accept_any(self, request: web.Request) -> web.Response:
        self._cloud.access_keys = None
        return _json(None)

    async def buses(self, request: web.Request) -> web.Response:
        return _json(sorted(self._cloud.eventbridge.buses))

    async def make_bus(self, request: web.Request) -> web.Response:
        self._cloud.eventbridge.buses.add(bus_name(request.match_info["name"]))
        return await self.buses(request)

    async def delete_bus(self, request: web.Request) -> web.Response:
        self._cloud.eventbridge.buses.discard(bus_name(request.match_info["name"]))
        return await self.buses(request)

    async def redirected(self, request: web.Request) -> web.Response:
        """Where the ``redirect`` fault points: nobody who may be trusted with events should come here."""
        self._cloud.record.redirects_followed += 1
        return _json({})

    def _view(self) -> list[dict[str, Any]]:
        return [_ordered(ordered) for ordered in self._cloud.faults.view(self._cloud.now)]


def _ordered(ordered: Ordered) -> dict[str, Any]:
    view: dict[str, Any] = msgspec.to_builtins(ordered.fault)
    return {**view, "hit_calls": ordered.calls, "hit_events": ordered.events}


def _counts(counts: Counts) -> dict[str, Any]:
    view: dict[str, Any] = msgspec.to_builtins(counts)
    return {**view, "mean_batch": counts.mean_batch}


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


def _bad(message: str) -> web.Response:
    return _json({"error": {"code": "BadRequest", "message": message}}, 400)
