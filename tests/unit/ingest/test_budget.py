"""The memory lent to request bodies."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.ingest.budget import ORDINARY_BYTES, PARSED_EVENT_BYTES, Budget, Lease
from forwarder.ingest.errors import BadRequest


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
        (b"[" + b"{}," * 40_000 + b"{}]", False),
        (b"[" + b'"a",' * 30_000 + b'"a"]', False),
        (b'{"Detail":"' + b"a" * 100_000 + b'"}', True),
        (b"[" + b"{}," * 100_000 + b"{}]", True),
        (b"[" + b"{}," * 1000 + b"{}]", True),
    ],
    ids=["objects", "strings", "one long string", "taken apart in steps", "a small body"],
)
def test_a_body_of_very_many_parts_needs_more_room_than_its_bytes(body: bytes, fits: bool) -> None:
    with Lease(Budget(900_000)) as lease, suppress(BadRequest):
        lease.check_parsing(body)
        assert fits
        return
    assert not fits


# --- peers


def arriving(budget: Budget, peer: str, size: int, *, proven: bool = True) -> tuple[Lease, list[str]]:
    """A lease that can be taken back, and what became of it."""
    lease, told = Lease(budget, peer, proven=proven), list[str]()
    lease.revocable(lambda: told.append("revoked"))
    lease.take(size)
    return lease, told


def test_one_peer_alone_can_use_everything() -> None:
    budget = Budget(100)
    leases = [arriving(budget, "a", 25) for _ in range(4)]
    assert budget.used == 100
    with pytest.raises(BadRequest), Lease(budget, "a") as lease:
        lease.take(1)
    assert not any(told for _, told in leases)


def test_a_peer_that_holds_less_gets_its_share_from_what_is_still_arriving() -> None:
    budget = Budget(100)
    leases = [arriving(budget, "a", size) for size in (20, 50, 30)]
    with Lease(budget, "b") as lease:
        lease.take(20)
        assert [told for _, told in leases] == [[], ["revoked"], []]
        assert (budget.used, leases[1][0].held) == (70, 0)


def test_a_peer_takes_nothing_from_one_that_would_then_hold_less() -> None:
    budget = Budget(100)
    _, told = arriving(budget, "a", 50)
    _, others = arriving(budget, "b", 50)
    with pytest.raises(BadRequest), Lease(budget, "b") as lease:
        lease.take(10)
    assert (told, others) == ([], [])


def test_nothing_is_taken_back_where_it_would_not_be_enough() -> None:
    budget = Budget(100)
    firm = Lease(budget, "a")
    firm.take(90)
    _, told = arriving(budget, "a", 10)
    with pytest.raises(BadRequest), Lease(budget, "b") as lease:
        lease.take(20)
    assert not told
    assert budget.used == 100


def test_what_is_firm_is_never_taken_back() -> None:
    budget = Budget(100)
    lease, told = arriving(budget, "a", 100)
    lease.revocable(None)
    with pytest.raises(BadRequest), Lease(budget, "b") as other:
        other.take(10)
    assert not told


def test_unproven_requests_have_everything_until_a_proven_sender_needs_it() -> None:
    budget = Budget(100)
    forged = [arriving(budget, f"address {n}", 10, proven=False) for n in range(10)]
    assert budget.used == budget.unproven == 100
    leases = []
    for n in range(20):
        lease = Lease(budget, f"sender {n}")
        try:
            lease.take(10)
        except BadRequest:
            break
        leases.append(lease)
    assert budget.unproven == 30, "a quarter of 100 is between two and three of them"
    assert len(leases) == 7
    assert sum(bool(told) for _, told in forged) == 7


def test_a_proven_sender_gets_in_whatever_one_address_forges() -> None:
    budget = Budget(100, unproven_share=100)
    arriving(budget, "address", 100, proven=False)
    with Lease(budget, "sender") as lease:
        lease.take(40)
    assert budget.used == 0


def test_once_it_is_proven_a_request_is_its_senders() -> None:
    budget = Budget(100)
    lease = Lease(budget, "address", proven=False)
    lease.take(30)
    lease.prove("sender")
    assert (budget.unproven, budget.held_by("address"), budget.held_by("sender")) == (0, 0, 30)
    lease.end()
    assert (budget.used, budget.unproven, budget.held_by("sender")) == (0, 0, 0)


def test_a_small_request_of_a_peer_that_holds_nothing_uses_the_spare_bytes() -> None:
    budget = Budget(100, spare=50)
    Lease(budget, "a").take(100)
    with Lease(budget, "b") as lease:
        lease.take(50)
        with pytest.raises(BadRequest):
            lease.take(1)


def test_who_holds_much_has_no_spare_bytes() -> None:
    budget = Budget(ORDINARY_BYTES, spare=ORDINARY_BYTES)
    lease = Lease(budget, "a")
    lease.take(ORDINARY_BYTES)
    with pytest.raises(BadRequest):
        lease.take(1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 60), st.booleans()), max_size=30)
)
def test_whatever_is_lent_taken_back_and_proven_adds_up(steps: list[tuple[str, bool, int, bool]]) -> None:
    budget = Budget(100, spare=20)
    leases: list[Lease] = []
    for peer, proven, size, revocable in steps:
        lease = Lease(budget, peer, proven=proven)
        leases.append(lease)
        if revocable or not proven:
            lease.revocable(lambda: None)
        with suppress(BadRequest):
            lease.take(size)
        if size % 7 == 0:
            lease.revocable(None)
            lease.prove("d")
        if size % 11 == 0:
            lease.end()
        assert budget.used == sum(each.held for each in leases) <= 120
        assert budget.unproven == sum(each.held for each in leases if not each.proven)
        for name in "abcd":
            assert budget.held_by(name) == sum(each.held for each in leases if each.peer == name)
    for lease in leases:
        lease.end()
    assert budget.used == budget.unproven == 0
