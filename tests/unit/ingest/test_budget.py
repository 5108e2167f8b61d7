"""The memory lent to request bodies."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.ingest.budget import PARSED_EVENT_BYTES, Budget, Lease
from forwarder.ingest.dialects.errors import BadRequest


def test_the_last_byte_can_be_had_and_no_more() -> None:
    budget = Budget(10)
    assert budget.reserve(10)
    assert not budget.reserve(1)
    assert budget.used == 10


def test_a_lease_gives_everything_back_also_after_an_error() -> None:
    budget = Budget(10)

    def fail() -> None:
        with Lease(budget) as lease:
            lease.take(4)
            lease.take(5)
            assert budget.used == 9
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert budget.used == 0


def test_what_does_not_fit_now_is_429_and_what_never_fits_is_413() -> None:
    budget = Budget(10)
    with Lease(budget) as one, Lease(budget) as other:
        one.take(6)
        with pytest.raises(BadRequest) as now:
            other.take(5)
        with pytest.raises(BadRequest) as never:
            one.take(5)
        assert (now.value.status, never.value.status) == (429, 413)
        assert budget.used == 6


@given(st.lists(st.lists(st.integers(0, 40), max_size=5), max_size=8))
def test_no_more_than_the_limit_is_ever_out_and_all_of_it_returns(wishes: list[list[int]]) -> None:
    budget = Budget(100)
    leases = [Lease(budget) for _ in wishes]
    for lease, sizes in zip(leases, wishes, strict=True):
        for size in sizes:
            with suppress(BadRequest):
                lease.take(size)
            assert budget.used == sum(lease.held for lease in leases) <= 100
    for lease in leases:
        with lease:
            pass
    assert budget.used == 0


def test_events_that_are_parsed_are_reserved_with_their_body() -> None:
    budget = Budget(100 * PARSED_EVENT_BYTES)
    with Lease(budget) as one, Lease(budget) as other:
        one.take_for_events(90)
        with pytest.raises(BadRequest) as refusal:
            other.take_for_events(20)
        assert refusal.value.status == 429
        with pytest.raises(BadRequest) as never:
            one.take_for_events(11)
        assert never.value.status == 413
    assert budget.used == 0


def test_a_look_at_the_room_takes_nothing_and_refuses_as_taking_does() -> None:
    budget = Budget(10)
    with Lease(budget) as one, Lease(budget) as other:
        one.take(6)
        one.check_room(4)
        assert (budget.used, one.held) == (6, 6)
        with pytest.raises(BadRequest) as now:
            other.check_room(5)
        with pytest.raises(BadRequest) as never:
            other.check_room(11)
        assert (now.value.status, never.value.status) == (429, 413)
        assert budget.used == 6


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        (b"[" + b"{}," * 100_000 + b"{}]", False),
        (b"[" + b'"a",' * 100_000 + b'"a"]', False),
        (b'{"Detail":"' + b"a" * 300_000 + b'"}', True),
        (b"[" + b"{}," * 1000 + b"{}]", True),
    ],
    ids=["objects", "strings", "one long string", "a small body"],
)
def test_a_body_of_very_many_parts_needs_more_room_than_its_bytes(body: bytes, fits: bool) -> None:
    with Lease(Budget(1 << 20)) as lease, suppress(BadRequest):
        lease.check_parsing(body)
        assert fits
        return
    assert not fits
