"""Answers that were made ready beforehand, against those that aiohttp makes of the same requests."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from tests.support.ingest import ENTRY, EVENT, NATIVE, PUT_EVENTS, request, serving

OLD = b"HTTP/1.0\r\nConnection: keep-alive"


@pytest.mark.parametrize(
    ("path", "body", "headers"), [(NATIVE, EVENT, {}), ("/", {"Entries": [ENTRY]}, PUT_EVENTS)]
)
async def test_a_ready_answer_has_the_headers_that_aiohttp_would_send(
    path: str, body: object, headers: dict[str, str]
) -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        plain = request(path, body, headers)
        await peer.send(plain)
        ready = await peer.answer()
        await peer.send(plain.replace(b"HTTP/1.1", OLD, 1))  # whose answer needs a header of its own
        made = await peer.answer()
        assert made.headers.pop("connection") == "keep-alive"
        assert ready.status == made.status
        assert ready.headers.keys() == made.headers.keys()
        same = ready.headers.keys() - {"date", "x-amzn-requestid"}
        assert {name: ready.headers[name] for name in same} == {name: made.headers[name] for name in same}
        assert len(ready.body) == len(made.body) == int(ready.headers["content-length"])
        dates = [parsedate_to_datetime(answer.headers["date"]) for answer in (ready, made)]
        assert 0 <= (dates[1] - dates[0]).total_seconds() < 60
        await peer.close()


async def test_a_ready_answer_keeps_its_connection_and_pipelined_ones_come_in_order() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT) + request(NATIVE, [EVENT] * 3) + request(NATIVE, [EVENT] * 2))
        assert [(await peer.answer()).json["accepted"] for _ in range(3)] == [1, 3, 2]
        await peer.close()
