"""Whose question is next."""

from __future__ import annotations

import pytest

from forwarder.targets import turns
from forwarder.targets.turns import FOREVER, NEAR, Agenda, Bucket, Turns


def ask_all(asked: Turns, now: float) -> list[str]:
    """Everything whose turn it is now, in order."""
    names = []
    while (turn := asked.next(now)) is not None:
        names.append(turn.name)
    return names


def test_peers_take_turns_however_much_one_of_them_asks() -> None:
    asked = Turns(1000, 100.0, 1.0)
    for i in range(50):
        asked.add(f"a{i}", "a", 0.0)
    asked.add("b0", "b", 0.0)
    asked.add("c0", "c", 0.0)
    assert ask_all(asked, 0.0)[:6] == ["a0", "b0", "c0", "a1", "a2", "a3"]


def test_a_peer_has_a_hundred_questions_at_once_and_then_one_a_second() -> None:
    asked = Turns(1000, 100.0, 1.0)
    for i in range(300):
        asked.add(f"a{i}", "a", 0.0)
    assert len(ask_all(asked, 0.0)) == 100
    assert ask_all(asked, 0.9) == []
    assert asked.wait(0.9) == pytest.approx(0.1)
    assert ask_all(asked, 10.0) == [f"a{i}" for i in range(100, 110)]


def test_a_peer_that_used_up_its_burst_costs_another_nothing() -> None:
    asked = Turns(1000, 3.0, 1.0)
    for i in range(10):
        asked.add(f"a{i}", "a", 0.0)
    ask_all(asked, 0.0)
    asked.add("b0", "b", 0.0)
    assert ask_all(asked, 0.0) == ["b0"]


def test_unused_questions_are_not_saved_beyond_the_burst() -> None:
    asked = Turns(1000, 3.0, 1.0)
    asked.add("first", "a", 0.0)
    ask_all(asked, 0.0)
    for i in range(10):
        asked.add(f"a{i}", "a", 1000.0)
    assert len(ask_all(asked, 1000.0)) == 3


def test_a_name_of_two_peers_is_asked_for_by_the_first_whose_turn_it_is() -> None:
    asked = Turns(1000, 100.0, 1.0)
    for i in range(20):
        asked.add(f"a{i}", "a", 0.0)
    asked.add("shared", "a", 0.0)
    asked.add("shared", "b", 0.0)
    assert ask_all(asked, 0.0)[1] == "shared"


def test_an_answer_takes_the_name_out_of_every_peers_place() -> None:
    asked = Turns(1000, 100.0, 1.0)
    asked.add("x", "a", 0.0)
    asked.add("x", "b", 0.0)
    asked.discard("x")
    assert "x" not in asked
    assert len(asked) == 0
    assert ask_all(asked, 0.0) == []


def test_a_question_without_an_answer_costs_its_peer_nothing() -> None:
    asked = Turns(1000, 1.0, 1.0)
    asked.add("x", "a", 0.0)
    turn = asked.next(0.0)
    assert turn is not None
    asked.refund(turn)
    asked.add("x", "a", 0.0)
    assert ask_all(asked, 0.0) == ["x"]


def test_the_names_are_bounded_and_a_peer_that_holds_little_gets_its_place() -> None:
    asked = Turns(100, 100.0, 1.0)
    assert all(asked.add(f"a{i}", "a", 0.0) for i in range(100))
    assert not asked.add("a100", "a", 0.0)
    assert asked.add("b0", "b", 0.0)
    assert len(asked) == 100
    assert "a99" not in asked, "the newest of the largest gives way"
    assert not asked.add("a101", "a", 0.0)


def test_the_peers_are_bounded_and_the_rest_takes_its_turns_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_PEERS", 3)
    asked = Turns(1000, 100.0, 1.0)
    for i in range(10):
        asked.add(f"n{i}", f"peer-{i}", 0.0)
    assert sorted(ask_all(asked, 0.0)) == [f"n{i}" for i in range(10)]
    asked.add("later", "peer-11", 500.0)
    turn = asked.next(500.0)
    assert turn is not None
    assert turn.peer == "peer-11", "peers that ask nothing are forgotten"


def test_only_what_is_about_to_be_asked_is_near() -> None:
    asked = Turns(1000, 100.0, 1.0)
    for i in range(200):
        asked.add(f"a{i}", "a", 0.0)
    assert asked.is_near("a0", 0.0)
    assert asked.is_near("a99", 0.0)
    assert not asked.is_near("a100", 0.0)
    ask_all(asked, 0.0)
    assert asked.is_near(f"a{100 + NEAR - 1}", 0.0)
    assert not asked.is_near(f"a{100 + NEAR}", 0.0)


def test_what_is_due_later_waits_and_a_hurry_ends_that() -> None:
    asked = Turns(1000, FOREVER, 1.0)
    asked.add("x", "a", 0.0, 30.0)
    assert asked.next(29.0) is None
    assert asked.wait(10.0) == pytest.approx(20.0)
    asked.hurry()
    assert ask_all(asked, 10.0) == ["x"]
    assert asked.wait(10.0) == FOREVER


def test_a_bucket_that_is_empty_says_how_long_it_takes() -> None:
    bucket = Bucket(2.0, 4.0)
    bucket.take(0.0)
    bucket.take(0.0)
    assert bucket.wait(0.0) == pytest.approx(0.25)
    assert bucket.wait(0.25) == 0.0


def test_an_agenda_gives_names_when_they_are_due_and_at_its_rate() -> None:
    agenda = Agenda(2.0, 1.0)
    for i in range(4):
        agenda.add(f"n{i}", 10.0 + i / 10)
    assert agenda.next(9.9) is None
    assert [agenda.next(11.0), agenda.next(11.0), agenda.next(11.0)] == ["n0", "n1", None]
    assert agenda.next(12.0) == "n2"
    agenda.add("n3", 50.0)
    assert agenda.next(13.0) is None, "a later moment takes the place of the earlier"
    agenda.discard("n3")
    assert agenda.wait(13.0) == FOREVER
