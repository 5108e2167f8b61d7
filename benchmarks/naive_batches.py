"""The next thing one writes: a list, a flush of ten or after 100 ms, nothing bounded, nothing retried."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop
from aiobotocore.session import get_session
from aiohttp import web

waiting: list[dict[str, Any]] = []
tasks: set[asyncio.Task[None]] = set()


async def send(client: Any, entries: list[dict[str, Any]]) -> None:
    answer = await client.put_events(Entries=entries)
    failed = [e for e, result in zip(entries, answer["Entries"], strict=True) if "ErrorCode" in result]
    waiting.extend(failed)


def flush(client: Any) -> None:
    while waiting:
        task = asyncio.ensure_future(send(client, waiting[:10]))
        del waiting[:10]
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def flush_often(client: Any) -> None:
    while True:
        await asyncio.sleep(0.1)
        flush(client)


async def handle(request: web.Request) -> web.Response:
    body = await request.json()
    for event in body if isinstance(body, list) else [body]:
        waiting.append({**event, "Detail": json.dumps(event["Detail"])})
    if len(waiting) >= 10:
        flush(request.app["client"])
    return web.json_response({"ok": True})


async def make_app(endpoint: str) -> web.Application:
    app = web.Application(client_max_size=8 << 20)
    context = get_session().create_client("events", region_name="eu-west-1", endpoint_url=endpoint)
    app["client"] = await context.__aenter__()
    app["flusher"] = asyncio.ensure_future(flush_often(app["client"]))
    app.router.add_post("/", handle)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
