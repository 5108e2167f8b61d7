"""What one writes first: a handler that awaits put_events for every event, on one shared stock client."""

from __future__ import annotations

import json
import sys

import uvloop
from aiobotocore.session import get_session
from aiohttp import web


async def handle(request: web.Request) -> web.Response:
    body = await request.json()
    for event in body if isinstance(body, list) else [body]:
        entry = {**event, "Detail": json.dumps(event["Detail"])}
        answer = await request.app["client"].put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            return web.json_response(answer["Entries"], status=502)
    return web.json_response({"ok": True})


async def make_app(endpoint: str) -> web.Application:
    app = web.Application(client_max_size=8 << 20)
    session = get_session()
    context = session.create_client("events", region_name="eu-west-1", endpoint_url=endpoint)
    app["client"] = await context.__aenter__()
    app.router.add_post("/", handle)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
