"""The record of what arrived: order, duplicates, numbers."""

from __future__ import annotations

import json
from typing import Any

from forwarder.sandbox.calls import Item, digest
from forwarder.sandbox.record import Record


def take(record: Record, n: int, api: str = "eventbridge", *, dropped: bool = False) -> None:
    item = Item("default", b'{ "n": %d }' % n, digest("default", n), dropped=dropped)
    record.take(api, record.call(api), 12.5, b"{}", item, f"id-{n}")


def lines(record: Record, **query: Any) -> list[Any]:
    return [json.loads(line) for line in record.lines(**query)]


def test_events_are_read_back_in_the_order_they_arrived() -> None:
    record = Record()
    for n in (3, 1, 2):
        take(record, n)
    assert [line["entry"]["n"] for line in lines(record)] == [3, 1, 2]
    assert [line["number"] for line in lines(record)] == [1, 2, 3]


def test_a_line_says_what_arrived_where_and_when() -> None:
    record = Record()
    take(record, 7)
    assert lines(record) == [
        {
            "number": 1,
            "at": 12.5,
            "api": "eventbridge",
            "call": 1,
            "name": "default",
            "copy": 1,
            "dropped": False,
            "envelope": {},
            "entry": {"n": 7},
            "event_id": "id-7",
        }
    ]


def test_an_entry_is_shown_as_it_came_over_the_wire() -> None:
    record = Record()
    take(record, 7)
    assert b'"entry":{ "n": 7 }' in next(record.lines())


def test_an_entry_that_comes_again_is_a_duplicate() -> None:
    record = Record()
    for n in (1, 2, 1, 1):
        take(record, n)
    counts = record.counts["eventbridge"]
    assert (counts.events, counts.distinct, counts.duplicates) == (4, 2, 2)
    assert [line["copy"] for line in lines(record)] == [1, 1, 2, 3]


def test_the_same_entry_for_another_place_is_another_event() -> None:
    assert digest("default", {"n": 1}) != digest("orders", {"n": 1})


def test_a_dropped_event_is_no_arrival() -> None:
    record = Record()
    take(record, 1, dropped=True)
    take(record, 1)
    counts = record.counts["eventbridge"]
    assert (counts.dropped, counts.events, counts.duplicates) == (1, 1, 0)
    assert [line["number"] for line in lines(record)] == [2]
    assert [line["number"] for line in lines(record, dropped=True)] == [1]


def test_the_record_is_read_on_from_a_number_and_by_api() -> None:
    record = Record()
    for n, api in enumerate(("eventbridge", "rum", "eventbridge", "evidently")):
        take(record, n, api)
    assert [line["number"] for line in lines(record, since=2)] == [3, 4]
    assert [line["number"] for line in lines(record, api="eventbridge", since=1)] == [3]
    assert lines(record, since=4) == []


def test_without_keep_only_the_numbers_remain() -> None:
    record = Record(keep=False)
    for n in (1, 2, 1):
        take(record, n)
    assert lines(record) == []
    assert record.counts["eventbridge"].duplicates == 1


def test_a_reader_loses_nothing_to_a_reset() -> None:
    record = Record()
    take(record, 1)
    take(record, 2)
    reader = record.lines()
    next(reader)
    record.clear()
    assert json.loads(next(reader))["number"] == 2
    assert lines(record) == []


def test_the_mean_batch_is_of_answered_calls() -> None:
    record = Record()
    for entries, failed in ((10, 0), (5, 2)):
        record.call("evidently")
        record.answered("evidently", entries, failed)
    record.call("evidently")
    counts = record.counts["evidently"]
    assert (counts.calls, counts.calls_answered, counts.mean_batch, counts.failed_entries) == (3, 2, 7.5, 2)
