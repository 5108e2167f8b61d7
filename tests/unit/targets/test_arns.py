"""One event bus that events name both by name and by ARN: one question, one window, and no guess."""

from __future__ import annotations

import pytest

from forwarder.targets.questions import NOTHING, Answer
from tests.unit.targets.test_unconfirmed import World

SHOP = "arn:aws:events:eu-west-1:111122223333:event-bus/shop"
THEIRS = "arn:aws:events:eu-west-1:999999999999:event-bus/shop"


def questions(world: World, seconds: int) -> list[str]:
    """What is asked in this time, all of it answered with "it exists"."""
    asked = []
    for _ in range(seconds):
        world.now += 1.0
        while (question := world.names.next_question()) is not None:
            asked.append(question.name)
            world.names.learn(question, Answer.EXISTS, arn=arn_of(question.name))
    return asked


def arn_of(name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:events:eu-west-1:111122223333:event-bus/{name}"


def both() -> World:
    """Events came by both names of the bus, which exists."""
    world = World()
    for name in (SHOP, "shop"):
        world.names.learn(world.ask(name), Answer.EXISTS, arn=SHOP)
    world.deliver("shop")
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=SHOP)
    return world


def test_a_bus_that_is_named_in_two_ways_is_asked_about_once() -> None:
    world = both()
    assert questions(world, 600).count(SHOP) == 0
    assert world.names.is_open(SHOP, "p")
    assert world.names.is_open("shop", "p")


def test_its_deliveries_by_both_names_are_one_window_which_one_answer_confirms() -> None:
    world = both()
    world.deliver("shop", SHOP, SHOP)
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=SHOP)
    world.deliver("shop", SHOP)
    world.answer("shop", Answer.MISSING)
    assert [(bus.name, bus.events, bus.exact) for bus in world.names.unconfirmed_buses()] == [
        ("shop", 2, True)
    ]
    world.deliver(SHOP)  # a call that was in flight
    world.answer(SHOP, Answer.MISSING)
    world.deliver(SHOP)
    assert world.names.unconfirmed == 4
    assert [(bus.name, bus.events) for bus in world.names.unconfirmed_buses()] == [("shop", 4)]


def test_what_came_by_arn_before_the_name_was_known_is_in_the_window_too() -> None:
    world = World()
    world.names.learn(world.ask(SHOP), Answer.EXISTS, arn=SHOP)
    world.deliver(SHOP, SHOP)
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=SHOP)
    world.deliver("shop")
    world.answer("shop", Answer.MISSING)
    assert [(bus.name, bus.events) for bus in world.names.unconfirmed_buses()] == [("shop", 3)]


def test_an_answer_about_the_name_opens_the_arn_whose_events_wait() -> None:
    world = World()
    question = world.ask("shop")
    assert not world.names.is_open(SHOP, "p")
    assert set(world.names.learn(question, Answer.EXISTS, arn=SHOP).opened) == {"shop", SHOP}
    assert world.names.next_question() is None
    assert world.names.unsaved() == {"shop": True, SHOP: True}


def test_an_arn_that_comes_after_its_name_was_verified_is_not_asked_about() -> None:
    world = World()
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=SHOP)
    assert world.names.unsaved() == {"shop": True}, "no event used the ARN"
    assert world.names.is_open(SHOP, "p")
    world.deliver(SHOP)
    assert (world.names.unverified, world.names.unsaved()) == (0, {SHOP: True})


def test_a_bus_that_is_missing_by_name_is_asked_about_by_arn_before_its_events_by_arn_go_on() -> None:
    world = both()
    learned = world.names.learn(world.ask("shop"), Answer.MISSING)
    assert set(learned.closed) == {"shop", SHOP}
    assert not world.names.is_open(SHOP, "p")
    world.now += 1.0
    question = world.names.next_question()
    assert question is not None
    assert question.name == SHOP
    assert world.names.learn(question, Answer.EXISTS, arn=SHOP).opened == (SHOP,)
    assert world.names.is_open(SHOP, "p")
    assert not world.names.is_open("shop", "p")
    world.deliver(SHOP, SHOP)  # the credentials are of another account by now
    assert world.names.unconfirmed == 0
    world.answer(SHOP, Answer.MISSING)
    assert [(bus.name, bus.events) for bus in world.names.unconfirmed_buses()] == [(SHOP, 2)]


