"""The words in an event's data that order its fate."""

from __future__ import annotations

import pytest

from forwarder.sandbox.markers import Strikes, Word, word


@pytest.mark.parametrize("marker", ["reject", "refuse", "fail-once", "fail-twice", "throttle-once"])
def test_a_word_in_the_object_marks_it(marker: str) -> None:
    assert word(f'{{"n":1,"sandbox":"{marker}"}}') == marker
    assert word(f'{{ "sandbox" : "{marker}", "n": 1 }}') == marker


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"sandbox":"production"}',
        '{"sandbox":true}',
        '{"sandbox":null}',
        '{"inside":{"sandbox":"reject"}}',
        '["sandbox"]',
        '{"sandbox":"reject"',
        '{"text":"\\"sandbox\\":\\"reject\\""}',
        '{"a":' * 5000 + '"sandbox"',
    ],
)
def test_anything_else_means_nothing(text: str) -> None:
    assert word(text) is None


@pytest.mark.parametrize(
    ("marker", "strikes"),
    [
        ("fail-once", [True, False, False]),
        ("throttle-once", [True, False, False]),
        ("fail-twice", [True, True, False]),
        ("reject", [True, True, True]),
        ("refuse", [True, True, True]),
    ],
)
def test_words_strike_as_often_as_they_say(marker: Word, strikes: list[bool]) -> None:
    struck = Strikes()
    assert [struck.strike(marker, b"one") for _ in range(3)] == strikes


def test_every_event_is_struck_by_itself() -> None:
    struck = Strikes()
    assert struck.strike("fail-once", b"one")
    assert struck.strike("fail-once", b"two")
    assert not struck.strike("fail-once", b"one")
    struck.clear()
    assert struck.strike("fail-once", b"one")
