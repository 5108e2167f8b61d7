"""What a docstring says of settings is found, whatever it says beside it."""

from __future__ import annotations

import msgspec

from forwarder.config.setting_docs import parse_setting_docs, told_purpose


class Base(msgspec.Struct):
    """What all have.

    ``pace``: calls a second.
    """

    pace: int = 1


class Group(Base):
    """Who may send; ``names`` are of a file. ``first``: one,
    over two lines. ``second``: `a` or ``first``.

    Told of the group as a whole.
    ``pace``: slower here
    """

    first: int = 1
    second: int = 2


class Silent(msgspec.Struct):
    first: int = 1


def test_each_setting_has_its_sentence_and_a_type_that_inherits_may_say_it_anew() -> None:
    assert parse_setting_docs(Base) == {"pace": "Calls a second."}
    assert parse_setting_docs(Group) == {
        "first": "One, over two lines.",
        "second": "`a` or `first`.",
        "pace": "Slower here.",
    }


def test_what_is_said_of_no_setting_is_what_the_group_is_for() -> None:
    assert told_purpose(Base) == "What all have."
    assert told_purpose(Group) == "Who may send; ``names`` are of a file. Told of the group as a whole."


def test_a_type_without_a_docstring_says_nothing() -> None:
    assert parse_setting_docs(Silent) == {}
