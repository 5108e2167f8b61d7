"""What every kind of queue is built from, and what its options say about it before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from forwarder.clock import ClockWatch
from forwarder.config import Bytes
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Limits, Names
from forwarder.queues.queue import NameOf, Queue
from forwarder.storage import Storage


class QueueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a target's ``queue`` is set to. Its kind is its tag; a kind adds the options that only it has.

    ``durable``: whether an accepted event survives a kill. ``survives``: what it survives, in words.
    ``in_storage``: whether the events are in the daemon's storage. ``default_bytes``: the bound in bytes
    unless ``queue_limits.max_bytes`` sets one.
    """

    durable: ClassVar[bool]
    survives: ClassVar[str]
    in_storage: ClassVar[bool] = False
    default_bytes: ClassVar[Bytes]

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)

    def memory_bytes(self, max_bytes: int) -> int:
        """Bytes of memory that a full queue of ``max_bytes`` needs."""
        return max_bytes


class QueueParts(msgspec.Struct, frozen=True):
    """What a queue is built from: its target's name, kind and limits, its bounds, and what all queues share.

    ``codec``: how the bodies of its events are encoded. ``names``: which names are open; None where nothing
    has a name. ``name_of``: the name of an event that comes back without it. ``boot``: of the machine.
    """

    target: str
    target_kind: str
    limits: Limits
    max_events: int
    max_bytes: int
    clock: Clock
    watch: ClockWatch
    metrics: TargetMetrics
    storage: Storage
    codec: int
    names: Names | None
    name_of: NameOf
    boot: str


@dataclass(frozen=True, slots=True)
class QueueKind:
    """A kind of queue: the type of its options, and how one is built. Building touches neither disk nor
    network: ``open`` does."""

    options: type[QueueOptions]
    build: Callable[[Any, QueueParts], Queue]
