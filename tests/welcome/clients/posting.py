"""Posts what it is told, with the HTTP library that is its argument: requests, httpx or aiohttp.

An order a line: ``url``, ``headers``, ``body`` in base64, ``chunked``. It prints a line for each: ``status``,
``body``. All go by one session, so that connections are kept.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

PIECE = 16_384


def pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def by_requests() -> None:
    import requests

    session = requests.Session()
    for order, body in orders():
        content: Any = pieces(body) if order["chunked"] else body
        answer = session.post(order["url"], data=content, headers=order["headers"], timeout=60)
        say(answer.status_code, answer.text)


def by_httpx() -> None:
    import httpx

    with httpx.Client(timeout=60) as client:
        for order, body in orders():
            content: Any = pieces(body) if order["chunked"] else body
            answer = client.post(order["url"], content=content, headers=order["headers"])
            say(answer.status_code, answer.text)


async def by_aiohttp() -> None:
    import aiohttp

    async def slowly(body: bytes) -> AsyncIterator[bytes]:
        for piece in pieces(body):
            yield piece

    async with aiohttp.ClientSession() as session:
        for order, body in orders():
            content: Any = slowly(body) if order["chunked"] else body
            headers = {**order["headers"]}
            expects = headers.pop("Expect", None) is not None
            async with session.post(order["url"], data=content, headers=headers, expect100=expects) as answer:
                say(answer.status, await answer.text())


def orders() -> Iterator[tuple[dict[str, Any], bytes]]:
    for line in sys.stdin:
        order = json.loads(line)
        yield order, base64.b64decode(order["body"])


def say(status: int, body: str) -> None:
    print(json.dumps({"status": status, "body": body}), flush=True)


if __name__ == "__main__":
    match sys.argv[1]:
        case "requests":
            by_requests()
        case "httpx":
            by_httpx()
        case "aiohttp":
            asyncio.run(by_aiohttp())
