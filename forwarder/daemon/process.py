"""The composition root: builds all parts of the daemon, starts them, and stops them in a numbered order.

Invariants:
- Only this file and ``lanes`` know all packages; the order of start and stop is here and nowhere else.
- Starting needs no AWS: a target without credentials, name or route is shown as held, and delivers within
  one probe once they appear.
- Any task that ends unexpectedly (``tasks.py``) stops the daemon, with its report and exit code 70.
- At the end every event is delivered, a dead letter, or counted as dropped: the report balances.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from forwarder import __version__, logs
from forwarder.admin.server import MAX_AGE_SECONDS, AdminServer
from forwarder.clock import ClockWatch
from forwarder.config import Config, redacted
from forwarder.control.operations import Operations
from forwarder.control.rescues import RESCUES
from forwarder.control.server import ControlServer
from forwarder.cures import OF_NOTES, Note
from forwarder.daemon.lanes import Shared, build
from forwarder.daemon.memory import budget_for
from forwarder.daemon.refusal_log import RefusalLog
from forwarder.daemon.reload import Rereading
from forwarder.daemon.report import ending_of, say_ledgers
from forwarder.daemon.senders import Senders
from forwarder.daemon.start_errors import StartError, cannot_listen, cannot_open
from forwarder.daemon.start_lines import say_inherited, say_memory_only, say_targets
from forwarder.daemon.status import Status
from forwarder.daemon.tasks import Tasks
from forwarder.dead_letters import DeadLetters
from forwarder.delivery.burial import sweep
from forwarder.delivery.lane import Lane
from forwarder.delivery.worker import work
from forwarder.exit_codes import EXIT_INTERNAL, EXIT_LOST, EXIT_OK
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.server import IngestServer
from forwarder.listening import CannotListen
from forwarder.metrics import Metrics
from forwarder.model import Clock, SystemClock
from forwarder.queues import registry
from forwarder.receipts import Receipts
from forwarder.sockets import url_of
from forwarder.storage import Storage, StorageError
from forwarder.targets import known_apis
from forwarder.targets.warm_up import warm_up

FINISH_REQUESTS_SECONDS = 5.0
CLOSE_SECONDS = 10.0
LETTERS_EXPIRE_SECONDS = 600.0
DRAIN_LOOK_SECONDS = 0.02
LOOK_SECONDS = 1.0
LASTING_REASONS = ("format", "network", "unsafe", "path")
"""Troubles of the storage that no restart mends."""


class Daemon:
    """One forwarder: ``start`` it, await ``stop_asked``, then ``stop`` it.

    ``given``: sockets to listen on, by name, in place of the configured addresses. ``path``: of the
    file that the configuration is from. ``admin_max_age``: seconds for which admin answers are given again.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock | None = None,
        given: Mapping[str, Sequence[socket.socket]] | None = None,
        path: str | None = None,
        admin_max_age: float = MAX_AGE_SECONDS,
    ) -> None:
        self._config = config
        self._given = given or {}
        self._clock = clock or SystemClock()
        self._log = structlog.get_logger("daemon")
        self._metrics = Metrics(self._clock)
        self._clock_watch = ClockWatch(self._clock)
        self._refusal_log = RefusalLog(self._metrics)
        self._storage = self._make_storage()
        self._letters = self._make_letters()
        self._receipts = Receipts()
        parts = self._metrics, self._storage, self._letters, self._receipts, self._clock_watch
        shared = Shared(config, self._clock, *parts)
        self._built = {name: build(shared, name) for name in config.targets}
        self._lanes = {name: each.lane for name, each in self._built.items()}
        self._queues = {name: each.queue for name, each in self._lanes.items()}
        self._stored = {name: queue for name, queue in self._queues.items() if queue.stored_as is not None}
        self._budget = budget_for(config)
        self._senders = Senders(config.ingest, self._clock, self._metrics.senders)
        self.rereading = Rereading(self._senders.files, config, path)
        self._ingest = self._make_ingest()
        self._status = Status(shared, self._built)
        self._admin = self._make_admin(admin_max_age)
        operations = Operations([each.handle for each in self._built.values()], self._letters, self._clock)
        self._control = ControlServer(operations, config.storage.control_socket(), self._listeners)
        self._watch_numbers()
        self.stop_asked = asyncio.Event()
        self._tasks = Tasks(self._give_up, self.stop_asked.is_set, self._stored_events)
        self._ready = False
        self._failed = False
        self._tell_change: Callable[[], None] = lambda: None
        self.ending = ""
        self._hurry = asyncio.Event()

    # --- build

    def _make_storage(self) -> Storage:
        settings = self._config.storage
        return Storage(
            settings.directory(),
            max_bytes=settings.max_bytes,
            linger=settings.linger,
            clock=self._clock,
            metrics=self._metrics.storage,
            rescues=RESCUES,
            earlier=settings.parent(),
        )

    def _make_letters(self) -> DeadLetters:
        bounds = self._config.storage.dead_letters
        return DeadLetters(
            self._storage,
            max_bytes=self._config.storage.dead_letters_bytes,
            max_age=bounds.max_age,
            clock=self._clock,
            on_dropped=self._count_dropped_letters,
            watch=self._clock_watch,
            codec_of=lambda target: self._config.targets[target].api.codec.stored,
        )

    def _make_ingest(self) -> IngestServer:
        return IngestServer(
            self._config.ingest,
            Bindings([each.route for each in self._built.values()], known_apis()),
            self._budget,
            self._metrics,
            self._clock,
            receipts=self._receipts,
            guard=self._senders.guard,
            tls=self._senders.tls,
            sending=self._is_sending,
        )

    def _make_admin(self, max_age: float) -> AdminServer:
        return AdminServer(
            self._metrics,
            self._status,
            lambda: self._ready,
            partial(redacted, self._config),
            self._config.admin.hosts,
            max_age,
        )

    def _watch_numbers(self) -> None:
        """Have the metrics ask for what nobody counts."""
        config, metrics = self._config, self._metrics
        metrics.storage.size = lambda: (self._storage.size(), config.storage.max_bytes)
        metrics.http.waits = lambda: len(self._receipts.waits)
        metrics.process.budget = lambda: (self._memory_used(), config.ingest.memory_budget)
        metrics.process.log_lines_dropped = logs.dropped_lines
        none = dict.fromkeys(config.targets, (0, 0))
        metrics.watch_dead_letters(lambda: {**none, **self._letters.view()})

    def _listeners(self) -> dict[str, list[str]]:
        """The URLs of both listeners, for a client that knows the control socket alone."""
        scheme = "http" if self._config.ingest.tls is None else "https"
        return {
            "ingest": [url_of(each, scheme) for each in self._ingest.addresses],
            "admin": [url_of(each) for each in self._admin.addresses],
        }

    def _count_dropped_letters(self, target: str, count: int) -> None:
        self._metrics.for_target(target).dead_letters_dropped += count

    def _is_sending(self) -> bool:
        return any(lane.gate.calling for lane in self._lanes.values())

    def _memory_used(self) -> int:
        return self._budget.used + sum(lane.queue.memory for lane in self._lanes.values())

    @property
    def ingest_address(self) -> str:
        """Where it listens once started, with the port in use."""
        return self._ingest.address

    @property
    def admin_address(self) -> str:
        return self._admin.address

    @property
    def alive(self) -> bool:
        """No task has ended unexpectedly."""
        return not self._failed

    @property
    def longest_stop(self) -> float:
        """Seconds that a stop takes at most, also where nothing answers."""
        given = self._config.shutdown
        return given.input_grace + given.drain_timeout + FINISH_REQUESTS_SECONDS + 5 * CLOSE_SECONDS

    def line(self) -> str:
        """How it goes, in one line."""
        return self._status.line()

    def tell_changes(self, tell: Callable[[], None]) -> None:
        """From now on call this whenever ``line`` changes in more than numbers."""
        self._tell_change = tell
        for lane in self._lanes.values():
            lane.gate.on_change(tell)

    # --- start

    async def start(self) -> None:
        """Open the files and the storage, start every task, then the listeners.

        Raises StartError or ConfigError, with a sentence.
        """
        await self._senders.open(self._given.get("ingest", ()))
        warming = asyncio.create_task(warm_up(self._config.targets.values()))
        try:
            await self._storage.open()
            await self._letters.open()
            await self._load_names()  # before the queues, whose first events ask for them
            await self._open_queues()
        except StorageError as problem:
            warming.cancel()
            message = f"storage {self._config.storage.directory()}: {problem}"
            raise StartError(message, lasting=problem.reason in LASTING_REASONS) from None
        for lane in self._lanes.values():
            self._start_lane(lane)
        if self._stored:  # else a broken disk costs no event its promise: dead letters wait in memory
            self._tasks.start(self._storage.watch(), "storage")
        self._tasks.start(self._metrics.run(), "metrics")
        self._tasks.start(self._expire_letters(), "dead letters")
        self._tasks.start(self.rereading.run(), "reading again")
        await warming  # before anybody can send, since nobody waits for it then
        await self._listen()
        self._tasks.start(self._look_around(), "sockets and clock")
        say_inherited(self._given, self._config, {"ingest": self.ingest_address, "admin": self.admin_address})
        self._ready = True
        say_targets(self._built, self._config.targets)
        say_memory_only([name for name, queue in self._queues.items() if not queue.durable])
        self._log.info(
            "ready",
            version=__version__,
            ingest=self._ingest.address,
            admin=self._admin.address,
            control=f"unix:{self._control.path}",
            storage=str(self._config.storage.directory()),
        )

    async def _load_names(self) -> None:
        for each in self._built.values():
            if each.remembered is not None:
                await each.remembered.load()

    async def _open_queues(self) -> None:
        for name, queue in self._queues.items():
            try:
                await queue.open()
            except OSError as problem:
                raise cannot_open(f"targets.{name}.queue", problem) from None
        if found := {name: len(queue) for name, queue in self._queues.items() if len(queue)}:
            self._log.info("events recovered from an earlier run; sending them first", events=found)
        owners = frozenset(filter(None, (queue.stored_as for queue in self._queues.values())))
        self._status.stranded = await self._storage.run(partial(registry.stranded, opened=owners))
        if self._status.stranded:
            self._log.warning(
                "events on disk have no target with a disk queue",
                events=self._status.stranded,
                runbook=OF_NOTES[Note.STRANDED].page,
            )

    def _start_lane(self, lane: Lane) -> None:
        for number in range(self._config.targets[lane.name].workers):
            self._tasks.start(work(lane), f"{lane.name} worker {number}")
        self._tasks.start(sweep(lane), f"{lane.name} sweep")
        target = self._built[lane.name].target
        if (remembered := self._built[lane.name].remembered) is not None:
            self._tasks.start(remembered.run(), f"{lane.name} remembered names")
        self._tasks.start(target.watch(lane.queue, lane.hold), f"{lane.name} names")

    async def _listen(self) -> None:
        config, given = self._config, self._given.get
        starts: dict[str, Callable[[], Awaitable[None]]] = {
            f"control socket {self._control.path}": self._control.start,
            "admin.listen": lambda: self._admin.start(config.admin.listen, given("admin", ())),
            "ingest.listen": lambda: self._ingest.start(given("ingest", ())),
        }
        for name, start in starts.items():
            try:
                await start()
            except OSError as problem:
                await self._tasks.cancel(CLOSE_SECONDS)
                await self._close_queues()  # what was delivered meanwhile is written
                await self._close()
                place = problem.place if isinstance(problem, CannotListen) else ""
                raise cannot_listen(f"{name}{place}", problem) from None

    async def _look_around(self) -> None:
        """See that nobody deleted a unix socket, set the clock, or is in trouble; log what was refused."""
        troubles: list[str] = []
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._clock_watch.look()
            self._refusal_log.look(self._clock.monotonic())
            before, troubles = troubles, self._status.troubles()
            if troubles != before:
                self._tell_change()
            for queue in self._queues.values():
                queue.age_again()
            for each in (self._control, self._admin, self._ingest):
                await each.renew()

    def _give_up(self) -> None:
        """Stop with exit code 70: a task ended unexpectedly."""
        self._failed = True
        self.stop_asked.set()

    def _stored_events(self) -> dict[str, int]:
        return {name: len(queue) for name, queue in self._stored.items()}

    async def _expire_letters(self) -> None:
        while True:
            await asyncio.sleep(LETTERS_EXPIRE_SECONDS)
            with contextlib.suppress(StorageError):  # the storage says it; the next round tries again
                await self._letters.expire()

    # --- stop

    def ask_to_stop(self) -> None:
        """Stop in order; asked a second time, stop draining."""
        if self.stop_asked.is_set():
            self._hurry.set()
        self.stop_asked.set()

    async def stop(self) -> int:
        """Stop in the numbered order, and say the report; the exit code."""
        grace, drain_timeout = self._config.shutdown.input_grace, self._config.shutdown.drain_timeout
        self._ready, self._metrics.process.draining = False, True  # 1: not ready; answers close connections
        self._log.info("stopping", input_grace=float(grace), drain_timeout=float(drain_timeout))
        self._ingest.begin_draining()
        for each in self._built.values():  # 2: every back-off ends, each batch gets its try
            each.lane.queue.drain()
            each.lane.gate.drain()
            each.target.hurry()
        # 3: programs that stop with us send their last events
        await self._unless_hurried(asyncio.sleep(grace))
        self._ingest.stop_accepting()  # 4: no new events, and none of the dead letters either
        self._receipts.close()  # who waits for a delivery gets an answer now: the events are accepted
        await self._control.close()
        await self._unless_hurried(self._ingest.finish_requests(FINISH_REQUESTS_SECONDS))
        await self._drain(drain_timeout)  # 5
        await self._tasks.cancel(CLOSE_SECONDS)  # 6: what is left is kept, or lost, as the queue says
        await self._close_queues()
        await self._close()  # 7
        self._count_unwritten()
        self._judge_storage()
        self._refusal_log.look(self._clock.monotonic(), last=True)
        return self._report()  # 8

    async def _unless_hurried(self, wait: Coroutine[Any, Any, None]) -> None:
        """Do this, or as much of it as there is time for until somebody hurries."""
        tasks = [asyncio.ensure_future(wait), asyncio.ensure_future(self._hurry.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, seconds: float) -> None:
        ends = asyncio.get_running_loop().time() + seconds
        while not all(lane.done for lane in self._lanes.values()):
            if self._hurry.is_set() or asyncio.get_running_loop().time() > ends:
                return
            await asyncio.sleep(DRAIN_LOOK_SECONDS)

    async def _close_queues(self) -> None:
        """End the queues at once: one may wait for a server that does not answer, for so long."""
        await asyncio.gather(*map(self._close_queue, self._queues))

    async def _close_queue(self, name: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                lost = len(await self._queues[name].aclose())
        except TimeoutError:
            self._log.error("queue does not respond; it was not closed", target=name)
            self._failed |= not self._queues[name].durable  # else what was accepted is there in any case
            return
        except Exception:  # the others must be closed all the same, and the report said
            self._log.error("queue could not be closed", target=name, exc_info=True)
            self._failed = True
            return
        if lost:
            self._metrics.for_target(name).settled(dropped={"shutdown": lost})

    async def _close(self) -> None:
        await self._tasks.cancel(CLOSE_SECONDS)
        await self._control.close()
        await self._ingest.close()
        for lane in self._lanes.values():
            await lane.target.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for each in self._built.values():
                    if each.remembered is not None:
                        await each.remembered.save()
                await self._storage.close()
                await self._tasks.cancel(CLOSE_SECONDS)  # dead letters on their way are written by now
        except TimeoutError:
            self._log.error("storage did not respond and was not closed")
        await self._admin.close()

    def _count_unwritten(self) -> None:
        """Events whose dead letters could not be written, and that no queue keeps either, are lost."""
        for name, queue in self._queues.items():
            if not queue.durable and (lost := queue.forget()):
                self._metrics.for_target(name).settled(dropped={"shutdown": lost})

    def _judge_storage(self) -> None:
        """What a storage that is no longer at its path had is lost, unless somebody finds it."""
        problem = self._storage.ended_by
        if problem is None:
            return
        self._failed = True
        if isinstance(problem, StorageError) and problem.reason == "replaced":
            for name, queue in self._queues.items():
                if lost := queue.forget():
                    self._metrics.for_target(name).settled(dropped={"storage": lost})
            letters = sum(events for events, _ in self._letters.view().values())
            self._log.error("storage lost", reason=str(problem), dead_letters=letters)

    def _report(self) -> int:
        """Say where every event went; the exit code."""
        kept = sum(map(len, self._stored.values())) if self._storage.ended_by is not None else None
        total = say_ledgers({name: self._metrics.ledger(name) for name in self._lanes}, kept)
        self.ending = ending_of(total)
        if self._failed:
            return EXIT_INTERNAL
        return EXIT_LOST if total["dropped"] else EXIT_OK
