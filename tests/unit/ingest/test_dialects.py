"""The native dialect by itself: what it makes of bodies, and what it says."""

from __future__ import annotations

import json
from itertools import groupby

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.ingest.budget import PARSED_EVENT_BYTES, Budget, Lease
from forwarder.ingest.dialects import native
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http.media import holds_lines
from forwarder.model import Refusal


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    data: msgspec.Raw = msgspec.Raw(b"")


CODEC = native.Codec(Thing)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
BAD = (b"{", b"7", b"[]", b'{"nam":1}', b'{"name":1}', b'{"name":"\xff"}', b'{"name":"a","data":nul}')


def parse(body: bytes, *, lines: bool, room: int = 1 << 20) -> list[object]:
    with Lease(Budget(room)) as lease:
        items = CODEC.parse(body, lease, lines=lines)
        if items is not None:
            return items
        return [item for item in CODEC.steps(body, lease, lines=lines) if item is not None]


def names(items: list[object]) -> list[object]:
    return [item.name if isinstance(item, Thing) else "refused" for item in items]


@given(st.lists(st.tuples(st.text(max_size=5), VALUES), min_size=1, max_size=5), st.booleans())
def test_every_form_of_a_body_gives_the_same_events(rows: list[tuple[str, object]], pretty: bool) -> None:
    things = [{"name": name, "data": data} for name, data in rows]
    array = json.dumps(things, indent=2 if pretty else None).encode()
    lines = "\n".join(json.dumps(thing, ensure_ascii=pretty) for thing in things).encode()
    for body, is_lines in ((array, False), (lines, True)):
        events = [item for item in parse(body, lines=is_lines) if isinstance(item, Thing)]
        assert [(event.name, json.loads(bytes(event.data))) for event in events] == rows
    assert names(parse(json.dumps(things[0]).encode(), lines=False)) == [rows[0][0]]


@given(st.lists(st.sampled_from((b'{"name":"a"}', *BAD)), min_size=1, max_size=6))
def test_in_lines_every_bad_event_is_refused_and_no_good_one(rows: list[bytes]) -> None:
    items = parse(b"\n".join(rows), lines=True)
    # a bracket that is not closed takes the lines up to the next bracket, which are bad as well
    told = ["a" if row == b'{"name":"a"}' else "refused" for row in rows]
    assert [name for name, _ in groupby(names(items)) if name == "refused"] == [
        name for name, _ in groupby(told) if name == "refused"
    ]
    assert names(items).count("a") == told.count("a")


@given(
    st.lists(
        st.sampled_from((b'{"name":"a"}', b"7", b"[]", b'{"nam":1}', b'{"name":1}')), min_size=2, max_size=6
    )
)
def test_in_an_array_every_bad_event_is_refused_and_no_good_one(rows: list[bytes]) -> None:
    items = parse(b" [%b]" % b",".join(rows), lines=False)
    assert names(items) == ["a" if row == b'{"name":"a"}' else "refused" for row in rows]


@pytest.mark.parametrize("body", [b"{", b"[{]", b'[{"name":"a"},]', b"[" * 100_000])
def test_what_is_not_json_is_refused_whole(body: bytes) -> None:
    with pytest.raises(BadRequest) as problem:
        parse(body, lines=False)
    assert (problem.value.status, problem.value.code) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (b"[" + b"7," * 1_000_000 + b"7]", False),
        (b"[" + b"7," * 1999 + b"7]", False),
        (b'[{"name":1}' + b',{"name":"a"}' * 1999 + b"]", False),
        (b"7\n" * 2000, True),
        (b'{"name":"a"}\n' * 2000, True),
    ],
    ids=["very many bad parts", "bad parts", "good parts and a bad one", "bad lines", "good lines"],
)
def test_more_events_than_there_is_memory_for_are_refused_before_they_are_taken_apart(
    body: bytes, lines: bool
) -> None:
    assert len(body) > 3 * 1000
    with pytest.raises(BadRequest) as problem:
        parse(body, lines=lines, room=1000 * PARSED_EVENT_BYTES)
    assert (problem.value.status, problem.value.code) == (413, "RequestEntityTooLargeException")


def test_a_name_of_any_length_is_not_said_back_whole() -> None:
    [refusal] = parse(b'{"%b":1}' % (b"n" * 100_000), lines=False)
    assert isinstance(refusal, Refusal)
    assert "nnn" in refusal.message
    assert len(refusal.message) < 1000


def test_lines_are_named_only_when_their_numbers_are_right() -> None:
    results: list[str | Refusal] = ["id", Refusal("A", "wrong.")]
    list(native.name_lines(b'{"name":"a"}\r\n\r\n{"name":"b"}\r\n', results))
    assert results[1] == Refusal("A", "Line 3: wrong.")
    two_in_one: list[str | Refusal] = ["id", Refusal("A", "wrong.")]
    list(native.name_lines(b'{"name":"a"}{"name":"b"}', two_in_one))
    assert two_in_one[1] == Refusal("A", "wrong.")


def test_results_are_rendered_in_order_whatever_their_text() -> None:
    body = native.render(["x", Refusal("Code", 'say "no"\n'), "y"])
    assert json.loads(body) == {
        "accepted": 2,
        "refused": 1,
        "results": [{"id": "x"}, {"code": "Code", "message": 'say "no"\n'}, {"id": "y"}],
    }
    assert json.loads(native.render(["x"])) == {"accepted": 1, "refused": 0, "results": [{"id": "x"}]}


def test_many_content_types_are_judged_alike_and_not_all_remembered() -> None:
    for n in range(300):
        assert not holds_lines({"Content-Type": f"application/json; n={n}"})
        assert holds_lines({"Content-Type": f"Application/X-NDJSON; n={n}"})
    assert not holds_lines({})
    with pytest.raises(BadRequest):
        holds_lines({"Content-Type": "image/png"})
