"""The line at a gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from forwarder.waiters import FOREVER, Line


class Door:
    """Lets as many pass as there is room for; counts how often it is asked."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.seconds = FOREVER
        self.asked = 0
        self.passed: list[int] = []
        self.line = Line(self.must_wait)

    def must_wait(self) -> float:
        self.asked += 1
        return 0.0 if self.room > 0 else self.seconds

    async def go(self, number: int) -> None:
        await self.line.stand()
        self.room -= 1
        self.passed.append(number)
        self.line.wake_next()

    async def crowd(self, count: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.ensure_future(self.go(number)) for number in range(count)]
        await turns()
        return tasks


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_first_come_first_served_and_no_more_than_there_is_room_for() -> None:
    door = Door(2)
    tasks = await door.crowd(6)
    assert door.passed == [0, 1]
    door.room = 3
    door.line.wake_next()
    await turns()
    assert door.passed == [0, 1, 2, 3, 4]
    await end(tasks)


async def test_a_word_to_a_thousand_that_wait_wakes_one() -> None:
    door = Door(0)
    tasks = await door.crowd(1000)
    door.asked = 0
    door.room = 1
    door.line.wake_next()
    await turns()
    assert door.passed == [0]
    assert door.asked < 5
    await end(tasks)


async def test_who_comes_later_does_not_overtake() -> None:
    door = Door(0)
    tasks = await door.crowd(2)
    door.room = 1
    late = asyncio.ensure_future(door.go(99))
    await turns()
    assert door.passed == [0]
    await end([*tasks, late])


@pytest.mark.parametrize("after", ["before the word", "with the word in hand"])
async def test_a_cancelled_call_costs_the_next_nothing(after: str) -> None:
    door = Door(0)
    tasks = await door.crowd(3)
    if after == "before the word":
        tasks[0].cancel()
        await turns()
    door.room = 1
    door.line.wake_next()
    tasks[0].cancel()
    await turns()
    assert door.passed == [1]
    await end(tasks)


async def test_when_a_time_is_known_no_word_is_needed() -> None:
    door = Door(0)
    door.seconds = 0.001
    tasks = await door.crowd(2)
    door.room = 2
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert door.passed == [0, 1]


async def test_a_time_that_moves_nearer_counts() -> None:
    door = Door(0)
    door.seconds = 3600.0
    tasks = await door.crowd(1)
    door.seconds = 0.001
    door.line.wake_next()
    door.room = 1
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
