"""How events become batches: scripts of what happens, and the batches that leave.

A script's steps are separated by ", ". Events are named by their key and a number, with their size after a
slash (10 unless given); three of them, or 100 bytes, fill a call, and the first one waits 0.1 s for others.
``take`` takes a batch; what comes back is the batch that was taken last.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.model import Event, Limits
from forwarder.queues.forming import Forming

LIMITS = Limits(max_events=3, max_bytes=100, max_event_bytes=100, max_wait=0.1)
WHOLE = Limits(max_events=3, max_bytes=100, max_event_bytes=100, max_wait=0.1, whole=True)


class Script:
    def __init__(self, limits: Limits = LIMITS) -> None:
        self.forming = Forming(limits)
        self.now = 0.0
        self.left: list[str] = []
        self._last: list[Event] = []

    def play(self, script: str) -> list[str]:
        """The batches that left: their events and the reason, "-" where none was due."""
        for step in script.split(", "):
            word, _, rest = step.partition(" ")
            getattr(self, f"_{word}", self._put)(rest if hasattr(self, f"_{word}") else step)
            self.forming.next_due_at(self.now)  # as the queue asks after each step
        return self.left

    def _put(self, names: str) -> None:
        if names.startswith("+"):
            self.now += float(names)
            return
        self.forming.add(self._events(names), self.now)

    def _whole(self, names: str) -> None:
        self.forming.add_complete(self._events(names), self.now)

    def _take(self, _: str) -> None:
        batch = self.forming.take(self.now)
        self._last = [] if batch is None else batch.events
        self.left.append("-" if batch is None else f"{' '.join(e.id for e in batch.events)}: {batch.reason}")

    def _back(self, _: str) -> None:
        self.forming.put_back(self._last)

    def _part(self, _: str) -> None:
        self.forming.put_back(self._last, part=True)

    def _delay(self, seconds: str) -> None:
        self.forming.delay(self._later(seconds), self.now)

    def _aside(self, seconds: str) -> None:
        self.forming.step_aside(self._later(seconds), self.now, part=False)

    def _drain(self, _: str) -> None:
        self.forming.drain(self.now)

    def _flush(self, _: str) -> None:
        self.forming.flush(self.now)

    def _events(self, names: str) -> list[Event]:
        made = [name.partition("/") for name in names.split()]
        return [Event(id, b"", int(size or 10), id[:1].encode(), self.now) for id, _, size in made]

    def _later(self, seconds: str) -> list[Event]:
        for event in self._last:
            event.not_before = self.now + float(seconds)
        return self._last


@pytest.mark.parametrize(
    ("script", "batches"),
    [
        # Full, or old enough.
        ("a1 a2, take", ["-"]),
        ("a1 a2 a3, take", ["a1 a2 a3: count"]),
        ("a1, +0.1, take", ["a1: time"]),
        ("a1, +0.06, a2, +0.04, take", ["a1 a2: time"]),
        ("a1 a2 a3 a4, take, take", ["a1 a2 a3: count", "-"]),
        ("a1/60 a2/60, take, take", ["a1: bytes", "-"]),
        ("a1/60 a2/40, take", ["-"]),
        # Keys never share a batch, and leave in the order of their first events.
        ("b1, a1, b2, +0.1, take, take", ["b1 b2: time", "a1: time"]),
        ("a1, b1 b2 b3, take", ["b1 b2 b3: count"]),
        ("a1, +0.1, b1 b2 b3, take, take", ["a1: time", "b1 b2 b3: count"]),
        # A batch that nobody could take goes on filling.
        ("a1, +5, a2, take", ["a1 a2: time"]),
        ("a1, +5, a2 a3, take", ["a1 a2 a3: count"]),
        # A client's own batch leaves as it came, at once.
        ("whole a1 a2, take", ["a1 a2: key"]),
        ("a1, +0.05, whole a2 a3, a4, +0.05, take, take", ["a1 a4: time", "a2 a3: key"]),
        # What comes back goes first, and takes along what there is room for.
        ("a1 a2, +0.1, take, a3, back, take", ["a1 a2: time", "a1 a2 a3: retry"]),
        ("a1 a2, +0.1, take, b1 b2 b3, back, take", ["a1 a2: time", "a1 a2: retry"]),
        ("a1 a2/50, +0.1, take, a3/50, back, take", ["a1 a2: time", "a1 a2: retry"]),
        # A part of a refused batch is tried alone.
        ("a1 a2, +0.1, take, a3, part, take", ["a1 a2: time", "a1 a2: retry"]),
        # A delay; afterwards before all that was never tried, and in company.
        ("a1 a2, +0.1, take, delay 1, +0.9, take", ["a1 a2: time", "-"]),
        ("a1 a2, +0.1, take, delay 1, +1, take, +0.1, take", ["a1 a2: time", "-", "a1 a2: time"]),
        ("a1, +0.1, take, b1, delay 1, +1, +0.1, take, take", ["a1: time", "a1: time", "b1: time"]),
        # What steps aside goes behind all that waits when its delay ends, by itself.
        ("a1, +0.1, take, aside 1, b1, +1, a2, take, take", ["a1: time", "b1: time", "a1: retry"]),
        # A drain: nothing waits for company, and for a delay only shortly.
        ("a1, drain, take", ["a1: drain"]),
        ("drain, a1, take", ["a1: drain"]),
        ("a1, +0.1, take, delay 60, drain, take", ["a1: time", "a1: drain"]),
        ("a1, +0.1, take, drain, delay 60, +1, take", ["a1: time", "a1: drain"]),
        # A flush: the same, but only for what waits now.
        ("a1, flush, take, a2, take", ["a1: drain", "-"]),
        ("a1, +0.1, take, delay 60, flush, take", ["a1: time", "a1: drain"]),
    ],
)
def test_what_happens_and_the_batches_that_leave(script: str, batches: list[str]) -> None:
    assert Script().play(script) == batches


@pytest.mark.parametrize(
    ("script", "batches"),
    [
        ("a1 a2, +0.1, take, a3, back, take", ["a1 a2: time", "a1 a2: retry"]),
        ("a1 a2, +0.1, take, a3, delay 1, +1, take", ["a1 a2: time", "a1 a2: retry"]),
    ],
)
def test_where_a_batch_must_stay_whole_it_does(script: str, batches: list[str]) -> None:
    assert Script(WHOLE).play(script) == batches


@pytest.mark.parametrize(
    ("script", "due_in"),
    [
        ("+1", None),
        ("a1", 0.1),
        ("a1, +0.04, b1", 0.06),
        ("a1 a2 a3", 0.0),
        ("whole a1", 0.0),
        ("a1, +0.1, take, delay 2", 2.0),
        ("a1, +0.1, take, delay 2, b1", 0.1),
        ("a1, +0.1, take, delay 2, +2", 0.1),
    ],
)
def test_when_the_next_batch_is_due(script: str, due_in: float | None) -> None:
    world = Script()
    world.play(script)
    due_at = world.forming.next_due_at(world.now)
    assert (None if due_at is None else max(0.0, round(due_at - world.now, 6))) == due_in


STEPS = st.sampled_from(["put", "take", "back", "delay 1", "aside 1", "+0.1", "+1", "flush"])


@given(st.lists(STEPS, max_size=60))
def test_what_is_counted_is_what_is_there(steps: list[str]) -> None:
    world, numbers, inside = Script(), iter(range(1000)), 0
    for step in steps:
        if step == "put":
            world.play(f"a{next(numbers)}")
            inside += 1
        elif step == "take":
            world.play("take")
            inside -= len(world._last)
        elif step in ("back", "delay 1", "aside 1"):
            if world._last:
                world.play(step)
                inside += len(world._last)
                world._last = []
        else:
            world.play(step)
        assert len(world.forming) == len(list(world.forming)) == inside