def test_one_of_the_bus_that_was_missing_is_open_again_by_both_names() -> None:
    world = both()
    world.answer("shop", Answer.MISSING)
    world.answer(SHOP, Answer.MISSING)
    assert set(world.names.learn(world.ask("shop"), Answer.EXISTS, arn=SHOP).opened) == {"shop", SHOP}
    assert questions(world, 600).count(SHOP) == 0


@pytest.mark.parametrize("arn", ["", THEIRS])
def test_a_name_that_has_another_arn_or_none_by_now_is_another_bus_and_the_counts_are_lower_bounds(
    arn: str,
) -> None:
    world = both()
    world.deliver("shop", SHOP)
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=arn)
    assert world.names.is_open(SHOP, "p"), "it was verified"
    world.deliver("shop")
    world.deliver(SHOP)
    assert SHOP in questions(world, 3), "it is asked about by itself"
    world.deliver(SHOP)
    world.answer(SHOP, Answer.MISSING)
    assert [(bus.name, bus.events) for bus in world.names.unconfirmed_buses()] == [(SHOP, 1)]
    assert world.names.is_open("shop", "p")


def test_between_the_two_answers_the_counts_of_an_arn_that_was_parted_are_lower_bounds() -> None:
    world = both()
    world.deliver("shop", SHOP)
    world.names.learn(world.ask("shop"), Answer.EXISTS, arn=THEIRS)
    world.answer(SHOP, Answer.MISSING)
    assert [(bus.name, bus.exact) for bus in world.names.unconfirmed_buses()] == [(SHOP, False)]


def test_a_name_that_may_no_longer_be_described_leaves_the_arn_verified_by_itself() -> None:
    world = both()
    assert world.names.learn(world.ask("shop"), Answer.DENIED) == NOTHING
    assert world.names.is_open(SHOP, "p")
    assert SHOP in questions(world, 3)


def test_an_endpoint_that_answers_every_question_alike_makes_no_two_buses_one() -> None:
    world = World()
    for name in ("shop", "sales", SHOP):
        world.names.learn(world.ask(name), Answer.EXISTS, arn=THEIRS.replace("shop", "any"))
    assert not world.names.is_open(THEIRS.replace("shop", "any"), "p")
    world.names.learn(world.ask("sales"), Answer.EXISTS, arn=SHOP)
    world.deliver("sales", SHOP)
    world.answer("sales", Answer.MISSING)
    assert [(bus.name, bus.events) for bus in world.names.unconfirmed_buses()] == [("sales", 1)]


def test_a_bus_of_a_partner_whose_name_has_slashes_is_one_too() -> None:
    name = "aws.partner/example.com/12345/shop"
    world = World()
    world.names.learn(world.ask(name), Answer.EXISTS, arn=arn_of(name))
    assert world.names.is_open(arn_of(name), "p")


def test_an_arn_is_forgotten_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.targets.buses.MAX_KNOWN", 10)
    world = World()
    for number in range(30):
        world.names.learn(world.ask(f"bus-{number}"), Answer.EXISTS, arn=arn_of(f"bus-{number}"))
    assert len(world.names._arns._names) == len(world.names._arns._arns) == 10
    assert not world.names.is_open(arn_of("bus-0"), "p")
    assert world.names.is_open(arn_of("bus-29"), "p")


def test_the_arn_of_a_bus_that_was_missing_is_unknown_while_its_question_is_not_answered() -> None:
    world = both()
    world.answer("shop", Answer.MISSING)
    world.names.learn(world.ask(SHOP), Answer.UNANSWERED, "ThrottlingException")
    assert not world.names.is_open(SHOP, "p")
    assert world.names.why(SHOP) == "unknown"
    assert not world.names.has_share(SHOP), "no question is answered"
