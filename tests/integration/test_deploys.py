"""Deploys under load: the daemon is stopped and started again while senders go on at the same address."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import aiohttp

from tests.e2e.processes import free_port
from tests.support.events import KINDS, events, markers
from tests.support.harness import World, until
from tests.support.processes import daemon_beside

DEPLOYS = 2
BATCH = 150
"""Events in a request: more bytes than a head may have, so that none is taken for one."""


class Sender:
    """A program that sends a batch again until it is told that it was taken, as an SDK does."""

    def __init__(self, place: World, kind: str) -> None:
        self._place = place
        self._kind = kind
        self.promised: list[str] = []
        self.unanswered: Counter[str] = Counter()
        """Tries of events without an answer, each of which may have been taken."""

    async def run(self) -> None:
        while True:
            names = markers(BATCH)
            while not await self._is_taken(names):
                await asyncio.sleep(0.005)
            self.promised += names
            await asyncio.sleep(0.02)  # its connection is idle, now and then also when a stop begins

    async def _is_taken(self, names: list[str]) -> bool:
        try:
            sent = await self._place.post(self._kind, events(self._kind, names))
        except aiohttp.ClientError:
            self.unanswered.update(names)
            return False
        assert sent.status == 202, sent
        return True


async def test_what_is_promised_during_deploys_is_delivered_and_nothing_is_refused(place: World) -> None:
    await place.order({"fault": "slow", "delay": 0.2})  # so that a drain takes a moment
    options: dict[str, Any] = {"queue": "disk", "ingest": {"listen": f"127.0.0.1:{free_port()}"}}
    senders = {kind: Sender(place, kind) for kind in KINDS}
    async with asyncio.TaskGroup() as tasks:
        running: list[asyncio.Task[None]] = []
        for _ in range(DEPLOYS):
            async with daemon_beside(place, **options) as daemon:
                running = running or [tasks.create_task(sender.run()) for sender in senders.values()]
                await _more_are_promised(senders)
                daemon.ask()
                assert await daemon.ended() == 0
        for task in running:
            task.cancel()
    async with daemon_beside(place, **options) as daemon:
        for kind, sender in senders.items():
            arrived = await place.all_arrive(kind, sender.promised)
            await place.settled(kind)
            for name in sender.promised:
                assert arrived[name] <= 1 + sender.unanswered[name]
        daemon.ask()
        assert await daemon.ended() == 0
    assert all(sender.unanswered for sender in senders.values()), "every sender went on through a deploy"


async def _more_are_promised(senders: dict[str, Sender]) -> None:
    enough = {kind: len(sender.promised) + 2 * BATCH for kind, sender in senders.items()}

    async def there() -> bool:
        return all(len(sender.promised) >= enough[kind] for kind, sender in senders.items())

    await until(there, "two more requests of every kind are promised")
