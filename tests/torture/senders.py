"""Programs that send events without a pause, and write down what they were promised.

Invariants:
- A promise is written down when it was read, and only then: a 2xx, and per event a success of its own.
- A request is made to one life of the daemon and answered by that life: every life has an address of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from tests.torture.events import ARRAY, AWS_ENTRIES, TARGETS, WAYS, Target, Way, post_of, taken

SIZES: dict[Way, int] = {"array": ARRAY, "single": 1, "aws": AWS_ENTRIES}
MEMORY_SECONDS = 0.05
"""Between the posts of one sender to a memory queue, which answers so soon that it would have them all."""
REFUSED_SECONDS = 0.05
"""A sender that was told no, or nothing, comes back after this."""

ANSWERS = frozenset({200, 202, 429, 503})
"""What a sender of sound events may be told."""
SHOWN = 5

NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError)


class Promises:
    """The durable record, a line per answer: moment, life, target, first serial, events, the promised."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", buffering=1)
        self.count = 0
        self.statuses: Counter[int] = Counter()
        self.odd: list[str] = []
        """Answers that no sender of sound events should get, the first of them."""

    def write(self, life: int, target: Target, first: int, promised: list[bool]) -> None:
        if any(promised):
            places = "all" if all(promised) else [place for place, each in enumerate(promised) if each]
            self._file.write(
                json.dumps([time.time(), life, target.index, first, len(promised), places]) + "\n"
            )
            self.count += sum(promised)

    def close(self) -> None:
        self._file.close()


def read_promises(path: Path) -> Iterator[tuple[int, int, float]]:
    """Each promised event: its number, the life of the daemon that promised it, and when that was read."""
    with path.open() as lines:
        for line in lines:
            moment, life, index, first, count, places = json.loads(line)
            for place in range(count) if places == "all" else places:
                yield TARGETS[index].number(first + place), life, moment


class Senders:
    """All senders. ``aim`` them at a life of the daemon, or at none; what they got is in ``promises``."""

    def __init__(self, http: aiohttp.ClientSession, promises: Promises) -> None:
        self._http = http
        self.promises = promises
        self._serials = {target.index: itertools.count() for target in TARGETS}
        self._life: int = 0
        self._url: str | None = None
        self._aimed = asyncio.Event()

    def aim(self, life: int, url: str | None) -> None:
        """From now on to this address; None: wait."""
        self._life, self._url = life, url
        self._aimed.set() if url else self._aimed.clear()

    async def send_one(self, target: Target) -> None:
        """One event, so that a target can show that it works."""
        with suppress(*NO_ANSWER):
            await self._post(target, "single", 1)

    async def run(self, target: Target, way: Way) -> None:
        while True:
            await self._aimed.wait()
            try:
                went_well = await self._post(target, way, SIZES[way])
            except NO_ANSWER:
                went_well = False
            if not went_well:
                await asyncio.sleep(REFUSED_SECONDS)
            elif target.queue == "memory":
                await asyncio.sleep(MEMORY_SECONDS)

    async def _post(self, target: Target, way: Way, count: int) -> bool:
        serials = self._serials[target.index]
        first = next(serials)
        for _ in range(count - 1):
            next(serials)
        post = post_of(target, way, [target.number(first + place) for place in range(count)])
        life, url = self._life, self._url
        async with self._http.post(f"{url}{post.path}", data=post.body, headers=post.headers) as answer:
            body, status = await answer.read(), answer.status
        self.promises.statuses[status] += 1
        if status not in ANSWERS and len(self.promises.odd) < SHOWN:
            said = f"{status} {dict(answer.headers)} {body[:300]!r}"
            self.promises.odd.append(f"{time.time():.3f}: {target.name} in life {life} was told {said}")
        promised = taken(target, way, count, status, body)
        # No await since the answer was read: whoever is cancelled has written it down.
        self.promises.write(life, target, first, promised)
        return all(promised)


@asynccontextmanager
async def sending(senders: Senders) -> AsyncIterator[None]:
    """For as long as the block lasts every target gets events in every way; then every post is ended."""
    tasks = [asyncio.create_task(senders.run(target, way)) for target in TARGETS for way in WAYS]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, asyncio.CancelledError):
                raise ended
