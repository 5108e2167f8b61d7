"""How ingest and delivery share the loop, by a clock that only the work here moves."""

from __future__ import annotations

import asyncio

import pytest

from forwarder.ingest.turns import BURST_SECONDS, MOST_OWED, MOST_TURNS, TURN_SECONDS, Turns

STEP = 0.001


class Loop:
    """What runs in the event loop: requests that use STEP each, and everything else."""

    def __init__(self, *, sending: bool = True, others: float = STEP) -> None:
        self.now = 0.0
        self.sending = sending
        self.others = others
        self.entered: list[str] = []
        self.turns = Turns(lambda: self.sending, lambda: self.now)

    async def request(self, peer: str = "a") -> None:
        if not self.turns.may_enter():
            await self.turns.enter(peer)
        await self.turns.measured(self._work(peer))

    async def _work(self, peer: str) -> None:
        self.entered.append(peer)
        self.now += STEP

    async def run(self, turns: int) -> None:
        """So many turns of the loop, each of which has work of others."""
        for _ in range(turns):
            await asyncio.sleep(0)
            self.now += self.others


async def ended(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_while_calls_are_in_flight_ingest_has_a_third_of_the_time() -> None:
    loop = Loop()
    tasks = [asyncio.create_task(loop.request()) for _ in range(1_000)]
    await loop.run(200)
    others = 200 * loop.others
    ingest = len(loop.entered) * STEP
    assert 0.4 * others <= ingest <= 0.6 * others
    await ended(*tasks)


async def test_where_nothing_is_sent_requests_wait_only_for_the_next_turn() -> None:
    loop = Loop(sending=False)
    a_turn = round(TURN_SECONDS / STEP)
    tasks = [asyncio.create_task(loop.request()) for _ in range(100)]
    await loop.run(1)
    assert len(loop.entered) == a_turn, "a turn stays short however many requests arrived in it"
    await loop.run(2 + 100 // a_turn)
    assert len(loop.entered) == 100
    await asyncio.gather(*tasks)


async def test_a_request_enters_in_four_turns_however_much_large_ones_use() -> None:
    loop = Loop()

    def large() -> None:
        loop.now += 1.0
        loop.turns.spend(1.0)

    large()
    assert not loop.turns.may_enter()
    task = asyncio.create_task(loop.request())
    for turn in range(MOST_TURNS + 4):
        assert turn > 2 or not loop.entered, "the share is used up"
        large()
        await loop.run(1)
    assert loop.entered == ["a"]
    await task


async def test_what_ingest_owes_is_bounded() -> None:
    loop = Loop()
    loop.turns.spend(100.0)
    await asyncio.sleep(0)
    loop.now += 100.0 + 2 * MOST_OWED + STEP
    assert loop.turns.may_enter()


async def test_a_loop_that_has_nothing_else_to_do_takes_a_request_in_every_turn() -> None:
    loop = Loop(others=0.0)
    tasks = [asyncio.create_task(loop.request()) for _ in range(50)]
    await loop.run(60)
    assert len(loop.entered) == 50
    await asyncio.gather(*tasks)


async def test_who_waits_when_the_calls_end_waits_no_longer() -> None:
    loop = Loop()
    tasks = [asyncio.create_task(loop.request()) for _ in range(100)]
    await loop.run(2)
    assert len(loop.entered) < 10
    loop.sending = False
    await loop.run(110)
    assert len(loop.entered) == 100
    await asyncio.gather(*tasks)


async def test_peers_enter_in_turn() -> None:
    loop = Loop()
    many = [asyncio.create_task(loop.request("many")) for _ in range(100)]
    await loop.run(1)
    before = len(loop.entered)
    one = asyncio.create_task(loop.request("one"))
    await loop.run(8)
    assert "one" in loop.entered
    assert loop.entered.index("one") <= before + 4
    await ended(*many, one)


async def test_who_goes_away_while_it_waits_holds_nobody_up() -> None:
    loop = Loop()
    tasks = [asyncio.create_task(loop.request()) for _ in range(20)]
    await loop.run(1)
    await ended(*tasks)
    last = asyncio.create_task(loop.request("last"))
    await loop.run(20)
    assert "last" in loop.entered
    await last


async def test_a_short_burst_enters_at_once() -> None:
    loop = Loop()
    assert loop.turns.may_enter()
    loop.turns.spend(BURST_SECONDS / 2)
    assert loop.turns.may_enter()
    loop.turns.spend(BURST_SECONDS)
    assert not loop.turns.may_enter()


async def test_every_step_of_a_request_is_counted_and_no_time_that_it_waits() -> None:
    loop = Loop()

    async def work() -> str:
        loop.now += BURST_SECONDS
        await asyncio.sleep(0)
        loop.now += BURST_SECONDS
        return "done"

    async def other() -> None:
        loop.now += 1.0

    beside = asyncio.create_task(other())
    assert await loop.turns.measured(work()) == "done"
    await beside
    assert loop.turns._used == pytest.approx(2 * BURST_SECONDS)


async def test_what_a_measured_request_raises_is_raised() -> None:
    loop = Loop()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await loop.turns.measured(fail())


async def test_a_measured_request_can_be_cancelled() -> None:
    loop, cleaned = Loop(), []

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(True)

    task: asyncio.Task[None] = asyncio.create_task(loop.turns.measured(wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned
