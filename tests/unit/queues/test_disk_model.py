"""The disk queue against a model that a person can check: sets of ids.

What was put and not settled is there, once, after whatever happens; what was settled is gone, but that a
crash may bring back what was settled since the last start.

What is drawn never depends on the queue, whose batches depend on the time: the same draws make sense whatever
came of those before. MODEL_EXAMPLES asks for more lives than fit into a quick run.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, Event, SystemClock
from forwarder.queues.disk import DiskQueue
from forwarder.queues.queue import Chosen, Settlement
from forwarder.storage import Connection, Storage
from forwarder.storage.ballast import Ballast
from tests.support.bus_names import FakeNames
from tests.support.puts import put_in
from tests.support.queues import events, ids, named, queue_in, take_all

NAMES = st.sampled_from(["one", "two", "three"])


class DiskQueueLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._home = tempfile.TemporaryDirectory()
        self._directory = Path(self._home.name) / "0"
        self.ours: set[str] = set()
        self.settled: set[str] = set()  # since the last start
        self.unsure: set[str] = set()  # settled, but maybe not on the disk
        self.flying: list[Batch] = []
        self._names = FakeNames()
        self._runner.run(self._start())

    async def _start(self) -> int:
        self._storage = Storage(self._directory, linger=0.0, ballast=Ballast(self._directory, 0))
        await self._storage.open()
        self._metrics = TargetMetrics("orders")
        self.queue: DiskQueue = queue_in(
            self._storage, front_bytes=3000, metrics=self._metrics, names=self._names
        )
        await self.queue.open()
        return self._metrics.recovered

    async def _stop(self) -> None:
        await self.queue.aclose()
        await self._storage.close()

    @rule(count=st.integers(1, 9), complete=st.booleans(), key=st.binary(max_size=1), size=st.integers(1, 60))
    def put(self, count: int, complete: bool, key: bytes, size: int) -> None:
        some = events(count, size=size, key=key, received_at=SystemClock.monotonic())
        self._runner.run(self._put(some, complete))
        self.ours |= set(ids(some))

    @rule(count=st.integers(1, 9), name=NAMES, peer=st.sampled_from("pq"), size=st.integers(1, 60))
    def put_named(self, count: int, name: str, peer: str, size: int) -> None:
        some = named(count, name, size, peer, SystemClock.monotonic())
        self._runner.run(self._put(some, False))
        self.ours |= set(ids(some))

    @rule(name=NAMES, told=st.booleans())
    def close_name(self, name: str, told: bool) -> None:
        self._names.closed.add(name)
        if told:
            self._runner.run(self._tell(self.queue.set_aside, name))

    @rule(name=NAMES)
    def open_name(self, name: str) -> None:
        self._names.closed.discard(name)
        self._runner.run(self._tell(self.queue.release, name))

    @rule(name=NAMES)
    def probe(self, name: str) -> None:
        self._runner.run(self._tell(self.queue.probe, name))

    async def _tell(self, tell: Callable[[str], object], name: str) -> None:
        tell(name)

    @rule(name=NAMES, older_than=st.sampled_from([0.0, 3600.0]))
    def purge(self, name: str, older_than: float) -> None:
        flying = {event.id for batch in self.flying for event in batch.events}
        gone = self._runner.run(self._purge(Chosen(name=name, older_than=older_than)))
        assert not gone & flying
        assert gone <= self.ours | self.unsure
        assert gone == set() or older_than == 0.0
        self.ours -= gone
        self.settled |= gone

    async def _purge(self, chosen: Chosen) -> set[str]:
        gone: list[Event] = []
        while some := self.queue.take_wanted(chosen.picks(SystemClock.monotonic()), 5):
            assert {event.name for event in some} == {chosen.name}
            self.queue.settle(Settlement(gone=some))
            gone += some
        page = await self.queue.purge_rows(chosen, lambda connection, some: gone.extend(some))
        assert page.ended
        return set(ids(gone))

    async def _put(self, some: list[Event], complete: bool) -> None:
        await put_in(self.queue, some, complete=complete)

    @rule(count=st.integers(1, 9), looks=st.integers(0, 3))
    def put_and_be_cancelled(self, count: int, looks: int) -> None:
        some = events(count, received_at=SystemClock.monotonic())
        self._runner.run(self._put_cancelled(some, looks))
        self.ours |= set(ids(some))

    async def _put_cancelled(self, some: list[Event], looks: int) -> None:
        putting = asyncio.ensure_future(put_in(self.queue, some))
        for _ in range(looks + 1):
            await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        await self._storage.run(lambda connection: None)  # by now it is committed

    @rule()
    def take(self) -> None:
        self._runner.run(asyncio.sleep(0.002))
        batch = self.queue.take()
        if batch is not None:
            assert len({event.key for event in batch.events}) == 1
            self.flying.append(batch)

    @rule(which=st.integers(0, 99), fates=st.lists(st.sampled_from("gra"), min_size=10, max_size=10))
    def settle(self, which: int, fates: list[str]) -> None:
        if not self.flying:
            return
        batch = self.flying.pop(which % len(self.flying))
        by: dict[str, list[Event]] = {"g": [], "r": [], "a": []}
        for event, fate in zip(batch.events, fates, strict=False):
            by[fate].append(event)
        for event in by["a"]:
            event.not_before = SystemClock.monotonic() + 0.001
        self._runner.run(self._settle(by["g"], by["r"], [by["a"]] if by["a"] else []))
        self.ours -= set(ids(by["g"]))
        self.settled |= set(ids(by["g"]))

    async def _settle(self, gone: list[Event], retry: list[Event], aside: list[list[Event]]) -> None:
        self.queue.settle(Settlement(gone=gone, retry=retry, aside=aside))

    @rule()
    def wait(self) -> None:
        """Long enough for settles to be written by themselves."""
        self._runner.run(asyncio.sleep(0.06))

    @rule()
    def restart(self) -> None:
        self._runner.run(self._stop())
        self.unsure -= self.settled
        self._begin()

    @rule()
    def crash(self) -> None:
        copy = Path(self._home.name) / str(int(self._directory.name) + 1)

        def copy_files(connection: Connection) -> None:  # in the storage's thread, so that nothing moves
            shutil.copytree(self._directory, copy)

        self._runner.run(self._run(copy_files))
        self._runner.run(self._stop())
        self._directory = copy
        self.unsure |= self.settled
        self._begin()

    async def _run(self, work: Any) -> None:
        await self._storage.run(work)

    def _begin(self) -> None:
        self.flying, self.settled = [], set()
        recovered = self._runner.run(self._start())
        assert len(self.ours) <= recovered <= len(self.ours | self.unsure)

    @invariant()
    def the_ledger_balances(self) -> None:
        ledger = self._metrics
        gone = len(self.settled)
        assert ledger.accepted + ledger.recovered == gone + len(self.queue)
        assert self.queue.sendable <= len(self.queue)
        apart = sum(each.events for each in self.queue.aside_view().values())
        assert apart == len(self.queue) - self.queue.sendable
        view = self.queue.view()
        assert view.events == len(self.queue)
        assert view.in_flight_events == sum(len(batch.events) for batch in self.flying)

    def teardown(self) -> None:
        self._names.closed.clear()
        self.restart()
        found = ids(self._runner.run(take_all(self.queue)))
        assert len(found) == len(set(found))
        assert self.ours <= set(found) <= self.ours | self.unsure
        view = self.queue.view()
        assert (view.events, view.waiting_bytes, view.in_flight_bytes) == (0, 0, 0)
        self._runner.run(self._stop())
        self._runner.close()
        self._home.cleanup()


DiskQueueLife.TestCase.settings = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "10")),
    stateful_step_count=40,
    deadline=None,
    phases=(
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ),  # shrinking may take minutes, and time does not shrink
    suppress_health_check=list(HealthCheck),
)
TestNothingIsLostOrDoubledOverAnyLife = DiskQueueLife.TestCase
