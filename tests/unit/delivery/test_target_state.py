"""The state that others see: blocks before the target's own state, and since when."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from forwarder.changes import Changes
from forwarder.delivery.target_state import TargetState
from forwarder.states import Reason, State
from tests.support.clocks import HandClock


def made() -> tuple[TargetState, HandClock]:
    clock = HandClock(100.0, wall_ahead=1_700_000_000.0)
    return TargetState(Changes(structlog.get_logger("test"), clock.monotonic), clock), clock


def test_probes_that_meet_the_same_trouble_keep_since_and_another_reason_begins_anew() -> None:
    state, clock = made()
    state.enter(State.HELD, Reason.ACCESS, "no")
    clock.now += 60
    state.enter(State.HELD, Reason.ACCESS, "still no")
    assert (state.seen.since, state.seen.message) == (100.0, "still no")
    state.enter(State.HELD, Reason.CREDENTIALS, "expired")
    assert state.seen.since == 160.0


def test_a_pause_is_seen_before_other_blocks_and_begins_when_it_was_ordered() -> None:
    state, clock = made()
    state.block("storage", Reason.STORAGE, "full")
    clock.now += 60
    state.block("operator", Reason.OPERATOR, "paused")
    assert (state.seen.reason, state.seen.since) == (Reason.OPERATOR, 160.0)
    assert state.seen.message == "paused; full"
    state.unblock("operator")
    assert (state.seen.reason, state.seen.since) == (Reason.STORAGE, 100.0)


def test_each_change_is_logged_once_and_the_end_with_its_length() -> None:
    state, clock = made()
    with capture_logs() as lines:
        state.enter(State.BACKING_OFF, Reason.THROTTLED, "slow")
        state.enter(State.BACKING_OFF, Reason.THROTTLED, "slower")
        clock.now += 5
        state.enter(State.OPEN)
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("target backing off", Reason.THROTTLED),
        ("target recovered", Reason.THROTTLED),
    ]
    assert lines[-1]["after_seconds"] == 5
    assert state.backed_off_seconds == 5
