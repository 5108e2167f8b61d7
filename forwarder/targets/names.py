"""What is known about a target's names (buses, app monitors, projects), and from which calls.

Invariants:
- AWS cannot be asked about app monitors and projects, so calls with events decide. A name is open until such
  a call fails because it is missing or denied.
- The first call for a name that is not configured counts as a question: each peer has ``BURST`` of them at
  once, then one a second, in turn with the others. What was delivered once is remembered.
- Everything remembered is bounded; a name that is forgotten is unknown again and waits for its turn.
- Pure: no I/O, and the clock is given.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from forwarder.logs import one_line
from forwarder.model import Batch, Names, Results
from forwarder.targets.barred import Barred, Heard
from forwarder.targets.turns import Turns
from forwarder.targets.unconfirmed import Unconfirmed

UNKNOWN = "unknown"
BURST, PER_SECOND = 100.0, 1.0
MAX_WAITING = 20_000
MAX_KNOWN = 10_000
MAX_SHOWN = 120
"""Characters of a name that somebody else chose, in logs and sentences."""


class TargetNames(Names, Protocol):
    """The interface to a target's names."""

    wanted: Callable[[], None]
    """Called when there is something new to ask or to try."""

    def heard(self, batch: Batch, results: Results) -> Heard:
        """What became of a batch, before it is settled."""

    def why(self, name: str) -> str:
        """One word for ``reason``: ``missing``, ``unknown`` or ``uncallable``; "" when the name is open."""

    def is_waiting(self, name: str) -> bool:
        """Whether the name is not open, and will be asked about or tried again by itself."""

    def note(self) -> str:
        """What a person should know of questions that cannot be answered, "" when there is nothing."""

    def hurry(self) -> None:
        """Ask and try again, as soon as the rates allow."""

    def is_asking(self) -> bool:
        """Whether a question or a probe is under way, or is due now."""

    @property
    def pending(self) -> bool:
        """Whether answers are about to come that may open names."""

    @property
    def questions(self) -> Mapping[str, int]:
        """Questions asked so far, by their answer."""

    @property
    def unconfirmed(self) -> int:
        """Events counted as delivered to a bus that AWS then said does not exist."""

    @property
    def unverified(self) -> int:
        """Events delivered to buses that could not be verified."""

    def unconfirmed_buses(self) -> list[Unconfirmed]:
        """The latest of these buses, a bounded number of them."""


def display_name(name: str) -> str:
    """A name for people: one line, and not too long."""
    text = one_line(name)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


class CalledNames:
    """App monitors or projects (``noun``): only calls with events decide.

    ``default``: the target takes names that no configuration mentions.
    """

    def __init__(
        self,
        noun: str,
        configured: Collection[str],
        *,
        default: bool,
        probe: float,
        cap: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._noun = noun
        self._configured = frozenset(configured)
        self._default = default
        self._now = now
        alone = len(self._configured) == 1 and not default
        self.barred = Barred(self._configured, alone=alone, probe=probe, cap=cap)
        self._open: OrderedDict[str, None] = OrderedDict()  # delivered once, or being tried
        self.turns = Turns(MAX_WAITING, BURST, PER_SECOND)
        self.wanted: Callable[[], None] = lambda: None
        self.questions: Mapping[str, int] = {}
        self.unconfirmed = self.unverified = 0  # a call for a missing one is answered with an error

    def is_open(self, name: str, peer: str) -> bool:
        if name in self.barred:
            return False
        if not name or name in self._configured or name in self._open:
            return True
        self.turns.add(name, peer, self._now())
        self.wanted()
        return False

    def has_share(self, name: str) -> bool:
        if name in self._configured or name in self._open:
            return False
        if name in self.barred:
            return True
        return not (self._default and self.turns.is_near(name, self._now()))

    def reason(self, name: str) -> str:
        bar = self.barred.get(name)
        if bar is not None:
            return f"{self._noun} {display_name(name)}: {bar.message}"
        if self.is_known(name):
            return ""
        return (
            f"{self._noun} {display_name(name)} is new; its first batch waits, because new "
            "names are tried one at a time"
        )

    def why(self, name: str) -> str:
        bar = self.barred.get(name)
        if bar is not None:
            return bar.why
        return "" if self.is_known(name) else UNKNOWN

    def is_known(self, name: str) -> bool:
        return not name or name in self._configured or name in self._open

    def is_waiting(self, name: str) -> bool:
        return name in self.barred or (name in self.turns and not self.is_known(name))

    def note(self) -> str:
        return ""

    def unconfirmed_buses(self) -> list[Unconfirmed]:
        return []

    def heard(self, batch: Batch, results: Results) -> Heard:
        heard = self.barred.heard(batch, results, self._now())
        for name in heard.closed:
            self._open.pop(name, None)
        for name in heard.opened:
            self._try(name)
        if heard.closed:
            self.wanted()
        return heard

    def next_turn(self) -> str | None:
        """The unknown name that may be tried now: it is open from here on."""
        turn = self.turns.next(self._now())
        if turn is None:
            return None
        self._try(turn.name)
        return turn.name

    def next_probe(self) -> str | None:
        return self.barred.next(self._now())

    def wait(self) -> float:
        """Seconds until there is something to do."""
        now = self._now()
        return min(self.turns.wait(now), self.barred.wait(now))

    def is_asking(self) -> bool:
        return self.wait() <= 0 or self.barred.is_probing(self._now())

    @property
    def pending(self) -> bool:
        return self.turns.wait(self._now()) <= 0

    def hurry(self) -> None:
        self.barred.hurry(self._now())
        self.wanted()

    def _try(self, name: str) -> None:
        if name in self._configured:
            return
        self.turns.discard(name)
        self._open[name] = None
        self._open.move_to_end(name)
        if len(self._open) > MAX_KNOWN:
            self._open.popitem(last=False)
