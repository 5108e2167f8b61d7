"""The share of a queue for names not known to exist, judged by a sum over everything that was counted."""

from __future__ import annotations

import asyncio
import random

from forwarder.queues.bounds import Bounds
from forwarder.queues.shares import LOOK_AGAIN_SECONDS, SHARE, SLICE, Shares


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Suspects:
    """Names that have a share, until they are found to exist."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked = 0

    def has_share(self, name: str) -> bool:
        self.asked += 1
        return name in self.names

    def reason(self, name: str) -> str:
        return f"{name} is missing"


async def test_what_peers_hold_is_counted_right_whatever_comes_goes_and_is_found_to_exist() -> None:
    names, time = Suspects("a", "b", "c"), Time()
    shares = Shares(names, Bounds(max_events=30 * SHARE, max_bytes=1 << 30), time)  # type: ignore[arg-type]
    held: dict[tuple[str, str], int] = {}
    chance, refused = random.Random(7), 0
    for _ in range(2_000):
        key = chance.choice("abc"), chance.choice("xyz")
        events = chance.choice([1, 5, -held.get(key, 0)])
        shares.move(*key, events, 10 * events)
        held[key] = held.get(key, 0) + events
        names.names = {name for name in "abc" if chance.random() < 0.7}
        time.now += LOOK_AGAIN_SECONDS
        counted = sum(events for (name, _), events in held.items() if name in names.names)
        why = shares.refusal(chance.choice("abc"), "x", 1, 10)
        assert why is None or f"{counted} events of {10 * counted} bytes are queued" in why
        refused += why is not None
    assert refused > 100


async def test_many_names_are_looked_at_in_slices_and_all_of_them() -> None:
    known = [f"n{number}" for number in range(10 * SLICE)]
    names, time = Suspects(*known, "new"), Time()
    shares = Shares(names, Bounds(max_events=SHARE * len(known), max_bytes=1 << 30), time)  # type: ignore[arg-type]
    for name in known:
        shares.move(name, "x", 1, 10)
    names.names, names.asked = {"new"}, 0
    assert shares.refusal("new", "x", SLICE + 1, 10), "those not looked at yet count as they did"
    assert SLICE <= names.asked <= SLICE + 10
    for _ in range(10):
        await asyncio.sleep(0)
    assert shares.refusal("new", "x", SLICE + 1, 10) is None
