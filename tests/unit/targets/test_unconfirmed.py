"""Deliveries that the next answer about their event bus does not confirm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all
from forwarder.targets.buses import BusNames
from forwarder.targets.questions import Answer, Question
from forwarder.targets.unconfirmed import MAX_FOUND, MAX_WINDOWS, Deliveries, Kept, delivered

WALL = 1_800_000_000.0


class World:
    """The buses of one target, asked about by hand."""

    def __init__(self, *configured: str, verify: bool = True) -> None:
        self.now = 1000.0
        self.names = BusNames(
            configured,
            default=True,
            verify=verify,
            every=60.0,
            probe=30.0,
            cap=300.0,
            region="eu-west-1",
            now=lambda: self.now,
            wall=lambda: WALL + self.now,
            chance=lambda: 1.0,
        )

    def ask(self, name: str) -> Question:
        """Let time pass until this name is asked about."""
        self.names.is_open(name, "p")
        while (question := self.names.next_question()) is None or question.name != name:
            if question is not None:
                self.names.learn(question, Answer.UNANSWERED)
            self.now += 1.0
            assert self.now < 100_000.0, "it is never asked about"
        return question

    def answer(self, name: str, answer: Answer) -> None:
        self.names.learn(self.ask(name), answer)

    def deliver(self, *names: str) -> None:
        results = Results(CallStatus.OK, [DELIVERED] * len(names))
        self.names.heard(batch(*names), results)

    def said(self) -> list[tuple[str, int]]:
        return [(each.name, each.unsaid) for each in self.names.deliveries.unsaid()]


DELIVERED = Outcome(Kind.DELIVERED)
FAILED = Outcome(Kind.RETRY, "InternalFailure")


def batch(*names: str) -> Batch:
    events = [Event(f"e{i}", b"{}", 2, b"", 0.0, name=name) for i, name in enumerate(names)]
    return Batch(b"", events, 2, Flush.COUNT)


def test_deliveries_between_the_last_good_answer_and_the_first_bad_one_are_unconfirmed() -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.EXISTS)
    world.deliver("orders")
    world.answer("orders", Answer.EXISTS)
    asked_at = world.now
    world.deliver(*["orders"] * 7, "")
    world.answer("orders", Answer.MISSING)
    (found,) = world.names.unconfirmed_buses()
    assert world.names.unconfirmed == found.events == 7
    assert found.exact
    assert (found.since, found.until) == (WALL + asked_at, WALL + world.now)
    assert world.said() == [("orders", 7)]
    assert world.said() == []


def test_what_is_delivered_while_the_question_is_under_way_is_not_confirmed_by_its_answer() -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.EXISTS)
    world.deliver("orders")
    question = world.ask("orders")
    world.deliver("orders", "orders", "orders")
    world.now += 1
    world.names.learn(question, Answer.EXISTS)
    world.answer("orders", Answer.MISSING)
    assert world.names.unconfirmed == 3


def test_calls_that_end_after_the_bad_answer_count_and_are_logged_by_themselves() -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.EXISTS)
    world.deliver("orders", "orders")
    world.answer("orders", Answer.MISSING)
    assert world.said() == [("orders", 2)]
    world.deliver("orders", "orders", "orders")
    assert world.names.unconfirmed == 5
    assert world.said() == [("orders", 3)]
    assert world.names.unconfirmed_buses()[0].events == 5


@pytest.mark.parametrize("answer", [Answer.UNANSWERED, Answer.DENIED])
def test_an_answer_that_says_nothing_neither_ends_nor_starts_a_window(answer: Answer) -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.EXISTS)
    world.deliver("orders", "orders")
    world.answer("orders", answer)
    world.deliver("orders", "orders")
    world.names.hurry()
    world.answer("orders", Answer.MISSING)
    assert world.names.unconfirmed == 4


def test_a_bus_to_which_nothing_was_delivered_has_nothing_unconfirmed() -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.EXISTS)
    world.answer("orders", Answer.MISSING)
    world.answer("never-there", Answer.MISSING)
    assert (world.names.unconfirmed, world.said(), world.names.unconfirmed_buses()) == (0, [], [])


def test_a_bus_that_was_deleted_twice_counts_twice() -> None:
    world = World("orders", "other")
    for events in (2, 3):
        world.answer("orders", Answer.EXISTS)
        world.deliver(*["orders"] * events)
        world.answer("orders", Answer.MISSING)
    assert world.names.unconfirmed == 5
    assert world.said() == [("orders", 5)]


def test_deliveries_to_a_bus_that_could_not_be_verified_are_unverified_and_later_maybe_unconfirmed() -> None:
    world = World("orders", "other")
    world.answer("orders", Answer.DENIED)
    world.deliver("orders", "orders")
    assert (world.names.unverified, world.names.unconfirmed) == (2, 0)
    assert "events delivered unverified: 2" in world.names.note()
    world.names.hurry()
    world.answer("orders", Answer.MISSING)
    assert world.names.unconfirmed == 2


def test_without_verification_nothing_is_asked_and_all_is_unverified() -> None:
    world = World(verify=False)
    world.deliver("orders", "orders", "")
    assert (world.names.unverified, world.names.deliveries.unsaved()) == (2, ([], []))
    assert world.names.note() == ""


def test_a_bus_of_another_region_is_unverified_and_the_status_says_so() -> None:
    world = World()
    world.deliver(arn := "arn:aws:events:us-east-1:123456789012:event-bus/orders")
    assert world.names.unverified == 1
    assert arn in world.names.note()


def test_the_default_bus_is_not_counted() -> None:
    world = World()
    world.deliver("", "")
    assert (world.names.unverified, world.names.deliveries.unsaved()) == (0, ([], []))


@pytest.mark.parametrize(
    ("names", "results", "counts"),
    [
        (["a", "a"], Results(CallStatus.OK, [DELIVERED] * 2), {"a": 2}),
        (["a", "", "b", "a"], Results(CallStatus.OK, [DELIVERED] * 4), {"a": 2, "b": 1}),
        (["a", "a"], Results(CallStatus.OK, [FAILED, DELIVERED]), {"a": 1}),
        (["a", "a"], Results(CallStatus.OK, [FAILED, FAILED]), {}),
        (["a", "b"], Results(CallStatus.HELD, [FAILED, DELIVERED], "AccessDeniedException"), {"b": 1}),
        (["a"], same_for_all(CallStatus.UNAVAILABLE, 1, "timeout", ""), {}),
        (["a"], same_for_all(CallStatus.REFUSED, 1, "ValidationException", ""), {}),
        (["", ""], Results(CallStatus.OK, [DELIVERED] * 2), {}),
    ],
)
def test_only_what_was_delivered_counts(
    names: Sequence[str], results: Results, counts: dict[str, int]
) -> None:
    assert delivered(batch(*names), results) == counts


# --- over a restart


class Clocks:
    def __init__(self) -> None:
        self.now = 0.0

    def make(self) -> Deliveries:
        return Deliveries(lambda: self.now, lambda: WALL + self.now)


def test_a_window_goes_on_after_a_restart() -> None:
    clocks = Clocks()
    first = clocks.make()
    clocks.now = 10.0
    first.ask("orders")
    first.confirm("orders")
    first.add("orders", 5)
    clocks.now = 20.0
    kept, gone = first.unsaved()
    assert (kept, gone) == ([Kept("orders", WALL + 10.0, 5, True)], [])
    second = clocks.make()
    second.restore(kept, {"orders": WALL}, complete=True)
    second.add("orders", 2)
    clocks.now = 30.0
    second.deny("orders")
    (found,) = second.found()
    assert (found.events, found.exact, found.since) == (7, True, WALL + 10.0)


def test_after_a_kill_the_count_is_a_lower_bound_until_the_bus_is_confirmed() -> None:
    clocks = Clocks()
    killed = clocks.make()
    killed.restore([Kept("orders", WALL, 5, True)], {"orders": WALL, "idle": WALL - 60.0}, complete=False)
    kept, _ = killed.unsaved()
    again = clocks.make()  # stops in order before anybody answered: still a lower bound
    again.restore(kept, {"orders": WALL, "idle": WALL}, complete=True)
    again.deny("orders")
    again.deny("idle")
    assert [(each.name, each.events, each.exact) for each in again.found()] == [
        ("idle", 0, False),
        ("orders", 5, False),
    ]
    assert again.total == 5
    assert len(again.unsaid()) == 2
    again.restore(kept, {}, complete=False)
    again.ask("orders")
    again.confirm("orders")
    again.add("orders", 1)
    again.deny("orders")
    assert again.found()[0].exact


def test_a_window_that_is_confirmed_is_no_longer_stored() -> None:
    clocks = Clocks()
    deliveries = clocks.make()
    deliveries.add("orders", 1)
    assert len(deliveries.unsaved()[0]) == 1
    deliveries.ask("orders")
    deliveries.confirm("orders")
    assert deliveries.unsaved() == ([], ["orders"])
    deliveries.not_saved(["orders"])
    assert deliveries.unsaved() == ([], ["orders"])
    deliveries.ask("orders")
    deliveries.confirm("orders")
    assert deliveries.unsaved() == ([], []), "nothing changed"


def test_a_part_of_the_counts_is_stored_at_a_time() -> None:
    deliveries = Clocks().make()
    for number in range(10):
        deliveries.add(f"bus-{number}", 1)
    parts = [len(deliveries.unsaved(4)[0]) for _ in range(4)]
    assert parts == [4, 4, 2, 0]


def test_what_is_remembered_is_bounded_and_a_lost_count_makes_the_others_lower_bounds() -> None:
    deliveries = Clocks().make()
    for number in range(MAX_WINDOWS + 1):
        deliveries.add(f"bus-{number}", 1)
    deliveries.deny("bus-0")
    assert deliveries.total == 0, "forgotten"
    deliveries.add("bus-0", 1)
    deliveries.deny("bus-0")
    assert not deliveries.found()[0].exact
    for number in range(100, 200):
        deliveries.deny(f"bus-{number}")
    assert (deliveries.total, len(deliveries.found())) == (101, MAX_FOUND)
