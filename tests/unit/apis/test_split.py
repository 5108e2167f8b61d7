"""Arrays split at their commas, whatever stands between these; and never where nobody knows."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.apis.split import STEP, Unsplittable, members, split

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12, alphabet='a"\\[]{},: é\ud83d\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def parts(text: bytes) -> list[bytes]:
    return [text[span[0] : span[1]] for span in split(text, 0, len(text)) if span is not None]


@given(st.lists(VALUES, max_size=6), st.integers(0, 2 * STEP), st.sampled_from([None, 1]))
def test_an_array_is_split_as_a_reader_of_json_would(values: list[object], padding: int, indent: int) -> None:
    values = ["\\" * padding, *values]  # so that a step ends anywhere, also within an escape
    found = parts(json.dumps(values, indent=indent).encode() + b" \n")
    assert [json.loads(part) for part in found] == json.loads(json.dumps(values))


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_the_members_of_an_object_have_their_names_and_values(value: dict[str, object]) -> None:
    text = json.dumps(value).encode()
    found = [each for each in members(text) if each is not None]
    assert {name: json.loads(text[start:end]) for name, _, (start, end) in found} == json.loads(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[", "ends too early (byte 1)"),
        (b"[1,]", "a value is missing (byte 3)"),
        (b"[,1]", "a value is missing (byte 1)"),
        (b"[1]x", "trailing characters (byte 3)"),
        (b"[[1]", "ends too early (byte 4)"),
        (b"[1]]", "trailing characters (byte 3)"),
        (b'["a]', "near byte 1"),
        (b'[{"a":"x},{"b":1},{"c":"y}]', "near byte 6"),  # two quotes are missing: one event or three?
    ],
)
@pytest.mark.parametrize("padding", [0, STEP - 2, 3 * STEP])
def test_what_has_no_certain_parts_is_not_split(text: bytes, words: str, padding: int) -> None:
    with pytest.raises(Unsplittable) as problem:
        parts(text)
    assert words in str(problem.value)
    with pytest.raises(Unsplittable):
        parts(b'["%b",' % (b"a" * padding) + text[1:])
