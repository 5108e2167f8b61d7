"""What an operator can do to a running daemon: pause and resume a target, flush it, replay or purge letters.

Invariants:
- A dead letter is removed only where its event is accepted again: in the transaction that stores it, or, if
  the queue is not in the storage, after it is there. At any moment it is a letter, an event, or both.
- What changes dead letters here is done one after the other.
- Each step is bounded; a client that wants more sends another request, at its own pace.
- Nothing of it outlives the process: a restart resumes every target.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from forwarder.control.purging import Purged, Purging, Wanting
from forwarder.cures import cure
from forwarder.dead_letters import BatchOf, DeadLetters, Letter, Wanted, removal
from forwarder.delivery.gate import Gate
from forwarder.logs import limited
from forwarder.metrics import TargetMetrics
from forwarder.model import STORED_JSON, Clock, Event, Limits, QueueFull, QueueView, Removal, memory_bytes
from forwarder.nearest import did_you_mean
from forwarder.queues.queue import Chosen, NameOf, Queue
from forwarder.states import Reason, State
from forwarder.storage import StorageError

OPERATOR = "operator"
FLUSH_SECONDS = 2.0
"""How long a flush waits for what comes of it: less than clients wait for an answer."""

LOOK_SECONDS = 0.02
STEP_LETTERS = 500
STEP_BYTES = 4 << 20
STEP_PURGED = 5_000
"""What one step handles at most, so that no other job of the storage waits long for it."""


class UnknownTarget(Exception):
    """There is no such target; the message names those there are."""


class Stopping(Exception):
    """The daemon stops and takes nothing back any more."""


class TargetHandle(msgspec.Struct, frozen=True):
    """The parts of one target that an operator can act on. ``batch_of``: see there. ``name_of``: the bus, app
    monitor or project of an event, from its body and its key. ``metrics`` counts what is purged. ``hurry``:
    asks again about its names and credentials; ``is_asking`` while an answer is about to come.
    ``codec``: how the bodies of its events are encoded. ``aside``: why events wait while the
    target is open, and what to do."""

    name: str
    queue: Queue
    gate: Gate
    limits: Limits
    batch_of: BatchOf
    name_of: NameOf = lambda body, key: ""
    metrics: TargetMetrics | None = None
    hurry: Callable[[], None] = lambda: None
    is_asking: Callable[[], bool] = lambda: False
    codec: int = STORED_JSON
    aside: Callable[[], tuple[str, str]] = lambda: ("", "")


class Replayed(msgspec.Struct, frozen=True):
    """One step: the events taken back, those that cannot be, why the first could not, and how to go on:
    ``after`` and ``through`` of the next step, unless it was the last one."""

    replayed: int = 0
    failed: int = 0
    problem: str = ""
    after: int = 0
    through: int = 0
    more: bool = False


class Operations:
    """The operations. ``stop`` them before the queues are."""

    def __init__(self, targets: Iterable[TargetHandle], letters: DeadLetters, clock: Clock) -> None:
        self._targets = {each.name: each for each in targets}
        self._letters = letters
        self._clock = clock
        self._paused: set[str] = set()
        self._doubtful: set[str] = set()  # events in memory whose letters could not be removed
        self._changing = asyncio.Lock()
        self._stopping = False
        self._log = structlog.get_logger("control")

    def stop(self) -> None:
        """No more replays from here."""
        self._stopping = True

    @property
    def names(self) -> list[str]:
        return list(self._targets)

    def pause(self, name: str) -> dict[str, Any]:
        """Hold the target until ``resume``; what comes for it waits. Its state."""
        target = self._find(name)
        if name not in self._paused:
            self._paused.add(name)
            moment = datetime.fromtimestamp(self._clock.wall(), UTC)
            message = f"paused by an operator since {moment:%Y-%m-%dT%H:%M:%SZ}"
            target.gate.block(OPERATOR, message, Reason.OPERATOR)
        return _state(target)

    def resume(self, name: str) -> dict[str, Any]:
        target = self._find(name)
        self._paused.discard(name)
        target.gate.unblock(OPERATOR)
        return _state(target)

    async def flush(self, name: str) -> dict[str, Any]:
        """What waits is due now, a closed gate gives one call its try, and names are asked about again.

        The state after that, and whether it is the outcome (``answered``): an outcome is waited for, but not
        for long.
        """
        target = self._find(name)
        began = self._clock.monotonic()
        target.queue.flush()
        target.hurry()
        target.gate.retry_now()
        while not (answered := _has_outcome(target, began)):
            if self._clock.monotonic() - began >= FLUSH_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return {**_state(target), "answered": answered}

    async def count(self, wanted: Wanted) -> dict[str, int]:
        """How many dead letters are wanted, by target."""
        return await self._letters.count(wanted)

    async def purge(self, wanted: Wanted) -> int:
        """One step: delete letters that are wanted; how many that were, 0 when none is left."""
        limit = STEP_PURGED if wanted.limit is None else min(wanted.limit, STEP_PURGED)
        async with self._changing:
            purged = await self._letters.purge(msgspec.structs.replace(wanted, limit=limit))
        if purged:
            limited(self._log, "purged").info("dead letters deleted by an operator", letters=purged)
        return purged

    async def count_queue(self, name: str, chosen: Chosen) -> Wanting:
        """One step: how many waiting events are chosen, and what they would need as dead letters."""
        async with self._changing:
            return await self._purging(self._find(name)).count(chosen)

    async def purge_queue(self, name: str, chosen: Chosen) -> Purged:
        """One step: waiting events that are chosen become dead letters, or are deleted."""
        target = self._find(name)
        async with self._changing:
            if self._stopping:
                raise Stopping("the daemon is stopping")
            purged = await self._purging(target).step(chosen)
        if purged.purged:
            what = "deleted" if chosen.delete else "moved to the dead letters"
            limited(self._log, f"{name} queue purged").warning(
                f"queued events {what} by an operator", target=name, events=purged.purged
            )
        return purged

    def _purging(self, target: TargetHandle) -> Purging:
        metrics = target.metrics or TargetMetrics(target.name)
        return Purging(target.name, target.queue, self._letters, metrics, self._clock)

    async def replay(self, name: str, wanted: Wanted) -> Replayed:
        """One step: put letters of the target back into its queue. QueueFull: it has no room now."""
        target = self._find(name)
        limit = STEP_LETTERS if wanted.limit is None else min(wanted.limit, STEP_LETTERS)
        wanted = msgspec.structs.replace(wanted, target=name, limit=limit)
        async with self._changing:
            page = await self._letters.page(wanted, STEP_BYTES, target.batch_of)
            if self._stopping:
                raise Stopping("the daemon is stopping")
            if not page.letters:
                return Replayed(after=wanted.after or 0, through=page.through)
            good, refused, after = self._choose(target, page.letters)
            if good:
                await self._accept(target, good)
                limited(self._log, f"{name} replayed").info(
                    "dead letters replayed by an operator", target=name
                )
        problem = refused[0] if refused else ""
        return Replayed(len(good), len(refused), problem, after, page.through, more=True)

    def _find(self, name: str) -> TargetHandle:
        target = self._targets.get(name)
        if target is None:
            known = ", ".join(self._targets)
            near = did_you_mean(name, self._targets)
            raise UnknownTarget(f'no such target: "{name}"; targets: {known}.{near}'.removesuffix("."))
        return target

    def _choose(
        self, target: TargetHandle, letters: Sequence[tuple[int, Letter]]
    ) -> tuple[list[Event], list[str], int]:
        """The events for which there is room now, the sentences on those that can never go, and how far that
        reaches."""
        view, now = target.queue.view(), self._clock.monotonic()
        room = _Room(view)
        good: list[Event] = []
        refused: list[str] = []
        after = 0
        for group in _together(letters, target.batch_of):
            problem = _wrong_codec(target, group[0][1]) or _damage(group)
            # only what is as it was written can be read
            events = [] if problem else [_again(letter, now, target.name_of) for _, letter in group]
            problem = problem or self._problem(target, events, view)
            if problem is not None:
                refused += [problem] * len(group)
            elif room.take(events):
                good += events
            else:
                break
            after = group[-1][0]
        if not good and not refused:
            raise QueueFull("the queue is full")
        return good, refused, after

    def _problem(self, target: TargetHandle, events: Sequence[Event], view: QueueView) -> str | None:
        most = target.limits.max_event_bytes
        for event in events:
            if event.id in self._doubtful:
                return f"{event.id} was replayed already, but its dead letter could not be removed"
            if event.size > most:
                return (
                    f"{event.id} has {event.size} bytes by AWS's formula; target {target.name} accepts "
                    f"at most {most}"
                )
        if len(events) > view.capacity_events or memory_bytes(events) > view.capacity_bytes:
            return f"{events[0].id} and the rest of its batch can never fit into the queue"
        return None

    async def _accept(self, target: TargetHandle, events: list[Event]) -> None:
        letters = LettersOf(self._letters, [event.id for event in events], self._doubtful)
        await target.queue.take_back(events, letters)
        if not letters.are_counted:
            await self._letters.expire()  # which counts what is left


class LettersOf:
    """The dead letters that a queue takes back. ``doubtful`` gets the ids of those that it accepted although
    their letters could not be removed."""

    def __init__(self, letters: DeadLetters, ids: Sequence[str], doubtful: set[str]) -> None:
        self._letters = letters
        self._ids = ids
        self._doubtful = doubtful
        self.are_counted = False

    def removal(self) -> Removal:
        return removal(self._ids)

    async def remove(self) -> None:
        self.are_counted = True
        try:
            await self._letters.remove(self._ids)
        except StorageError:
            self._doubtful.update(self._ids)
            raise


class _Room:
    """What a queue still has room for."""

    def __init__(self, view: QueueView) -> None:
        self._events = view.capacity_events - view.events
        self._bytes = view.capacity_bytes - view.waiting_bytes - view.in_flight_bytes

    def take(self, events: Sequence[Event]) -> bool:
        """Whether they fit; then their room is taken."""
        size = memory_bytes(events)
        if len(events) > self._events or size > self._bytes:
            return False
        self._events -= len(events)
        self._bytes -= size
        return True


def _together(letters: Sequence[tuple[int, Letter]], batch_of: BatchOf) -> Iterator[list[tuple[int, Letter]]]:
    """What must be accepted together: the neighbours of one batch, and each other letter by itself."""
    group: list[tuple[int, Letter]] = []
    for position, letter in letters:
        if group and (letter.key != group[-1][1].key or not batch_of(letter.key)):
            yield group
            group = []
        group.append((position, letter))
    yield group


def _wrong_codec(target: TargetHandle, letter: Letter) -> str | None:
    """Why a letter of another encoding cannot be sent; the neighbours of a batch have the same one."""
    if letter.codec == target.codec:
        return None
    return (
        f"{letter.id} has a body of codec {letter.codec}, but target {target.name} sends codec {target.codec}"
    )


def _again(letter: Letter, now: float, name_of: NameOf) -> Event:
    """The letter's event, as if it came now: what it waited and failed before does not end it again."""
    name = name_of(letter.body, letter.key)
    return Event(letter.id, letter.body, letter.size, letter.key, now, name=name)


def _damage(group: Sequence[tuple[int, Letter]]) -> str | None:
    """Why letters that are not as they were written stay where they are."""
    for _, letter in group:
        if letter.damaged:
            return f"the dead letter {letter.id} is damaged: its checksum does not match"
    return None


def _has_outcome(target: TargetHandle, since: float) -> bool:
    """Whether it is known what comes of a flush: names are asked about, and a call was tried or cannot be."""
    if target.is_asking():
        return False
    gate = target.gate
    return gate.is_blocked or target.queue.sendable == 0 or gate.has_recorded_since(since)


def _state(target: TargetHandle) -> dict[str, Any]:
    gate, queue = target.gate.view(), target.queue.view()
    if gate.state is State.OPEN:
        message, remedy = target.aside()
    else:
        message, remedy = gate.message, cure(gate.state, gate.reason).text
    return {
        "target": target.name,
        "state": gate.state,
        "reason": gate.reason,
        "since": gate.since_wall,
        "message": message,
        "cure": remedy,
        "waiting": queue.waiting_events,
        "in_flight": queue.in_flight_events,
    }
