"""One call of a target: ``async with gate.call() as call``, then ``call.record(batch, results)``.

Invariants:
- A call that entered leaves, whatever happens in between; what it met is recorded before its slot is free.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from forwarder.delivery.health import Passage, Verdict
from forwarder.model import Batch, Results


class Entrance(Protocol):
    """What a call needs of its gate."""

    async def enter(self, call: Call) -> None: ...

    def leave(self, call: Call) -> None: ...

    def record(self, call: Call, batch: Batch, results: Results, apart: bool) -> Verdict: ...


class Call:
    """One passage through the gate. ``round``: of the limit of calls in flight, when it began."""

    __slots__ = ("_gate", "passage", "recorded", "round")

    passage: Passage
    round: int

    def __init__(self, gate: Entrance) -> None:
        self._gate = gate
        self.recorded = False

    async def __aenter__(self) -> Call:
        await self._gate.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.leave(self)

    def record(self, batch: Batch, results: Results, *, apart: bool = False) -> Verdict:
        """Record what became of the batch.

        ``apart``: the trouble concerns only names that wait by themselves now.
        """
        self.recorded = True
        return self._gate.record(self, batch, results, apart)
