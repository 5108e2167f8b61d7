"""An SDK whose answer is lost tries again by itself: its events are delivered once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from tests.support.events import MONITOR
from tests.support.harness import World, daemon_in

ENTRY = {"Source": "shop", "DetailType": "order", "Detail": '{"marker": "once"}'}
BATCH = {
    "Id": MONITOR,
    "BatchId": MONITOR,
    "AppMonitorDetails": {"id": MONITOR, "version": "1"},
    "UserDetails": {"userId": MONITOR, "sessionId": MONITOR},
    "RumEvents": [{"id": MONITOR, "timestamp": 1767323045, "type": "a", "details": '{"marker": "once"}'}],
}


@dataclass
class Line:
    """A TCP proxy that passes everything on, but cuts the connection instead of the first answer."""

    to: str
    url: str = ""
    answers: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(self.to)
        back, onward = await asyncio.open_connection(there.hostname, there.port)
        asking = asyncio.create_task(self._pass_on(reader, onward))
        try:
            while data := await back.read(65536):
                self.answers.append(data)
                if len(self.answers) == 1:
                    break
                writer.write(data)
        finally:
            asking.cancel()
            writer.close()
            onward.close()

    async def _pass_on(self, reader: asyncio.StreamReader, onward: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                onward.write(data)
            onward.close()


@asynccontextmanager
async def bad_line(place: World) -> AsyncIterator[Line]:
    line = Line(place.ingest)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    line.url = f"http://{host}:{port}"
    async with server:
        yield line


def put_events(url: str, mode: str) -> Any:
    return _client("events", url, mode, lambda sdk: sdk.put_events(Entries=[ENTRY, ENTRY]))


def put_rum_events(url: str, mode: str) -> Any:
    return _client("rum", url, mode, lambda sdk: sdk.put_rum_events(**BATCH))


def _client(service: str, url: str, mode: str, use: Callable[[Any], Any]) -> Any:
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 3, "mode": mode})
    sdk = boto3.client(
        service,
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=config,
    )
    try:
        return use(sdk)
    finally:
        sdk.close()


@pytest.mark.parametrize("mode", ["legacy", "standard"])
@pytest.mark.parametrize(
    ("kind", "call", "events"), [("eventbridge", put_events, 2), ("rum", put_rum_events, 1)]
)
async def test_a_call_whose_first_answer_is_lost_is_delivered_once(
    place: World, kind: str, call: Callable[[str, str], Any], events: int, mode: str
) -> None:
    async with daemon_in(place):
        async with bad_line(place) as line:
            answer = await asyncio.to_thread(call, line.url, mode)
        assert answer["ResponseMetadata"]["RetryAttempts"] == 1
        assert len(line.answers) == 2
        await place.settled(kind)
        assert await place.arrived(kind) == Counter(once=events)
        for entry in answer.get("Entries", []):
            assert entry["EventId"].encode() in line.answers[0]
        assert (await place.ledger(kind))["accepted"] == events
