"""One target's way out of its queue: everything that its workers share.

Invariants:
- Names open and close by what became of a batch, before the batch is settled.
- Each owner of a hold ends its own alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from forwarder.delivery.disposition import Policy
from forwarder.delivery.gate import Gate
from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, Chance, Clock, Dead, Removal, Results, Target
from forwarder.queues.queue import Queue
from forwarder.receipts import Receipts
from forwarder.states import Reason


class Letters(Protocol):
    """Who keeps dead letters; raises StorageError when they could not be written."""

    async def keep(self, target: str, dead: Sequence[Dead], removal: Removal | None) -> None: ...


class Heard(Protocol):
    """What a call taught about names: see ``targets.barred``."""

    @property
    def opened(self) -> Collection[str]: ...

    @property
    def closed(self) -> Collection[str]: ...

    @property
    def apart(self) -> bool: ...


class LaneNames(Protocol):
    """What the lane must know of its target's names: see ``targets.names``."""

    def heard(self, batch: Batch, results: Results) -> Heard: ...

    def reason(self, name: str) -> str: ...

    @property
    def pending(self) -> bool: ...


class Lane(msgspec.Struct):
    """One target's way out: everything its workers share."""

    name: str
    target: Target
    queue: Queue
    gate: Gate
    policy: Policy
    letters: Letters
    metrics: TargetMetrics
    clock: Clock
    chance: Chance = random.random
    receipts: Receipts = msgspec.field(default_factory=Receipts)
    names: LaneNames | None = None

    @property
    def done(self) -> bool:
        """True when draining can do no more for this target. What is set aside is not waited for, but answers
        that are about to come are."""
        if self.gate.gave_up and self.gate.view().in_flight == 0:
            return True
        if self.queue.sendable:
            return False
        return len(self.queue) == 0 or self.names is None or not self.names.pending

    def current_policy(self) -> Policy:
        """The policy; without an age while the queue cannot know how old its events are."""
        if self.queue.knows_ages:
            return self.policy
        return msgspec.structs.replace(self.policy, max_age=math.inf)

    def hear(self, batch: Batch, results: Results) -> bool:
        """Open and close names by what became of a batch, before it is settled; whether the trouble is of
        these names alone."""
        if self.names is None:
            return False
        heard = self.names.heard(batch, results)
        for name in heard.closed:
            self.queue.set_aside(name)
        for name in heard.opened:
            self.queue.release(name)
        return heard.apart

    def hold(self, owner: str, sentence: str | None, reason: Reason) -> None:
        """Hold the target by this owner while there is a sentence."""
        if sentence is None:
            self.gate.unblock(owner)
        else:
            self.gate.block(owner, sentence, reason)
