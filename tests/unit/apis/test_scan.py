"""JSON looked over without decoding, beside the standard library's decoder."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.apis import scan
from forwarder.apis.scan import elements, is_deeper, segments

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},\u00e9\U0001f600', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=30,
)
CONTAINERS = st.lists(VALUES, min_size=1, max_size=40) | st.dictionaries(
    st.text(max_size=4), VALUES, min_size=1, max_size=20
)


def run(steps: Generator[None, None, int]) -> int:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return int(end.value)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@pytest.fixture(autouse=True, scope="module")
def _small_chunks() -> Generator[None, None, None]:
    """So that every text has many, and each of their edges is met."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "CHUNK", 5)
        patch.setattr(scan, "_PIECE", 3)
        yield


@given(CONTAINERS, st.booleans(), st.integers(0, 45))
def test_elements_are_counted_exactly_where_it_matters(value: Any, ascii_: bool, limit: int) -> None:
    data = json.dumps(value, ensure_ascii=ascii_).encode()
    counted = run(elements(data, limit))
    assert (counted > limit) == (len(value) > limit)
    assert counted >= min(len(value), limit + 1)


@given(VALUES, st.booleans(), st.integers(0, 8))
def test_depth_is_exact(value: Any, ascii_: bool, limit: int) -> None:
    assert is_deeper(json.dumps(value, ensure_ascii=ascii_).encode(), limit) == (depth(value) > limit)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 40))
def test_towers_are_as_deep_as_they_are(height: int, zigzag: int, limit: int) -> None:
    text = b"[" * height + b",".join([b"[[]]"] * zigzag) + b"]" * height
    assert is_deeper(text, limit) == (height + 2 > limit)


@pytest.mark.parametrize("rest", [b"", b"]", b"x", b'"', b"\\", b"}", b",[", b'"\\'])
def test_what_is_no_json_is_counted_up_to_where_a_decoder_stops(rest: bytes) -> None:
    text = b"[" + b"{}," * 50 + rest
    assert run(elements(text, 40)) > 40


@given(st.lists(VALUES, min_size=1, max_size=30), st.booleans(), st.integers(1, 40))
def test_segments_are_the_array_in_order(value: list[Any], ascii_: bool, size: int) -> None:
    data = (" " + json.dumps(value, ensure_ascii=ascii_) + " ").encode()
    found: list[Any] = []
    for segment in segments(data, size):
        if segment is not None:
            closing = b"]" if segment.end < len(data) else b""
            part = json.loads(b"[" + data[segment.start : segment.end] + closing)
            assert len(part) == 1 or not segment.single
            assert segment.signs <= sum(data.count(sign) for sign in (b"[", b"]", b"{", b"}", b","))
            assert segment.single or segment.end - segment.start <= 2 * size + 12
            found += part
    assert found == value
