"""Values that follow one another, on one line or on several: a bad one costs only itself."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.ingest.dialects import values
from tests.support.ingest import EVENT, NATIVE, serving

T = TypeVar("T")
LINES = {"Content-Type": "application/x-ndjson"}
GOOD = json.dumps(EVENT)
PRETTY = json.dumps(EVENT, indent=2)
HALF_IN_DETAIL = json.dumps({**EVENT, "Detail": {"a": "\ud83d"}})
HALF_IN_SOURCE = json.dumps({**EVENT, "Source": "\ud83d"})
BAD = '{"Source":nope}'
BAD_PRETTY = PRETTY.replace('"shop"', "nope")
PADDED = json.dumps({**EVENT, "Detail": {"p": "x" * 140_000}})
"""Makes a body one of those that are taken apart in steps."""


def at_once(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def apart(text: bytes) -> list[values.Value]:
    found, end = at_once(values.apart(text, 0, len(text), 1000))
    assert end == len(text)
    return list(found)


@pytest.mark.parametrize("padded", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("headers", [LINES, {}], ids=["lines", "no type"])
@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        (f"{GOOD}{GOOD}\n{BAD}\n{GOOD}", "yyny"),
        (f"{BAD}\n{GOOD}{GOOD}", "nyy"),
        (f"{GOOD}{BAD}{GOOD}\n{GOOD}", "ynyy"),
        (f"{GOOD}{BAD}{GOOD}", "yny"),
        (f"{BAD} {GOOD} {GOOD}", "nyy"),
        (f"{HALF_IN_DETAIL}{GOOD}\n{BAD}\n{GOOD}{GOOD}", "yynyy"),
        (f"{GOOD}{HALF_IN_SOURCE}{GOOD}\n{BAD}", "ynyn"),
        (f"{PRETTY}\n{BAD}\n{PRETTY}{GOOD}", "ynyy"),
        (f"{PRETTY}\n{BAD_PRETTY}\n{PRETTY}", "yny"),
        (f"{PRETTY[:-2]}\n{GOOD}\n{PRETTY}", "nyy"),
        (f'{{"Source":\n{GOOD}\n{GOOD}', "nyy"),
        (f'{{"Source":"a}}\n{GOOD}{GOOD}', "nyy"),
        (f"nope{GOOD} 7 {GOOD}", "nyny"),
        (f"{GOOD},\n{GOOD},\n", "yy"),
        (f"{GOOD},{GOOD}", "yy"),
        (f"{GOOD},", "y"),
        (f"{GOOD},{BAD},{GOOD}", "yny"),
        (f"\x1e{GOOD}\n", "y"),
        (f"\x1e{GOOD}\n\x1e{GOOD}\n", "yy"),
        (f"\x1e{GOOD[:-1]}\n\x1e{GOOD}\n", "ny"),
        (f"\ufeff{GOOD}\n\ufeff{GOOD}\n", "yy"),
        (f"{GOOD}\x1e{PRETTY}\ufeff{GOOD}", "yyy"),
        (f"{BAD}}}{GOOD}", "nny"),
    ],
)
async def test_a_bad_value_costs_only_itself_wherever_it_is(
    body: str, accepted: str, headers: dict[str, str], padded: bool
) -> None:
    if padded:
        body, accepted = f"{body}\n{PADDED}", f"{accepted}y"
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body.encode(), headers)
        assert answer.status == 202, answer.body
        assert "".join("n" if "code" in row else "y" for row in answer.json["results"]) == accepted


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ('{"Source":', "a bracket in it is not closed"),
        ('{"Source":"a}', "a string in it is not closed, or a quote in it is not escaped"),
    ],
)
async def test_a_value_without_a_certain_end_costs_its_line_and_says_why(first: str, why: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, f"{GOOD}{first}{GOOD}\n{GOOD}".encode(), LINES)
        assert (answer.json["accepted"], answer.json["refused"]) == (2, 1)
        message = answer.json["results"][1]["message"]
        assert "(byte " in message
        assert message.endswith(f"The rest of its line was read as part of the event: {why}.")


VALUES = st.recursive(
    st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
).filter(lambda value: isinstance(value, dict | list))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            VALUES,
            st.sampled_from([None, 1, "\t"]),
            st.sampled_from(["", " ", "\n", "\r\n\r\n", ",\n", "\n\x1e", "\ufeff"]),
        )
    )
)
def test_values_are_told_apart_as_they_were_put_together(
    some: list[tuple[object, int | str | None, str]],
) -> None:
    texts = [json.dumps(value, indent=indent).encode() for value, indent, _ in some]
    text = b"".join(text + between.encode() for text, (_, _, between) in zip(texts, some, strict=True))
    # A line that begins with a bracket begins a value, so none of them may be inside of one.
    assert apart(text) == texts


def test_values_longer_than_a_step_are_told_apart() -> None:
    texts = [
        json.dumps({"a": "x" * (values.CHUNK + n), "b": ["\\", '"'] * 3000, "c": "é" * n}).encode()
        for n in range(-3, 4)
    ]
    assert apart(b"".join(texts)) == texts


def test_at_most_one_more_than_asked_for_is_made() -> None:
    found, end = at_once(values.apart(b"{}" * 50, 0, 100, 10))
    assert (len(found), end) == (11, 22)


def test_lines_that_open_brackets_in_vain_are_looked_at_twice_at_most() -> None:
    steps, text = 0, b"{ \n " * 100_000
    for _ in values.apart(text, 0, len(text), 60_000):
        steps += 1
    assert steps <= 2 * len(text) / values.CHUNK + 60_000 / values.STEP + 60_000
