"""The interface of a queue and its types. ``memory`` and ``disk`` implement it; all other packages use it.

Invariants:
- Nobody asks which kind a queue is. What kinds do differently is a member here.
- Every method that is not ``async`` is plain: it never waits, so that nothing comes between a decision and
  its record. A queue that must tell a disk or a server does so later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec

from forwarder.model import AsideView, Batch, Event, QueueView, Removal

NameOf = Callable[[bytes, bytes], str]
"""The bus, app monitor or project of an event, from its body and its key."""

Bury = Callable[[Any, Sequence[Event]], None]
"""Keeps events as dead letters inside a transaction of the storage, or raises."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What became of taken events; each of them is in one of these.

    ``gone``: delivered, or kept as a dead letter. ``retry``: to be tried again, now (at the front) or
    after their ``not_before``. ``parts``: of a refused batch, each to be tried by itself, now. ``aside``:
    each to be tried by itself after its ``not_before``, behind all that waits by then; ``part``: they
    were in a part of a refused batch.
    """

    gone: Sequence[Event] = ()
    retry: Sequence[Event] = ()
    parts: Sequence[Sequence[Event]] = ()
    aside: Sequence[Sequence[Event]] = ()
    part: bool = False


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events that an operator purges: those that match every member given. ``name``: the bus, app monitor
    or project, "" for the default bus; ``older_than`` in seconds. ``after``: where an earlier step ended."""

    name: str | None = None
    older_than: Annotated[float, msgspec.Meta(ge=0)] | None = None
    delete: bool = False
    after: int = 0

    def picks(self, now: float) -> Callable[[Event], bool]:
        """Whether an event is wanted, at this moment of the clock that its ``received_at`` is told by."""
        name = self.name
        before = float("inf") if self.older_than is None else now - self.older_than
        return lambda event: event.received_at <= before and (name is None or event.name == name)


class Gone(NamedTuple):
    """What left one row."""

    place: int
    events: int
    bytes: int


class Page(NamedTuple):
    """One step over events that are not in memory: what left, how far it came, whether that was the end.
    ``wanted`` and ``cost``: the events that were wanted, and the bytes of their bodies and keys."""

    gone: list[Gone]
    after: int
    ended: bool
    wanted: int
    cost: int


class Letters(Protocol):
    """The dead letters of the events that a queue takes back. It removes them in one of two ways, and only
    where it has accepted the events."""

    def removal(self) -> Removal:
        """Removes them inside the transaction of the storage that stores the events, or raises."""

    async def remove(self) -> None:
        """Remove them once the events are accepted elsewhere. The removal has begun when this first waits."""


class Queue(Protocol):
    """Where one target's events wait.

    Events of a name that is not open (``Names``) are set aside: they stay in the queue and inside its bounds,
    but ``ripe`` and ``take`` never see them until ``release``.

    An event that was taken and not yet settled still belongs to the queue: it is counted, it is inside the
    bound, and ``aclose`` returns or keeps it. A put takes all of its events or none.
    """

    @property
    def durable(self) -> bool:
        """Whether an accepted event survives a kill of the process."""

    @property
    def stored_as(self) -> tuple[str, str] | None:
        """The name and the kind of the target under which its events are in the daemon's storage; None for a
        queue that keeps them elsewhere."""

    @property
    def knows_ages(self) -> bool:
        """Whether events may expire: not while a clock in doubt gave some of them their age."""

    async def open(self) -> None:
        """Find what an earlier process left; it is handed out first. StorageError when that cannot be."""

    def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> asyncio.Future[None] | None:
        """None: the events are accepted. A future: they are accepted when it is done.

        Raises QueueFull or QueueUnavailable, here or by the future, when none was accepted. Several puts may
        share a future, so wait for it with ``asyncio.shield``; the put goes on when nobody waits.

        ``complete``: they are one batch already (equal keys) and leave together, at once.
        """

    async def take_back(self, events: Sequence[Event], letters: Letters) -> None:
        """Accept events that were dead letters, and remove these: in one transaction where there is one, else
        the letters last. What either raises is raised."""

    async def ripe(self) -> bool:
        """Wait until a batch is due; False when the queue is closed."""

    def take(self) -> Batch | None:
        """The oldest due batch, formed as late as possible; None when another worker was first."""

    def settle(self, settlement: Settlement) -> None:
        """Say what became of taken events."""

    def removal_for(self, events: Sequence[Event]) -> Removal | None:
        """What removes taken events in the same transaction that stores them as dead letters.

        None for a queue that keeps nothing in the storage. ``settle`` must follow in any case.
        """

    def take_expired(self, received_before: float) -> list[Event]:
        """Take the waiting events received before that moment (monotonic seconds)."""

    def age_again(self) -> None:
        """Age what only the wall clock can age by what it says now, if it was stepped."""

    def waiting(self) -> Iterator[Event]:
        """The events in memory that wait, set aside or not."""

    def take_wanted(self, is_wanted: Callable[[Event], bool], most: int) -> list[Event]:
        """Take the waiting events in memory that are wanted, set aside or not: about ``most`` in one step."""

    async def purge_rows(
        self, chosen: Chosen, bury: Bury | None, *, dry: bool = False, gone: Callable[[int], None] = ...
    ) -> Page:
        """One step over the events that are not in memory: remove what is chosen. ``dry``: only count, also
        what is in memory. ``gone`` is called with the number of events that left, in the step in which the
        queue forgets them."""

    def drain(self) -> None:
        """From now on everything that waits is due, whatever its ``not_before``; a put still works."""

    def flush(self) -> None:
        """What waits now is due now, whatever its ``not_before``. What is set aside stays there."""

    def release(self, name: str) -> None:
        """Events set aside for this name may be sent, in the order they came."""

    def set_aside(self, name: str) -> None:
        """Keep the waiting events of this name apart from now on."""

    def probe(self, name: str) -> bool:
        """Let one batch of the events set aside for this name go. False: there is none."""

    def share_refusal(self, name: str, peer: str, events: int, size: int) -> str | None:
        """Why so many events of ``size`` bytes (as ``memory_bytes`` counts) are not accepted now, since the
        share of events that are set aside is used up; None when they are."""

    def aside_view(self) -> Mapping[str, AsideView]:
        """What is set aside, by name."""

    @property
    def sendable(self) -> int:
        """Its events that are not set aside."""

    def __len__(self) -> int:
        """Its events, waiting and in flight."""

    def room(self) -> int:
        """How many events of usual size fit now; 0 when not even the smallest does. A put decides."""

    @property
    def memory(self) -> int:
        """Bytes its events hold in memory, about."""

    def view(self) -> QueueView:
        """The queue's depth, counted now."""

    async def aclose(self) -> list[Event]:
        """End the queue, once no worker holds events of it. Returns the events that are lost by that.

        Events that may be written as dead letters at any moment (``removal_for`` was called, ``settle`` was
        not) are not among the lost, and may be settled later. Afterwards ``len`` and ``view`` say what is
        kept for the next start, and these.
        """

    def forget(self) -> int:
        """The daemon's storage is gone or not waited for any longer, with what the closed queue had there or
        on its way there: how many events that were."""
