"""Names for which AWS refused calls: their events wait, and one batch at a time is sent as a probe.

Invariants:
- One probe of a target is in flight at a time, and a bounded number of them starts in a second.
- A name is tried after ``probe`` seconds, and after each failure twice as long, up to ``cap``.
- The number of names is bounded; the oldest is forgotten.
- If a target has only one configured name, that name is not barred; the target is held instead.
- Pure: every moment is an argument in monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from forwarder.apis.codes import ACCESS_DENIED, NOT_FOUND
from forwarder.model import Batch, CallStatus, Kind, Results
from forwarder.targets.turns import Agenda

MISSING, UNCALLABLE = "missing", "uncallable"
MAX_BARRED = 10_000
PROBES_PER_SECOND = 2.0
PROBE_BURST = 20.0
PROBE_SECONDS = 60.0
"""A probe of which nothing was heard for so long is over: its event may have expired."""

SUSPECTS = 3
"""So many unconfigured names denied, with nothing delivered between them: then it is not about the names."""


class Bar(msgspec.Struct):
    """Why a name is barred, and how often it has been tried."""

    why: str
    message: str
    failures: int


class Heard(NamedTuple):
    """What a call taught about names: those that opened, those that closed, and whether it was about these
    alone, so that others need not wait."""

    opened: Collection[str] = ()
    closed: Collection[str] = ()
    apart: bool = False


NOTHING = Heard()


class Barred:
    """``configured``: names that the configuration mentions; ``alone``: nothing else is sent to."""

    def __init__(self, configured: frozenset[str], *, alone: bool, probe: float, cap: float) -> None:
        self._configured = configured
        self._alone = alone
        self._probe = probe
        self._cap = cap
        self._bars: OrderedDict[str, Bar] = OrderedDict()
        self._agenda = Agenda(PROBE_BURST, PROBES_PER_SECOND)
        self._probing = ""
        self._probe_ends = 0.0
        self._suspects: set[str] = set()

    def __len__(self) -> int:
        return len(self._bars)

    def __contains__(self, name: str) -> bool:
        return name in self._bars

    def get(self, name: str) -> Bar | None:
        return self._bars.get(name)

    def heard(self, batch: Batch, results: Results, now: float) -> Heard:
        """What became of a batch."""
        probed = self._probing
        opened = self._open(batch, results) if self._bars else ()
        if results.status is CallStatus.OK:
            if self._suspects and Kind.DELIVERED in [outcome.kind for outcome in results.outcomes]:
                self._suspects.clear()
            return Heard(opened) if opened else NOTHING
        if not results.called:
            return NOTHING  # the role or its credentials were refused, and no name
        if results.status is not CallStatus.HELD or results.code not in ACCESS_DENIED | NOT_FOUND:
            return NOTHING
        troubled = troubled_names(batch, results)
        if self._alone and self._configured.issuperset(troubled):
            return NOTHING
        why = MISSING if results.code in NOT_FOUND else UNCALLABLE
        for name in troubled:
            self._bar(name, why, f"{results.code}: {results.message}", now, was_probe=name == probed)
        if why == UNCALLABLE and len(self._suspects) < SUSPECTS:
            self._suspects |= troubled
        about_all = bool(self._configured & troubled) or len(self._suspects) >= SUSPECTS
        return Heard(opened, troubled, apart=bool(troubled) and not about_all)

    def next(self, now: float) -> str | None:
        """The name to probe now; its probe is under way from here on."""
        if self.is_probing(now) or (name := self._agenda.next(now)) is None:
            return None
        self._probing, self._probe_ends = name, now + PROBE_SECONDS
        self._agenda.add(name, now + self._pause(self._bars[name].failures))
        return name

    def discard(self, name: str) -> None:
        """AWS answered something else about this name."""
        if self._bars.pop(name, None) is not None:
            self._agenda.discard(name)
            self.missed(name)

    def missed(self, name: str) -> None:
        """There was nothing to probe with."""
        if self._probing == name:
            self._probing = ""

    def wait(self, now: float) -> float:
        """Seconds until the next probe; FOREVER when there is none."""
        return max(self._agenda.wait(now), self._probe_ends - now if self.is_probing(now) else 0.0)

    def hurry(self, now: float) -> None:
        """Every name is tried as soon as it can be."""
        self._agenda.fill()
        for name in self._bars:
            self._agenda.add(name, now)

    def is_probing(self, now: float) -> bool:
        """Whether a probe is under way."""
        return bool(self._probing) and now < self._probe_ends

    def _open(self, batch: Batch, results: Results) -> list[str]:
        opened = []
        for event, outcome in zip(batch.events, results.outcomes, strict=True):
            if event.name not in self._bars:
                continue
            if self._probing == event.name:
                self._probing = ""
            if outcome.kind is Kind.DELIVERED:
                del self._bars[event.name]
                self._agenda.discard(event.name)
                opened.append(event.name)
        return opened

    def _bar(self, name: str, why: str, message: str, now: float, *, was_probe: bool) -> None:
        bar = self._bars.get(name)
        failures = bar.failures if bar is not None else 0
        if bar is not None and not was_probe:
            return  # a call that was under way when the name closed
        self._bars[name] = Bar(why, message, failures + 1)
        self._agenda.add(name, now + self._pause(failures + 1))
        if len(self._bars) > MAX_BARRED:
            oldest, _ = self._bars.popitem(last=False)
            self._agenda.discard(oldest)

    def _pause(self, failures: int) -> float:
        return min(self._cap, self._probe * 2.0 ** min(failures - 1, 32))


def troubled_names(batch: Batch, results: Results) -> set[str]:
    """The names of which every event failed with the code of the call.

    A call for several names that was refused as a whole tells of the one that AWS's sentence mentions.
    """
    names = {event.name for event in batch.events}
    fine = {
        event.name
        for event, outcome in zip(batch.events, results.outcomes, strict=True)
        if outcome.code != results.code
    }
    troubled = names - fine
    if len(troubled) > 1 and not fine:
        troubled = {name for name in troubled if name and _mentions(results.message, name)}
    troubled.discard("")
    return troubled


def _mentions(sentence: str, name: str) -> bool:
    """Whether AWS's words are about it: ``... on resource: arn:...:event-bus/NAME because ...``."""
    plain = name.rpartition("/")[2]
    return any(word.rstrip(".,;").rpartition("/")[2] == plain for word in sentence.split() if "/" in word)
