"""Work on large requests: peers take turns, and a turn of the loop begins no more than it has time for."""

from __future__ import annotations

import asyncio

import pytest

from forwarder.ingest import slices
from forwarder.ingest.slices import BODY_OF_SOME_SIZE, Work


async def test_peers_take_turns_however_many_requests_one_of_them_has() -> None:
    order: list[str] = []

    async def request(peer: str) -> None:
        await Work(peer).pause()
        order.append(peer)

    async with asyncio.TaskGroup() as group:
        for peer in ["many"] * 50 + ["one"]:
            group.create_task(request(peer))
    assert "one" in order[:2]
    assert len(order) == 51


async def test_a_request_that_is_cancelled_holds_up_nobody() -> None:
    tasks = [asyncio.ensure_future(Work("a").pause()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, False, False]


async def test_large_bodies_begin_in_one_turn_only_while_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(slices, "perf_counter", lambda: now)
    begun: list[int] = []

    async def request(number: int, size: int) -> None:
        nonlocal now
        await Work("a").begin(size)
        begun.append(number)
        now += 0.003

    tasks = [asyncio.ensure_future(request(number, BODY_OF_SOME_SIZE + 1)) for number in range(6)]
    small = asyncio.ensure_future(request(6, BODY_OF_SOME_SIZE))
    await asyncio.sleep(0)
    assert begun == [0, 1, 6]
    await asyncio.wait([*tasks, small])
    assert sorted(begun) == list(range(7))
