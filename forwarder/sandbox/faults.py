"""Faults on order: what is wrong with the sandbox for now, and whom it hits. Plain functions, no I/O.

Invariants:
- Faults are asked in the order they were given; the first that hits decides what becomes of a call (or of
  an entry), but ``slow`` only adds its delay and lets the next ones be asked.
- A fault with ``times`` hits exactly that often; one with ``seconds`` ends by itself; any other stays until
  it is deleted. ``rate`` is the share of calls (for ``entry``: of entries) it hits.
- Every hit is counted when it is dealt, in the fault itself.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Literal, get_args

import msgspec

from forwarder.apis.api import Api
from forwarder.apis.codes import NO_ENTRY_CODES
from forwarder.model import Chance
from forwarder.sandbox.settings import BUILT_IN

FaultKind = Literal[
    "throttle",
    "error",
    "slow",
    "hang",
    "reset",
    "reset_after",
    "wrong_shape",
    "missing_results",
    "entry",
    "credentials",
    "access_denied",
    "not_found",
    "redirect",
]
Shape = Literal["html", "empty", "list", "object", "null"]

FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SHAPES: dict[Shape, bytes] = {
    "html": b"<html><body><h1>It works!</h1></body></html>",
    "empty": b"",
    "list": b"[]",
    "object": b"{}",
    "null": b'{"Entries":null,"eventResults":null}',
}

NEEDS_RESULTS = frozenset({"entry", "missing_results"})
"""Faults of single results, which not every API's answers have."""
DESCRIBE = "DescribeEventBus"

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault as it is ordered. Without ``api`` (a kind) it hits all of them, without ``name`` every bus,
    monitor and project, without ``operation`` only the calls that carry events."""

    fault: FaultKind
    api: str | None = None
    name: str | None = None
    operation: str | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    seconds: Positive | None = None
    code: str | None = None
    status: Annotated[int, msgspec.Meta(ge=300, le=599)] | None = None
    message: str | None = None
    delay: Positive = 1.0
    retry_after: Positive | None = None
    shape: Shape = "html"
    location: str | None = None

    def __post_init__(self) -> None:
        if self.operation == DESCRIBE and self.fault in NEEDS_RESULTS:
            raise ValueError(
                f"the fault {self.fault} needs one result per event, which answers of {DESCRIBE} do not have"
            )

    def check(self, apis: Sequence[type[Api]]) -> None:
        """Raise ValueError when these APIs have no such fault."""
        kinds = {api.kind: api for api in apis}
        operations = [*(api.operation for api in apis), DESCRIBE]
        if self.api is not None and self.api not in kinds:
            raise ValueError(f"api must be one of {', '.join(kinds)}, got {self.api!r}")
        if self.operation is not None and self.operation not in operations:
            raise ValueError(f"operation must be one of {', '.join(operations)}, got {self.operation!r}")
        if self.api is not None and self.fault in NEEDS_RESULTS and not has_results(kinds[self.api]):
            operation = kinds[self.api].operation
            raise ValueError(
                f"the fault {self.fault} needs one result per event, which answers of {operation} do not have"
            )

    def concerns(self, api: type[Api], operation: str) -> bool:
        """Whether calls of this operation are among those the fault is for."""
        if self.api not in (None, api.kind) or (self.fault in NEEDS_RESULTS and not has_results(api)):
            return False
        return operation == (self.operation or api.operation)


def has_results(api: type[Api]) -> bool:
    """Whether the API answers with a result per event."""
    return api.codes is not NO_ENTRY_CODES


class Ordered(msgspec.Struct, eq=False):
    """A fault that is in force, until ``until`` (monotonic seconds), and what it did so far."""

    fault: Fault
    until: float
    calls: int = 0
    events: int = 0

    @property
    def spent(self) -> bool:
        hits = self.events if self.fault.fault == "entry" else self.calls
        return self.fault.times is not None and hits >= self.fault.times

    def hits(self, chance: Chance) -> bool:
        return not self.spent and (self.fault.rate is None or chance() < self.fault.rate)


class CallFault(msgspec.Struct, frozen=True):
    """What hits one call: ``fault`` decides its answer, and it comes ``delay`` seconds late."""

    fault: Fault | None = None
    delay: float = 0.0


NO_FAULT = CallFault()


class FaultPlan:
    """The faults in force. Costs nothing per call while there are none."""

    __slots__ = ("_apis", "_chance", "_ordered")

    def __init__(self, chance: Chance = random.random, apis: Iterable[type[Api]] = BUILT_IN) -> None:
        self._chance = chance
        self._apis = tuple(apis)
        self._ordered: list[Ordered] = []

    def __bool__(self) -> bool:
        return bool(self._ordered)

    def order(self, faults: Sequence[Fault], now: float) -> None:
        """Add these behind the ones in force; ValueError, and none is added, when one cannot be."""
        for fault in faults:
            fault.check(self._apis)
        for fault in faults:
            self._ordered.append(Ordered(fault, now + fault.seconds if fault.seconds else float("inf")))

    def clear(self) -> None:
        self._ordered.clear()

    def view(self, now: float) -> list[Ordered]:
        """The faults in force, with what each did."""
        self._sweep(now)
        return list(self._ordered)

    def for_call(
        self, api: type[Api], operation: str, names: Collection[str], events: int, now: float
    ) -> CallFault:
        """The fault of a whole call with so many events for these buses (or this monitor or project)."""
        if not self._ordered:
            return NO_FAULT
        self._sweep(now)
        delay = 0.0
        for ordered in self._ordered:
            fault = ordered.fault
            if fault.fault == "entry" or not fault.concerns(api, operation):
                continue
            if (fault.name is not None and fault.name not in names) or not ordered.hits(self._chance):
                continue
            ordered.calls += 1
            ordered.events += events
            if fault.fault != "slow":
                return CallFault(fault, delay)
            delay += fault.delay
        return CallFault(None, delay)

    def for_entries(self, api: type[Api], names: Sequence[str], now: float) -> list[Fault | None]:
        """The ``entry`` fault of each entry of a call, in order; names are the buses (or the project)."""
        entry_faults = [o for o in self._ordered if o.fault.fault == "entry" and now < o.until]
        entry_faults = [o for o in entry_faults if o.fault.concerns(api, api.operation)]
        if not entry_faults:
            return [None] * len(names)
        hits = [self._entry_hit(entry_faults, name) for name in names]
        for ordered in {id(o): o for o in hits if o is not None}.values():
            ordered.calls += 1
        return [None if ordered is None else ordered.fault for ordered in hits]

    def _entry_hit(self, faults: Sequence[Ordered], name: str) -> Ordered | None:
        for ordered in faults:
            if ordered.fault.name in (None, name) and ordered.hits(self._chance):
                ordered.events += 1
                return ordered
        return None

    def _sweep(self, now: float) -> None:
        self._ordered = [o for o in self._ordered if now < o.until and not o.spent]
