"""Core data types. The interface of a queue is in ``queues.queue``.

Invariants:
- An Event's ``body`` is the target API's entry, serialised once, at ingest; nothing later changes it.
- Times named ``*_at`` and ``not_before`` are seconds on the monotonic clock, so a stepped wall clock
  expires nothing early and delays nothing; the wall clock is for people, for AWS and for the disk.
- Results carry exactly one Outcome per event of the batch, in the batch's order.
"""

from __future__ import annotations

import enum
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

Chance = Callable[[], float]
"""A source of numbers in [0, 1); a parameter wherever jitter is drawn, so that tests fix it."""


class Clock(Protocol):
    """Both clocks, in seconds; a parameter wherever time is read, so that tests can turn it."""

    def wall(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The clocks of this machine."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class Event(msgspec.Struct, gc=False, eq=False):
    """One event that a program sent, in its target API's wire form.

    ``size`` is what it costs against the API's byte limit, by AWS's formula; ``key`` is the call's envelope:
    only events with equal keys may share a call. ``attempts`` counts the answered calls that failed this
    event by itself, not the troubles of whole calls; ``returns`` counts the calls whose fate is unknown.
    ``name``: the bus, app monitor or project that must exist at AWS, "" where nothing needs to. ``peer``: who
    sent it, "" for an event that an earlier process accepted; neither is written to the disk.
    """

    id: str
    body: bytes
    size: int
    key: bytes
    received_at: float
    attempts: int = 0
    returns: int = 0
    not_before: float = 0.0
    name: str = ""
    peer: str = ""


EVENT_OVERHEAD_BYTES = 300
GROUP_OVERHEAD_BYTES = 300
"""What an event holds in memory beside its body and key: itself, its id, headers of bytes, places in
containers; and, if it has an envelope, maybe a group of its own. Measured with tracemalloc: 254 B where ten
share a group, 569 B where every event has its own."""


def memory_bytes(events: Sequence[Event]) -> int:
    """Bytes these events hold in memory, about."""
    size = len(events) * EVENT_OVERHEAD_BYTES
    for event in events:
        size += len(event.body)
        if event.key:
            size += len(event.key) + GROUP_OVERHEAD_BYTES
    return size


STORED_JSON = 0
"""The encoding of bodies on disk: JSON. Other encodings have other numbers (``apis.api.Codec``), and a number
is never used again."""


class Draft(msgspec.Struct, gc=False):
    """An event as an API admitted it: ``Event`` without what is known only when it enters its queue.

    ``id``: the one it was admitted with; "" lets whoever puts it into a queue give it one.
    """

    body: bytes
    size: int
    key: bytes
    name: str = ""
    id: str = ""


class Refusal(msgspec.Struct, gc=False):
    """Why one event was refused: the API's error code, and a sentence that names the field."""

    code: str
    message: str
    reason: str = "invalid"


class Flush(enum.StrEnum):
    """Why a batch left: full by count or by bytes, by time, complete as it came, retried, or drained."""

    COUNT = "count"
    BYTES = "bytes"
    TIME = "time"
    KEY = "key"
    RETRY = "retry"
    DRAIN = "drain"


class Limits(msgspec.Struct, frozen=True):
    """What one call of a target may carry. Bytes by the API's own formula; ``max_wait`` in seconds.

    With ``whole`` a batch, once sent, stays as it is on every further try (its identity is known to AWS).
    """

    max_events: int
    max_bytes: int
    max_event_bytes: int
    max_wait: float
    whole: bool = False


class Batch(msgspec.Struct, gc=False, eq=False):
    """Events taken together: one key, within the target's limits. ``part``: of a batch that was refused."""

    key: bytes
    events: list[Event]
    size: int
    reason: Flush
    part: bool = False


class Kind(enum.StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one attempt did to one event. ``code`` is from the API's closed set, else ``other``."""

    kind: Kind
    code: str = ""
    message: str = ""
    aws_id: str = ""


class CallStatus(enum.StrEnum):
    """What became of a call as a whole.

    OK: answered, entry by entry. THROTTLED: slow down. UNAVAILABLE: nobody knows whether it arrived, or it
    did not. HELD: credentials, access, clock, or a missing resource; nobody but a person can help.
    REFUSED: AWS read the call and will never take it as it is.
    """

    OK = "ok"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    HELD = "held"
    REFUSED = "refused"


class Results(msgspec.Struct, frozen=True, gc=False):
    """One Outcome per event of a batch, in order, and the call's own status.

    ``code`` and ``message`` are AWS's words for the call's trouble (``timeout`` when no answer came);
    ``delay`` is the seconds AWS asked us to wait, if it did. ``called`` is False when nothing was sent.
    """

    status: CallStatus
    outcomes: list[Outcome]
    code: str = ""
    message: str = ""
    delay: float | None = None
    called: bool = True

    @property
    def sentence(self) -> str:
        """The code and the message, for people."""
        return f"{self.code}: {self.message}" if self.message else self.code


def same_for_all(
    status: CallStatus, count: int, code: str, message: str, delay: float | None = None
) -> Results:
    """Results of a call that failed as a whole: every event is to be retried, the status says how."""
    outcome = Outcome(Kind.RETRY, code, message)
    return Results(status, [outcome] * count, code, message, delay)


class Dead(msgspec.Struct, frozen=True):
    """An event given up on. ``reason``: ``rejected`` by AWS, or ``expired`` (max_age, max_attempts)."""

    event: Event
    reason: str
    code: str
    message: str


Removal = Callable[[Any], None]
"""A job that takes events out of their queue; only the storage and the queue know what it is."""


class QueueFull(Exception):
    """The queue accepted none of the events. ``never``: they could not fit even an empty queue."""

    def __init__(self, message: str, *, never: bool = False) -> None:
        super().__init__(message)
        self.never = never


class QueueUnavailable(Exception):
    """The queue accepted none of the events, since they could not be stored; trying again may help."""


class Names(Protocol):
    """Which names the events of one target may be sent to: its buses, app monitors or projects.

    Plain: no method awaits anything. Whoever implements it tells the queue of every change, by the queue's
    ``release`` and ``set_aside``.
    """

    def is_open(self, name: str, peer: str) -> bool:
        """Whether events of this name may be sent now. A name that is not known yet is asked about, on behalf
        of ``peer``, and is not open until the answer. "" is always open."""

    def has_share(self, name: str) -> bool:
        """Whether events that wait for this name count against the set-aside share."""

    def reason(self, name: str) -> str:
        """Why events of this name wait, in a sentence; "" when they do not."""


class QueueView(msgspec.Struct, frozen=True):
    """A queue's depth at one moment, counted. ``oldest_at`` is None when it is empty."""

    waiting_events: int
    waiting_bytes: int
    in_flight_events: int
    in_flight_bytes: int
    capacity_events: int
    capacity_bytes: int
    oldest_at: float | None

    @property
    def events(self) -> int:
        return self.waiting_events + self.in_flight_events


class AsideView(msgspec.Struct, frozen=True):
    """What is set aside for one name, counted now. ``oldest_at`` in monotonic seconds."""

    events: int
    bytes: int
    oldest_at: float


class Target(Protocol):
    """One configured destination. ``send`` never raises but for cancellation."""

    limits: Limits

    async def send(self, batch: Batch) -> Results: ...

    async def close(self) -> None: ...


def id_stream(wall: float) -> Iterator[str]:
    """UUIDv7 strings (RFC 9562) without end, increasing in order, from one draw of randomness; no secrets.

    Of the 74 random bits the last 47 grow by one per id from a random start, so a group shares the rest.
    """
    head, start = _drawn(wall)
    return (head + number.to_bytes(6, "big").hex() for number in itertools.count(start))


def new_ids(count: int, wall: float) -> list[str]:
    """``count`` ids as of an ``id_stream``."""
    head, start = _drawn(wall)
    return [head + number.to_bytes(6, "big").hex() for number in range(start, start + count)]


def _drawn(wall: float) -> tuple[str, int]:
    """What the ids of a group share, and the number that grows."""
    milliseconds = f"{int(wall * 1000) & 0xFFFFFFFFFFFF:012x}"
    drawn = random.getrandbits(73)
    variant = 0x8000 | (drawn & 0x3FFF)
    head = f"{milliseconds[:8]}-{milliseconds[8:]}-7{drawn >> 14 & 0xFFF:03x}-{variant:04x}-"
    return head, drawn >> 26 & 0x7FFFFFFFFFFF


def full_jitter(attempt: int, base: float, cap: float, chance: Chance = random.random) -> float:
    """Seconds to wait before try ``attempt`` + 1: uniform in (0, min(cap, base * 2**(attempt - 1)))."""
    return chance() * min(cap, base * 2.0 ** min(attempt - 1, 32))
