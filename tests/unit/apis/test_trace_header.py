"""W3C's traceparent and X-Ray's header: the examples of their pages, and what is none."""

from __future__ import annotations

import pytest

from forwarder.apis.trace_header import from_headers, from_traceparent

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADER = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
AMZN = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0"


def test_a_traceparent_becomes_a_root_a_parent_and_whether_it_is_sampled() -> None:
    assert from_traceparent(PARENT) == HEADER
    assert from_traceparent(f"{PARENT[:-2]}00") == f"{HEADER[:-1]}0"
    assert from_traceparent(f"{PARENT[:-2]}fe") == f"{HEADER[:-1]}0"


def test_a_later_version_may_say_more() -> None:
    assert from_traceparent(f"01{PARENT[2:]}-what-the-future-says") == HEADER
    assert from_traceparent(f"{PARENT}-more") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        PARENT[:-1],
        f"{PARENT}0",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        PARENT.replace("-", "_"),
    ],
)
def test_what_is_no_traceparent_gives_nothing(text: str) -> None:
    assert from_traceparent(text) is None


def test_a_requests_traceparent_goes_before_its_x_amzn_trace_id() -> None:
    assert from_headers({"traceparent": PARENT, "X-Amzn-Trace-Id": AMZN}) == HEADER
    assert from_headers({"traceparent": "none", "X-Amzn-Trace-Id": AMZN}) == AMZN
    assert from_headers({"X-Amzn-Trace-Id": f"Self=1-2;{AMZN}"}) == f"Self=1-2;{AMZN}"
    assert from_headers({}) is None


@pytest.mark.parametrize("text", ["", "Root=1-1-1", f"{AMZN};{'x' * 500}", "Root=2-5759e988", f"{AMZN}\x00"])
def test_what_is_no_trace_id_gives_nothing(text: str) -> None:
    assert from_headers({"X-Amzn-Trace-Id": text}) is None
