"""Durations, sizes and listen addresses, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config import Bytes, Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("14d", 1_209_600.0),
        ("0s", 0.0),
        (0, 0.0),
        ("0", 0.0),
    ],
)
def test_a_duration_has_a_unit(text: object, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", [5, 1.5, "5", "-1s", "1 s", "s", "", "1w", "1S", True, False, None, "nan", "\u0661s"]
)
def test_what_is_not_a_duration_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValueError, match="100ms, 2s"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("512KiB", 524_288),
        ("64MiB", 67_108_864),
        ("64 MiB", 67_108_864),
        ("1.5GiB", 1_610_612_736),
        (1_048_575, 1_048_575),
        ("1048575", 1_048_575),
        (0, 0),
    ],
)
def test_a_size_has_a_unit_or_is_bytes(text: object, size: int) -> None:
    assert Bytes.parse(text) == size


@pytest.mark.parametrize(
    "text", [-1, 1.5, "64MB", "64mib", "1.0000001KiB", "", True, None, "MiB", "-5KiB", "\u0663"]
)
def test_what_is_not_a_size_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValueError, match="64MiB"):
        Bytes.parse(text)


@given(st.integers(0, 10_000_000).map(lambda ms: Duration(ms / 1000)))
def test_a_duration_reads_as_it_is_written(duration: Duration) -> None:
    assert Duration.parse(duration.text) == pytest.approx(duration, abs=1e-3, rel=1e-5)


@given(st.integers(0, 1 << 50).map(Bytes))
def test_a_size_reads_as_it_is_written(size: Bytes) -> None:
    assert Bytes.parse(size.text) == size
