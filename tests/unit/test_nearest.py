"""Long lists of names stay short, and words are close whatever their case and separators."""

from __future__ import annotations

import pytest

from forwarder.nearest import did_you_mean, listed, others


@pytest.mark.parametrize(
    ("names", "said"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")],
)
def test_a_list_shows_so_many_names_and_counts_the_rest(names: list[str], said: str) -> None:
    assert listed(names, 2) == said


def test_the_others_are_those_besides_the_first() -> None:
    assert others(["a"]) == ""
    assert others(["a", "b"]) == " (the same for b)"
    assert others(list("abcdefg")) == " (the same for b, c, d and 3 more)"


@pytest.mark.parametrize(
    ("given", "meant"), [("Disk", "disk"), ("max-wait", "max_wait"), ("dsik", "disk"), ("zebra", "")]
)
def test_a_word_is_close_whatever_its_case_and_separators(given: str, meant: str) -> None:
    said = did_you_mean(given, ["disk", "max_wait"])
    assert said == (f' Did you mean "{meant}"?' if meant else "")
