"""How many calls may be in flight, against models of services with a capacity, a latency and a quota."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.delivery.concurrency import START, ConcurrencyLimit


class Service:
    """Answers at most ``capacity`` calls a second, none before ``latency``; more wait in a line.

    Over ``quota`` calls a second it throttles instead, and takes a tenth of a second's worth at once.
    """

    def __init__(self, capacity: float, latency: float, quota: float | None = None) -> None:
        self.capacity = capacity
        self.latency = latency
        self.quota = quota
        self._free_at = 0.0
        self._allowed = 0.0
        self._asked_at = 0.0

    def call(self, now: float, chance: random.Random) -> tuple[float, bool]:
        """When the answer is there, and whether it is a good one."""
        quick = now + self.latency * chance.uniform(1.0, 1.3)
        if self.quota is not None:
            self._allowed = min(self.quota / 10, self._allowed + (now - self._asked_at) * self.quota)
            self._asked_at = now
            if self._allowed < 1:
                return quick, False
            self._allowed -= 1
        self._free_at = max(self._free_at, now) + 1 / self.capacity
        return max(quick, self._free_at), True


class Caller:
    """Calls as often as the slots allow, and waits a moment after a throttle, as the gate does."""

    def __init__(self, slots: ConcurrencyLimit, service: Service) -> None:
        self.slots = slots
        self.service = service
        self.now = 0.0
        self.answered = 0
        self.throttled = 0
        self.limits: list[int] = []
        self._chance = random.Random(7)
        self._flying: list[tuple[float, int, int, float, bool]] = []
        self._calls = 0
        self._closed_until = 0.0

    def run(self, seconds: float) -> float:
        """Calls answered a second."""
        ends, before = self.now + seconds, self.answered
        self.limits.clear()
        while self.now < ends:
            if self.now >= self._closed_until:
                while self.slots.taken < self.slots.limit:
                    self._start()
            if self._flying:
                self._end(*heapq.heappop(self._flying))
            else:
                self.now = self._closed_until
            self.limits.append(self.slots.limit)
        return (self.answered - before) / seconds

    def _start(self) -> None:
        self._calls += 1
        at, good = self.service.call(self.now, self._chance)
        heapq.heappush(self._flying, (at, self._calls, self.slots.take(), self.now, good))

    def _end(self, at: float, _: int, round_: int, began_at: float, good: bool) -> None:
        self.now = at
        self.slots.give_back()
        if good:
            self.answered += 1
            self.slots.answered(round_, at - began_at)
        else:
            self.throttled += 1
            if at >= self._closed_until:
                self.slots.troubled(round_)
                self._closed_until = at + self._chance.uniform(0.0, 0.2)


LAPTOP = (20.0, 0.2)
BUSY_NODE = (2000.0, 0.01)


@pytest.mark.parametrize(("capacity", "latency"), [LAPTOP, BUSY_NODE, (300.0, 0.05)])
def test_it_finds_the_fewest_calls_that_keep_a_service_busy_and_stays_near(
    capacity: float, latency: float
) -> None:
    caller = Caller(ConcurrencyLimit(1, 64), Service(capacity, latency))
    caller.run(500 * latency)
    rate = caller.run(500 * latency)
    knee = capacity * latency
    assert rate > 0.97 * capacity
    assert min(caller.limits) >= knee
    assert max(caller.limits) <= 3 * knee


@pytest.mark.parametrize(("capacity", "latency"), [LAPTOP, BUSY_NODE])
def test_it_comes_down_to_a_service_that_has_shrunk_and_up_to_one_that_has_grown(
    capacity: float, latency: float
) -> None:
    service = Service(8 * capacity, latency)
    caller = Caller(ConcurrencyLimit(1, 256), service)
    caller.run(1000 * latency)
    before = max(caller.limits)
    service.capacity = capacity
    caller.run(3000 * latency)
    caller.run(500 * latency)
    assert max(caller.limits) < before / 2
    assert min(caller.limits) >= capacity * latency
    service.capacity = 8 * capacity
    caller.run(3000 * latency)
    assert caller.run(500 * latency) > 0.97 * 8 * capacity


def test_a_service_that_never_slows_down_gets_all_there_may_be() -> None:
    caller = Caller(ConcurrencyLimit(1, 64), Service(1e9, 0.05))
    caller.run(2.0)
    assert caller.slots.limit == 64


@pytest.mark.parametrize(("quota", "latency"), [(50, 0.02), (400, 0.02), (1200, 0.02), (50, 0.1), (400, 0.1)])
def test_under_a_quota_it_comes_closer_than_a_fixed_number_and_is_throttled_less(
    quota: float, latency: float
) -> None:
    found, fixed = (Caller(ConcurrencyLimit(least, 64), Service(1e9, latency, quota)) for least in (1, 64))
    rate, other = found.run(60.0), fixed.run(60.0)
    assert rate > 0.75 * quota
    assert rate > other
    assert found.throttled < fixed.throttled


@pytest.mark.parametrize("slower", [3.0, 10.0, 100.0])
def test_a_service_that_became_slower_for_reasons_of_its_own_does_not_starve_us(slower: float) -> None:
    """The loop of this process counts as such: when it is busy every call takes longer, however few."""
    service = Service(1e9, 0.02)
    caller = Caller(ConcurrencyLimit(1, 64), service)
    caller.run(5.0)
    service.latency *= slower
    caller.run(30 * service.latency)
    assert min(caller.limits) > 64 / 3
    assert caller.slots.limit == 64


def test_latency_that_jumps_about_does_not_starve_us() -> None:
    chance = random.Random(3)
    slots = ConcurrencyLimit(1, 64)
    caller = Caller(slots, Service(1e9, 0.02))
    limits = []
    for _ in range(2000):
        caller.service.latency = chance.choice([0.02, 0.02, 0.02, 0.1])
        caller.run(0.05)
        limits.append(slots.limit)
    assert sum(limits[1000:]) / 1000 > 8


def test_after_an_outage_it_starts_reduced_and_climbs_back() -> None:
    caller = Caller(ConcurrencyLimit(1, 32), Service(1e9, 0.02))
    caller.run(5.0)
    for _ in range(3):
        caller.slots.troubled(caller.slots.take())
        caller.slots.give_back()
    assert caller.slots.limit < 20
    caller.run(5.0)
    assert caller.slots.limit == 32


def test_a_throttle_that_strikes_all_calls_in_flight_counts_once() -> None:
    slots = ConcurrencyLimit(1, 64)
    rounds = [slots.take() for _ in range(START)]
    for round_ in rounds:
        slots.give_back()
        slots.troubled(round_)
    assert slots.limit == START * 3 // 4


def test_it_does_not_grow_while_it_holds_nobody_back() -> None:
    slots = ConcurrencyLimit(1, 64)
    for _ in range(1000):
        round_ = slots.take()
        slots.give_back()
        slots.answered(round_, 0.02)
    assert slots.limit == START


def test_few_calls_that_are_slow_while_nothing_is_held_back_change_nothing() -> None:
    slots = ConcurrencyLimit(1, 64)
    for seconds in [0.02] * 100 + [2.0] * 100:
        round_ = slots.take()
        slots.give_back()
        slots.answered(round_, seconds)
    assert slots.limit == START


def test_one_slow_call_among_quick_ones_decides_nothing() -> None:
    slots = ConcurrencyLimit(START, 5)
    for slow in (False, True):
        rounds = [slots.take() for _ in range(slots.limit)]
        for number, round_ in enumerate(rounds * 2):
            slots.answered(round_, 9.0 if slow and number == 0 else 0.02)
        for _ in rounds:
            slots.give_back()
    assert slots.limit == 5


@given(
    st.integers(1, 20),
    st.integers(0, 60),
    st.lists(st.tuples(st.sampled_from(["take", "answer", "trouble"]), st.floats(0.0, 1e6)), max_size=300),
)
def test_the_limit_stays_within_its_bounds_whatever_happens(
    least: int, more: int, steps: list[tuple[str, float]]
) -> None:
    slots = ConcurrencyLimit(least, least + more)
    flying: list[int] = []
    ends: dict[str, Callable[[int, float], None]] = {
        "answer": slots.answered,
        "trouble": lambda round_, _: slots.troubled(round_),
    }
    for what, number in steps:
        if what == "take" and slots.taken < slots.limit:
            flying.append(slots.take())
        elif what != "take" and flying:
            slots.give_back()
            ends[what](flying.pop(int(number) % len(flying)), number)
        assert least <= slots.limit <= least + more
        assert slots.taken == len(flying) <= least + more


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 1e3)), max_size=100))
def test_equal_bounds_are_a_fixed_number(answers: list[tuple[bool, float]]) -> None:
    slots = ConcurrencyLimit(8, 8)
    for good, seconds in answers:
        round_ = slots.take()
        slots.give_back()
        slots.answered(round_, seconds) if good else slots.troubled(round_)
    assert slots.limit == 8
