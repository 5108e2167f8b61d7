"""The memory that requests may hold, all together: their bodies, and the events that are parsed from them.

Invariants:
- What was reserved is released exactly once, whatever became of the request: the ``Lease`` sees to it.
- ``used`` never exceeds ``limit``. Queues have their own reserves; this is only for bodies on their way.
"""

from __future__ import annotations

from types import TracebackType

from forwarder.ingest.dialects.errors import THROTTLING, BadRequest, too_large

PARSED_EVENT_BYTES = 700
"""What a small event holds beside the body it came in, until it is in a queue: its parts, its draft, its id,
itself, its line of the answer."""

SMALL_BODY = 16 * 1024
OBJECT_BYTES = 112
STRING_BYTES = 64
"""The most that a JSON object and a string hold when they are parsed, beside the body they came in."""
RAW_BYTES = 48
"""What a part of an array holds before it is decoded."""


class Budget:
    """``limit`` bytes, lent out until they are given back."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def reserve(self, size: int) -> bool:
        """Lend ``size`` bytes; False, and nothing lent, when there are not that many."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        self.used -= size


class Lease:
    """What one request of ``peer`` has of the budget; given back when the ``with`` block ends.

    ``answer``: how much of it is for the answer.
    """

    __slots__ = ("_budget", "answer", "held", "peer")

    def __init__(self, budget: Budget, peer: str = "") -> None:
        self._budget = budget
        self.peer = peer
        self.held = 0
        self.answer = 0

    def take(self, size: int) -> None:
        """Reserve ``size`` bytes more, or refuse the request: for now, or for ever."""
        if self._budget.reserve(size):
            self.held += size
        elif self.held + size > self._budget.limit:
            raise too_large(f"The request needs more than the {self._budget.limit} bytes kept for requests.")
        else:
            raise BadRequest(
                429, THROTTLING, "Memory for requests is used up at the moment.", reason="queue_full"
            )

    def check_room(self, size: int) -> None:
        """Refuse the request as ``take`` would, but take nothing: for what is over before anybody waits."""
        held = self.held
        self.take(size)
        self.keep(held)

    def check_parsing(self, body: bytes) -> None:
        """Refuse a body that would not fit once it is parsed: three bytes of JSON can become a hundred."""
        if len(body) > SMALL_BODY:
            self.check_room(body.count(b"{") * OBJECT_BYTES + body.count(b'"') // 2 * STRING_BYTES)

    def take_for_events(self, count: int) -> None:
        """Reserve what so many events hold from when they are parsed until they are a queue's."""
        self.take(count * PARSED_EVENT_BYTES)

    def take_for_answer(self, size: int) -> None:
        """Reserve the most that the answer can need, before anything is accepted."""
        self.take(size)
        self.answer += size

    def keep(self, size: int) -> None:
        """Give back all but this much."""
        rest = max(0, self.held - size)
        self._budget.release(rest)
        self.held -= rest

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.keep(0)
