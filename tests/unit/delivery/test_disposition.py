"""Disposition: what one answer does to each event of a batch."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from forwarder.delivery.disposition import Fate, Policy, dispose
from forwarder.delivery.health import Verdict
from forwarder.delivery.lane import Lane
from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all

_ids = itertools.count()
POLICY = Policy(max_age=3600.0)
NOW = 10_000.0
DELIVERED = Outcome(Kind.DELIVERED)
FAILED = Outcome(Kind.RETRY, "InternalFailure")
POISON = Outcome(Kind.REJECTED, "MalformedDetail", "Detail is malformed.")


def batch(count: int, received_at: float = NOW - 1) -> Batch:
    events = [Event(f"e{next(_ids)}", b"{}", 2, b"", received_at) for _ in range(count)]
    return Batch(b"", events, 2 * count, Flush.COUNT)


def fate_of(
    sent: Batch, results: Results, *, policy: Policy = POLICY, proven: bool = True, aside: float | None = None
) -> Fate:
    return dispose(sent, results, NOW, policy, Verdict(proven, aside), chance=lambda: 0.5)


def test_entries_that_failed_come_back_alone() -> None:
    sent = batch(4)
    fate = fate_of(sent, Results(CallStatus.OK, [DELIVERED, FAILED, POISON, DELIVERED]))
    assert fate.delivered == [sent.events[0], sent.events[3]]
    assert fate.retry == [sent.events[1]]
    assert [dead.event for dead in fate.dead] == [sent.events[2]]
    assert fate.dead[0].reason == "rejected"
    assert fate.dead[0].event.attempts == 1
    assert fate.dead[0].code == "MalformedDetail"


def test_a_failed_entry_waits_by_itself_and_its_attempt_counts() -> None:
    sent = batch(2)
    fate_of(sent, Results(CallStatus.OK, [DELIVERED, FAILED]))
    event = sent.events[1]
    assert event.attempts == 1
    assert event.not_before == NOW + 0.1
    assert sent.events[0].attempts == 0


@pytest.mark.parametrize("status", [CallStatus.THROTTLED, CallStatus.UNAVAILABLE, CallStatus.HELD])
def test_trouble_of_the_call_returns_every_event_and_counts_no_attempt(status: CallStatus) -> None:
    sent = batch(10)
    fate = fate_of(sent, same_for_all(status, 10, "x", ""))
    assert fate.retry == sent.events
    assert not fate.dead
    assert all(event.attempts == 0 and event.not_before == 0 for event in sent.events)


def test_calls_that_were_never_made_for_want_of_credentials_count_nothing() -> None:
    sent = batch(1)
    down = same_for_all(CallStatus.UNAVAILABLE, 1, "500", "AssumeRole: no")
    for _ in range(10):
        assert fate_of(sent, msgspec.structs.replace(down, called=False)).retry == sent.events
    assert (sent.events[0].attempts, sent.events[0].returns, sent.events[0].not_before) == (0, 0, 0.0)


def test_an_hour_of_throttling_an_event_that_is_alone_counts_no_attempt() -> None:
    sent = batch(1)
    for _ in range(1000):
        fate_of(sent, same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", ""))
    assert sent.events[0].attempts == 0


def test_only_events_that_meet_unknown_fates_again_and_again_step_aside_for_longer_and_longer() -> None:
    sent = batch(2)
    waits = []
    for _ in range(10):
        fate_of(sent, same_for_all(CallStatus.THROTTLED, 2, "ThrottlingException", ""))
        assert [event.not_before for event in sent.events] == [0.0, 0.0]
        fate_of(sent, same_for_all(CallStatus.UNAVAILABLE, 2, "503", ""))
        waits.append(max(event.not_before for event in sent.events))
    assert waits[:4] == [0.0, NOW + 0.1, NOW + 0.2, NOW + 0.4]
    assert waits[-1] == NOW + 15


def test_a_refused_call_is_halved() -> None:
    sent = batch(5)
    fate = fate_of(sent, same_for_all(CallStatus.REFUSED, 5, "ValidationException", ""))
    assert fate.parts == [sent.events[:2], sent.events[2:]]
    assert not fate.retry
    assert not fate.dead


def test_a_single_refused_event_is_the_culprit_once_aws_has_taken_others() -> None:
    sent = batch(1)
    refused = same_for_all(CallStatus.REFUSED, 1, "ValidationException", "too odd")
    assert not fate_of(sent, refused, proven=False).dead
    fate = fate_of(sent, refused)
    assert [(d.event, d.reason, d.code, d.message) for d in fate.dead] == [
        (sent.events[0], "rejected", "ValidationException", "too odd")
    ]


def test_a_suspect_stays_by_itself_and_steps_aside_until_there_is_evidence() -> None:
    sent = batch(1)
    fate = fate_of(sent, same_for_all(CallStatus.REFUSED, 1, "ValidationException", ""), proven=False)
    assert fate.aside == [sent.events]
    assert sent.events[0].not_before > NOW


def test_events_whose_bus_or_monitor_is_missing_step_aside_together() -> None:
    sent = batch(3)
    missing = Outcome(Kind.RETRY, "ResourceNotFoundException")
    results = Results(CallStatus.HELD, [DELIVERED, missing, missing], "ResourceNotFoundException", "")
    fate = fate_of(sent, results, aside=30.0)
    assert fate.delivered == sent.events[:1]
    assert fate.aside == [sent.events[1:]]
    assert not fate.retry
    assert {event.not_before for event in sent.events[1:]} == {NOW + 30}


def test_a_part_of_a_refused_batch_stays_one_when_its_call_fails() -> None:
    sent = batch(3)
    sent.part = True
    fate = fate_of(sent, same_for_all(CallStatus.THROTTLED, 3, "ThrottlingException", ""))
    assert fate.parts == [sent.events]
    assert not fate.retry


def test_a_whole_batch_is_given_up_when_its_youngest_event_is_too_old() -> None:
    whole = Policy(max_age=3600.0, whole=True)
    sent = batch(2, received_at=NOW - 3601)
    sent.events[1].received_at = NOW - 3599
    unavailable = same_for_all(CallStatus.UNAVAILABLE, 2, "503", "")
    assert fate_of(sent, unavailable, policy=whole).retry == sent.events
    sent.events[1].received_at = NOW - 3601
    assert len(fate_of(sent, unavailable, policy=whole).dead) == 2


def test_an_event_older_than_max_age_is_given_up_instead_of_retried() -> None:
    sent = batch(2, received_at=NOW - 3601)
    fate = fate_of(sent, Results(CallStatus.OK, [DELIVERED, FAILED]))
    assert [(d.event, d.reason) for d in fate.dead] == [(sent.events[1], "expired")]


def test_max_attempts_is_off_by_default_and_ends_retries_when_set() -> None:
    sent = batch(1)
    for _ in range(100):
        assert fate_of(sent, Results(CallStatus.OK, [FAILED])).retry
    limited = batch(1)
    policy = Policy(max_age=3600.0, max_attempts=2)
    assert fate_of(limited, Results(CallStatus.OK, [FAILED]), policy=policy).retry
    assert fate_of(limited, Results(CallStatus.OK, [FAILED]), policy=policy).dead


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_target_that_miscounts_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match="outcomes for a batch"):
        fate_of(batch(2), Results(CallStatus.OK, [DELIVERED] * count))


def test_every_event_has_exactly_one_fate() -> None:
    sent = batch(10)
    outcomes = [DELIVERED, FAILED, POISON] * 3 + [DELIVERED]
    fate = fate_of(sent, Results(CallStatus.OK, outcomes))
    placed = [*fate.delivered, *fate.retry, *(dead.event for dead in fate.dead)]
    assert sorted(event.id for event in placed) == sorted(event.id for event in sent.events)


def test_no_event_is_given_up_for_an_age_that_a_doubted_clock_gave_it() -> None:
    class Recovered:
        knows_ages = False

    nothing: Any = None
    queue: Any = Recovered()
    lane = Lane("t", nothing, queue, nothing, POLICY, nothing, nothing, nothing)
    sent, failed = batch(1, received_at=NOW - 14 * 86_400), Results(CallStatus.OK, [FAILED])
    assert fate_of(sent, failed, policy=lane.current_policy()).retry == sent.events
    queue.knows_ages = True
    assert fate_of(sent, failed, policy=lane.current_policy()).dead
