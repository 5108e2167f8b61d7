"""The part of a queue that is in memory: groups that form, and events in a worker's hands.

Invariants:
- An event that was taken and not settled is still here, counted, and returned by ``close``.
- Every settled event was taken before, exactly once; anything else is an error, not a count that drifts.
- It knows no bounds and moves no metrics: the queue around it does.
- Events of names that are not open are in the set-aside place and in no group; while every name is open they
  cost one look-up.
- Events of a name that closes leave the groups within ``SWEEP_SECONDS``; ``take`` never hands them out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter

from forwarder.model import Batch, Clock, Event, Flush, Limits, Names, memory_bytes
from forwarder.queues.aside import AsidePlace, Moved
from forwarder.queues.clumps import Clump, Parked
from forwarder.queues.forming import Forming
from forwarder.queues.queue import Settlement
from forwarder.queues.releasing import Releasing
from forwarder.waiters import FOREVER, WaitQueue

SWEEP_SECONDS = 0.05
"""A look through all groups for events of closed names comes no sooner after the one before."""

SKIPPED_EVENTS = 5000
"""One ``take`` passes over so many events of closed names, about."""


class Front:
    """The events of one queue that can be taken now. ``len()`` counts those that wait and those in flight."""

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        names: Names | None = None,
        moved: Moved | None = None,
        fetch: Callable[[Parked], None] = lambda parked: None,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._forming = Forming(limits)
        self._taken: dict[int, Event] = {}  # by identity: two events may have one id
        self._waiters = WaitQueue(self._must_wait)
        self._closed = False
        self._names = names
        self._closing: set[str] = set()  # names of which events may still be in groups
        self._swept_at = float("-inf")
        self._sweeper: asyncio.TimerHandle | None = None
        self.aside = AsidePlace(moved)
        self.releasing = Releasing(self.aside, self._let_go, self._woken, fetch)
        self.forming_bytes = 0
        self.taken_bytes = 0

    def add(self, events: Sequence[Event], size: int, *, complete: bool = False) -> None:
        """Put events behind all that waits; ``size`` is their ``memory_bytes``."""
        now = self._clock.monotonic()
        if self._names is not None and (closed := self.closed_among(events)):
            if not self._closing.isdisjoint(closed):
                self._sweep()  # what is still in groups came before these
            before = self.aside.bytes
            events = self._set_apart(events, closed, sealed=complete)
            size -= self.aside.bytes - before
            if not events:
                return
        if complete:
            self._forming.add_complete(events, now)
        else:
            self._forming.add(events, now)
        self.forming_bytes += size
        self._waiters.wake_next()

    async def ripe(self) -> bool:
        """Wait until a batch is due; False once this is closed."""
        # A woken worker may wait at the gate before it takes. No other needs to be woken for that batch,
        # because all workers of a queue wait at the same gate.
        if self._must_wait() > 0:  # else this worker is as good as one that waits, which had to be woken
            await self._waiters.wait_turn()
        if self._closed:
            self._waiters.wake_next()  # each wakes the next, so that all leave
        return not self._closed

    def take(self) -> Batch | None:
        now = self._clock.monotonic()
        batch = self._forming.take(now) if not self._closing else self._take_open(now)
        if batch is not None:
            self._hold(batch.events)
            self._waiters.wake_next()
        return batch

    def release(self, name: str) -> None:
        """Let the events of this name go; those in groups stay there."""
        self._closing.discard(name)
        self.releasing.begin(name)

    def set_aside(self, name: str) -> None:
        """Keep the events of this name apart, also those in groups."""
        if name in self.releasing.going:  # what has left already is older than what is still aside
            self.releasing.end(name)
            self._sweep()
            self._closing.add(name)
            self._sweep(back=True)
            return
        self._closing.add(name)
        loop = asyncio.get_running_loop()
        if self._sweeper is None:
            wait = self._swept_at + SWEEP_SECONDS - loop.time()
            if wait <= 0:
                self._sweep()
            else:
                self._sweeper = loop.call_later(wait, self._sweep)

    def probe(self, name: str) -> bool:
        """Let one batch of this name go, before all others; False when none is in memory."""
        first = self.aside.first(name)
        if not isinstance(first, Clump) or first.moving:
            return False
        if name in self._closing:
            self._sweep()  # else the probe would be taken for what is still in the groups
        clump = self.aside.pop_batch(name, self._limits.max_events, self._limits.max_bytes)
        self._forming.put_back(clump.events, part=clump.part, sealed=True)
        self.forming_bytes += clump.size
        self._waiters.wake_next()
        return True

    def closed_among(self, events: Sequence[Event]) -> set[str]:
        """The names of these that are not open, or that have older events to go first.

        Events of one put are of one peer, so its first is asked for; where some are closed, all are.
        """
        assert self._names is not None
        names = {event.name for event in events}
        names.discard("")
        if not names:
            return names
        is_open, going, first = self._names.is_open, self.releasing.going, events[0].peer
        closed = {name for name in names if not is_open(name, first) or name in going}
        if closed:
            for name, peer in set(map(_name_and_peer_of, events)):
                if name in closed and peer != first:
                    is_open(name, peer)
        return closed

    def settle(self, settlement: Settlement) -> None:
        self._release(settlement.gone)
        if settlement.retry or settlement.parts or settlement.aside:
            self._return(settlement, self._clock.monotonic())
        self._waiters.wake_next()

    def take_expired(self, received_before: float) -> list[Event]:
        return self.take_wanted(lambda event: event.received_at < received_before)

    def take_wanted(self, is_wanted: Callable[[Event], bool], most: int | None = None) -> list[Event]:
        """Take the waiting events that are wanted, set aside or not; ``most``: about so many."""
        wanted = self._forming.remove(is_wanted, most)
        self._hold(wanted)
        left = None if most is None else most - len(wanted)
        if left is None or left > 0:
            apart = self.aside.remove(is_wanted, left)
            self._keep_hold_of(apart)
            wanted += apart
        return wanted

    def waiting(self) -> Iterator[Event]:
        """The events in memory that wait, set aside or not."""
        yield from self._forming
        yield from self.aside

    def age_again(self, received_at: Callable[[Event], float | None]) -> None:
        """Give the events that have another moment than they had (not None) their new one."""
        for event in (*self._taken.values(), *self._forming, *self.aside):
            if (at := received_at(event)) is not None:
                event.received_at = at
        self._forming.age_again()

    def drain(self) -> None:
        self._forming.drain(self._clock.monotonic())
        self._waiters.wake_next()

    def flush(self) -> None:
        self._forming.flush(self._clock.monotonic())
        self._waiters.wake_next()

    def close(self) -> list[Event]:
        """End every wait and let go of everything; what was here."""
        left = [*self._taken.values(), *self._forming, *self.aside]
        self._forming = Forming(self._limits)
        self._taken = {}
        self.aside.clear()
        self.releasing.close()
        self.forming_bytes = self.taken_bytes = 0
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._closed = True
        self._waiters.wake_next()
        return left

    def __len__(self) -> int:
        return len(self._forming) + len(self._taken) + self.aside.events

    @property
    def sendable(self) -> int:
        """Its events that are not set aside."""
        return len(self._forming) + len(self._taken)

    @property
    def waiting_events(self) -> int:
        return len(self._forming) + self.aside.events

    @property
    def waiting_bytes(self) -> int:
        return self.forming_bytes + self.aside.bytes

    @property
    def taken_events(self) -> int:
        return len(self._taken)

    @property
    def memory(self) -> int:
        return self.waiting_bytes + self.taken_bytes + self.aside.names_bytes

    @property
    def ready_share(self) -> float:
        """Which part of what is in groups is not delayed: 1 when nothing is."""
        waiting = len(self._forming)
        return 1.0 - self._forming.delayed_count / waiting if waiting else 1.0

    def oldest_at(self) -> float | None:
        """When the oldest event here was received. Walks the groups."""
        ages = [event.received_at for event in self._taken.values()]
        ages += [at for at in (self._forming.oldest_at(), self.aside.oldest_at()) if at is not None]
        return min(ages, default=None)

    def _hold(self, events: Sequence[Event]) -> None:
        self.forming_bytes -= self._keep_hold_of(events)

    def _keep_hold_of(self, events: Sequence[Event]) -> int:
        """These are taken now; the memory they hold."""
        size = memory_bytes(events)
        self.taken_bytes += size
        for event in events:
            self._taken[id(event)] = event
        return size

    def _release(self, events: Sequence[Event]) -> int:
        """Let taken events go; the memory they hold."""
        for event in events:
            del self._taken[id(event)]
        size = memory_bytes(events)
        self.taken_bytes -= size
        return size

    def _return(self, settlement: Settlement, now: float) -> None:
        retry, parts, aside = settlement.retry, settlement.parts, settlement.aside
        part = settlement.part
        returned = sum(self._release(events) for events in (retry, *parts, *aside))
        if self._names is not None:
            before = self.aside.bytes
            retry = self._kept_open(retry)
            parts = self._all_kept_open(parts, part=True)
            aside = self._all_kept_open(aside, part=part)
            returned -= self.aside.bytes - before
        self.forming_bytes += returned
        for events in aside:
            self._forming.step_aside(events, now, part=part)
        for events in reversed(parts):
            self._forming.put_back(events, part=True)
        if later := [event for event in retry if event.not_before]:
            self._forming.delay(later, now)
        if again := [event for event in retry if not event.not_before]:
            self._forming.put_back(again)

    # --- set aside

    def _set_apart(
        self,
        events: Sequence[Event],
        closed: Collection[str],
        *,
        sealed: bool,
        part: bool = False,
        back: bool = False,
    ) -> Sequence[Event]:
        """Set the events of these names aside; the others. What is sealed, and of one name, stays whole."""
        by_name: dict[str, list[Event]] = {}
        others = []
        for event in events:
            if event.name in closed:
                by_name.setdefault(event.name, []).append(event)
            else:
                others.append(event)
        for name, some in by_name.items():
            self.aside.add(name, some, sealed=sealed, part=part, back=back)
        return others

    def _kept_open(
        self, events: Sequence[Event], *, sealed: bool = False, part: bool = False
    ) -> Sequence[Event]:
        """Of events that come back those whose name is open; the others are set aside, before all others."""
        closed = self.closed_among(events) - self.releasing.going if events else set()
        if not closed:
            return events
        sealed |= self._limits.whole
        return self._set_apart(events, closed, sealed=sealed, part=part, back=True)

    def _all_kept_open(self, batches: Sequence[Sequence[Event]], *, part: bool) -> Sequence[Sequence[Event]]:
        return [
            kept for batch in reversed(batches) if (kept := self._kept_open(batch, sealed=True, part=part))
        ][::-1]

    def _must_wait(self) -> float:
        """Seconds until a batch is due; FOREVER when nothing waits."""
        if self._closed:
            return 0.0
        due_at = self._forming.next_due_at(now := self._clock.monotonic())
        return FOREVER if due_at is None else due_at - now

    def _let_go(self, clump: Clump) -> None:
        now = self._clock.monotonic()
        if clump.sealed:
            self._forming.add_complete(clump.events, now, part=clump.part)
        else:
            self._forming.add(clump.events, now)
        self.forming_bytes += clump.size

    def _woken(self) -> None:
        self._waiters.wake_next()

    def _take_open(self, now: float) -> Batch | None:
        """Like ``Forming.take``, while events of closed names are in the groups; those are set aside."""
        skipped = 0
        while skipped < SKIPPED_EVENTS and (batch := self._forming.take(now)) is not None:
            apart = [event for event in batch.events if event.name in self._closing]
            if not apart:
                return batch
            self.forming_bytes -= memory_bytes(apart)
            sealed = batch.part or self._limits.whole or batch.reason is Flush.KEY
            batch.events = list(self._set_apart(batch.events, self._closing, sealed=sealed, part=batch.part))
            batch.size = sum(event.size for event in batch.events)
            if batch.events:
                return batch
            skipped += len(apart)
        return None

    def _sweep(self, *, back: bool = False) -> None:
        """Set the events of closed names aside, out of every group; ``back``: before those that are."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if not self._closing:
            return
        self._swept_at = asyncio.get_running_loop().time()
        closing, self._closing = self._closing, set()
        groups = self._forming.remove_groups(lambda event: event.name in closing)
        for events, sealed, part in reversed(groups) if back else groups:
            self.forming_bytes -= memory_bytes(events)
            self._set_apart(events, closing, sealed=sealed, part=part, back=back)


_name_and_peer_of = attrgetter("name", "peer")
