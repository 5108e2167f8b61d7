"""When a target may be called."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import structlog

from forwarder.delivery.call import Call
from forwarder.delivery.concurrency import START
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.delivery.health import SUSPECTS, Verdict
from forwarder.delivery.pace import SLACK_SECONDS
from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all
from forwarder.states import Reason
from tests.support.clocks import HandClock

GOOD = Results(CallStatus.OK, [Outcome(Kind.DELIVERED)])
THROTTLED = same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "Rate exceeded")
DOWN = same_for_all(CallStatus.UNAVAILABLE, 1, "503", "")
DENIED = same_for_all(CallStatus.HELD, 1, "AccessDeniedException", "not authorized")
UNSIGNED = same_for_all(CallStatus.HELD, 1, "endpoint", "botocore[crt]")
EXPIRED = same_for_all(CallStatus.HELD, 1, "ExpiredTokenException", "expired")
WORSE = same_for_all(CallStatus.HELD, 1, "UnrecognizedClientException", "invalid")
REFUSED = same_for_all(CallStatus.REFUSED, 1, "ValidationException", "no")
OPTIONS = GateOptions(slots=4, min_slots=4, backoff_base=0.2, backoff_cap=30.0, probe=30.0, probe_cap=300.0)


_numbers = itertools.count()


def one() -> Batch:
    """A batch of one event, another one each time."""
    event = Event(f"e{next(_numbers)}", b"{}", 2, b"", 0.0)
    return Batch(b"", [event], 2, Flush.COUNT)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def gate(clock: HandClock) -> Gate:
    return Gate("t", OPTIONS, clock, chance=lambda: 1.0)


async def passes(gate: Gate) -> bool:
    """True when a call may go through now; the passage is given back unused."""
    call = await enter(gate)
    if call is None:
        return False
    await call.__aexit__(None, None, None)
    return True


async def enter(gate: Gate) -> Call | None:
    """A call inside the gate, or None when it would have to wait."""
    call = gate.call()
    entering = asyncio.ensure_future(call.__aenter__())
    for _ in range(3):
        await asyncio.sleep(0)
    if entering.done():
        return await entering
    entering.cancel()
    return None


async def meet(gate: Gate, results: Results) -> None:
    call = await enter(gate)
    assert call is not None, "the gate is closed"
    call.record(one(), results)
    await call.__aexit__(None, None, None)


async def test_no_more_calls_pass_than_there_are_slots(gate: Gate) -> None:
    calls = [await enter(gate) for _ in range(4)]
    assert all(calls)
    assert not await passes(gate)
    assert calls[0] is not None
    await calls[0].__aexit__(None, None, None)
    assert await passes(gate)


async def test_a_throttle_closes_the_gate_for_the_back_off(gate: Gate, clock: HandClock) -> None:
    await meet(gate, THROTTLED)
    assert gate.view().state == "backing_off"
    assert not await passes(gate)
    clock.now += 0.2
    assert await passes(gate)


async def test_after_a_back_off_one_call_goes_first_and_its_success_opens_for_all(
    gate: Gate, clock: HandClock
) -> None:
    await meet(gate, THROTTLED)
    clock.now += 1
    probe = await enter(gate)
    assert probe is not None
    assert not await passes(gate)
    probe.record(one(), GOOD)
    await probe.__aexit__(None, None, None)
    assert gate.view().state == "open"
    assert all([await enter(gate) for _ in range(4)])


async def test_calls_that_started_before_the_gate_closed_do_not_lengthen_the_back_off(
    gate: Gate, clock: HandClock
) -> None:
    calls = [await enter(gate) for _ in range(4)]
    for call in calls:
        assert call is not None
        call.record(one(), THROTTLED)
        await call.__aexit__(None, None, None)
    clock.now += 0.2
    assert await passes(gate)


async def test_a_success_that_started_before_the_gate_closed_does_not_open_it(gate: Gate) -> None:
    early, late = await enter(gate), await enter(gate)
    assert early is not None
    assert late is not None
    late.record(one(), THROTTLED)
    early.record(one(), GOOD)
    assert gate.view().state == "backing_off"


async def test_the_back_off_doubles_up_to_its_cap_and_starts_again_after_a_success(
    gate: Gate, clock: HandClock
) -> None:
    waits = []
    for _ in range(10):
        await meet(gate, DOWN)
        waits.append(gate.view().next_probe_in)
        clock.now += 31
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])
    await meet(gate, GOOD)
    await meet(gate, DOWN)
    assert gate.view().next_probe_in == pytest.approx(0.2)


async def test_aws_may_ask_for_a_longer_wait_than_the_back_off(gate: Gate) -> None:
    await meet(gate, same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "", 7.0))
    wait = gate.view().next_probe_in
    assert wait is not None
    assert 7.0 <= wait < 7.71


async def test_a_held_target_gets_one_probe_per_interval_which_grows(gate: Gate, clock: HandClock) -> None:
    waits = []
    for _ in range(6):
        await meet(gate, DENIED)
        view = gate.view()
        assert view.state == "held"
        assert "AccessDeniedException: not authorized" in view.message
        waits.append(view.next_probe_in)
        clock.now += 300
    assert waits == pytest.approx([30, 60, 120, 240, 300, 300])


async def test_a_hold_is_said_even_by_a_call_that_started_before_a_throttle(gate: Gate) -> None:
    early, late = await enter(gate), await enter(gate)
    assert early is not None
    assert late is not None
    late.record(one(), THROTTLED)
    early.record(one(), DENIED)
    assert gate.view().state == "held"


async def test_trouble_of_one_part_steps_aside_while_others_get_through(gate: Gate, clock: HandClock) -> None:
    await meet(gate, GOOD)
    clock.now += 29
    call = await enter(gate)
    assert call is not None
    assert call.record(one(), DENIED) == Verdict(proven=True, aside=30.0)
    await call.__aexit__(None, None, None)
    assert gate.view().state == "open"
    clock.now += 2
    await meet(gate, DENIED)
    assert gate.view().state == "held", "nobody has got through for as long as a probe takes"


async def test_an_endpoint_that_cannot_be_called_holds_nobody_who_goes_elsewhere(gate: Gate) -> None:
    call = await enter(gate)
    assert call is not None
    assert call.record(one(), UNSIGNED) == Verdict(proven=False, aside=30.0)
    await call.__aexit__(None, None, None)
    assert gate.view().state == "open", "it was never sent, and tells nothing of the others"


async def test_a_probe_that_cannot_be_called_leaves_the_hold_and_the_probe_to_the_next(
    gate: Gate, clock: HandClock
) -> None:
    await meet(gate, EXPIRED)
    clock.now += 31
    await meet(gate, UNSIGNED)
    assert gate.view().state == "held"
    await meet(gate, GOOD)
    assert gate.view().state == "open"


async def test_a_drain_of_what_cannot_be_called_ends(gate: Gate, clock: HandClock) -> None:
    gate.drain()
    for _ in range(4):
        await meet(gate, UNSIGNED)
        clock.now += 1.5
    assert gate.gave_up


async def test_credentials_hold_the_whole_target_whoever_got_through_before(gate: Gate) -> None:
    await meet(gate, GOOD)
    await meet(gate, EXPIRED)
    assert gate.view().state == "held"


async def test_a_hold_that_arrives_late_does_not_end_a_probe(gate: Gate, clock: HandClock) -> None:
    early, late = await enter(gate), await enter(gate)
    assert early is not None
    assert late is not None
    late.record(one(), THROTTLED)
    clock.now += 1
    probe = await enter(gate)
    assert probe is not None
    early.record(one(), EXPIRED)
    probe.record(one(), GOOD)
    assert gate.view().state == "open"


async def test_a_drain_does_not_wait_as_long_as_aws_asks(gate: Gate) -> None:
    gate.drain()
    await meet(gate, same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "", 15.0))
    assert gate.view().next_probe_in == pytest.approx(1.0)


async def test_one_event_that_is_refused_again_and_again_does_not_hold_the_target(gate: Gate) -> None:
    poison = one()
    for _ in range(SUSPECTS * 3):
        call = await enter(gate)
        assert call is not None
        assert not call.record(poison, REFUSED).proven
        await call.__aexit__(None, None, None)
    assert gate.view().state == "open"


async def test_no_probe_passes_a_block_and_only_its_owner_ends_it(gate: Gate, clock: HandClock) -> None:
    gate.block("verify", "event bus orders does not exist", Reason.MISSING)
    gate.block("dead letters", "disk full", Reason.STORAGE)
    clock.now += 10_000
    assert not await passes(gate)
    view = gate.view()
    assert view.state == "held"
    assert view.message == "event bus orders does not exist; disk full"
    gate.unblock("verify")
    assert not await passes(gate)
    gate.unblock("dead letters")
    assert await passes(gate)


async def test_a_waiting_call_enters_when_the_block_ends(gate: Gate) -> None:
    gate.block("verify", "no bus", Reason.MISSING)
    entering = asyncio.ensure_future(gate.call().__aenter__())
    await asyncio.sleep(0)
    gate.unblock("verify")
    async with asyncio.timeout(5):
        await entering


async def test_the_pace_is_kept_and_a_call_that_was_not_made_gives_its_place_back(clock: HandClock) -> None:
    gate = Gate("t", GateOptions(slots=100, min_slots=100, pace=50.0), clock)
    made = 0
    for _ in range(100):
        call = await enter(gate)
        while call is not None:
            call.record(one(), GOOD)
            made += 1
            call = await enter(gate)
        clock.now += 0.01
    assert 49 <= made <= 54
    unused = Gate("t", GateOptions(slots=100, min_slots=100, pace=50.0), clock)
    for _ in range(10):
        assert await passes(unused)


async def test_a_pace_is_reached_that_is_quicker_than_the_timers(clock: HandClock) -> None:
    gate = Gate("t", GateOptions(slots=10_000, min_slots=10_000, pace=2000.0), clock)
    made = 0
    for _ in range(50):  # half a second, looked at every 10 ms
        while (call := await enter(gate)) is not None:
            call.record(one(), GOOD)
            made += 1
        clock.now += 0.01
    assert 980 <= made <= 1000 + 2000 * SLACK_SECONDS


async def at_once(gate: Gate) -> list[Call]:
    """As many calls as pass now."""
    calls = []
    while (call := await enter(gate)) is not None:
        calls.append(call)
    return calls


async def fly(gate: Gate, clock: HandClock, results: Results, seconds: float = 0.02) -> int:
    """As many calls as may be in flight at once, all answered after so long; how many they were."""
    calls = await at_once(gate)
    clock.now += seconds
    for call in calls:
        call.record(one(), results)
        await call.__aexit__(None, None, None)
    return len(calls)


@pytest.fixture
def wide(clock: HandClock) -> Gate:
    return Gate("t", GateOptions(slots=32), clock, chance=lambda: 1.0)


async def test_more_calls_pass_at_once_while_answers_are_quick(wide: Gate, clock: HandClock) -> None:
    assert await fly(wide, clock, GOOD) == START
    for _ in range(20):
        await fly(wide, clock, GOOD)
    assert wide.view().limit == await fly(wide, clock, GOOD) == 32


@pytest.mark.parametrize("trouble", [THROTTLED, DOWN])
async def test_after_a_throttle_the_gate_opens_for_fewer_calls_and_then_for_more(
    wide: Gate, clock: HandClock, trouble: Results
) -> None:
    for _ in range(20):
        await fly(wide, clock, GOOD)
    assert await fly(wide, clock, trouble) == 32
    assert wide.view().limit == 24, "32 throttles of one moment are one"
    for _ in range(10):
        clock.now += 30
        assert await fly(wide, clock, trouble) == 1
    assert wide.view().limit == 24, "a probe tells nothing about many calls"
    clock.now += 30
    assert await fly(wide, clock, GOOD) == 1
    assert await fly(wide, clock, GOOD) == 24
    for _ in range(30):
        await fly(wide, clock, GOOD)
    assert wide.view().limit == 32


@pytest.mark.parametrize("code", ["ThrottlingException", "InternalFailure", "MalformedDetail"])
async def test_throttled_entries_of_an_answered_call_slow_it_down_and_do_not_close_it(
    wide: Gate, clock: HandClock, code: str
) -> None:
    for _ in range(20):
        await fly(wide, clock, GOOD)
    await fly(wide, clock, Results(CallStatus.OK, [Outcome(Kind.DELIVERED), Outcome(Kind.RETRY, code)]))
    assert wide.view().state == "open"
    assert wide.view().limit == (32 if code == "MalformedDetail" else 24)


async def test_trouble_that_only_a_person_can_end_changes_no_limit(wide: Gate, clock: HandClock) -> None:
    await fly(wide, clock, EXPIRED)
    assert wide.view().limit == START


async def test_a_probe_does_not_wait_for_calls_that_hang(wide: Gate, clock: HandClock) -> None:
    calls = await at_once(wide)
    calls[0].record(one(), THROTTLED)
    await calls[0].__aexit__(None, None, None)
    assert wide.view().in_flight >= wide.view().limit
    clock.now += 1
    assert await passes(wide)


async def test_refusals_before_any_success_hold_the_target_and_after_one_they_do_not(
    gate: Gate, clock: HandClock
) -> None:
    for _ in range(SUSPECTS):
        assert gate.view().state == "open"
        await meet(gate, REFUSED)
    assert gate.view().state == "held"
    clock.now += 30
    await meet(gate, GOOD)
    assert gate.view().state == "open"
    for _ in range(SUSPECTS * 2):
        await meet(gate, REFUSED)
    assert gate.view().state == "open"


@pytest.mark.parametrize("trouble", [THROTTLED, EXPIRED])
async def test_a_try_asked_for_goes_at_once_alone_and_if_it_fails_the_gate_closes_again(
    gate: Gate, trouble: Results
) -> None:
    await meet(gate, trouble)
    assert not await passes(gate)
    gate.retry_now()
    probe = await enter(gate)
    assert probe is not None
    assert not await passes(gate)
    probe.record(one(), trouble)
    await probe.__aexit__(None, None, None)
    assert not await passes(gate)


async def test_a_try_asked_for_passes_no_block(gate: Gate) -> None:
    gate.block("operator", "paused", Reason.OPERATOR)
    gate.retry_now()
    assert not await passes(gate)


async def test_drain_ends_a_back_off_and_keeps_later_ones_short(gate: Gate, clock: HandClock) -> None:
    for _ in range(9):
        await meet(gate, DOWN)
        clock.now += 31
    await meet(gate, DOWN)
    gate.drain()
    for _ in range(6):
        await meet(gate, DOWN)
        clock.now += 1.0
    assert not gate.gave_up


async def test_draining_a_held_target_gets_one_try(gate: Gate, clock: HandClock) -> None:
    await meet(gate, DENIED)
    gate.drain()
    assert not gate.gave_up
    await meet(gate, DENIED)
    assert gate.gave_up
    clock.now += 1000
    assert not await passes(gate)


async def test_a_target_that_is_held_while_draining_gets_another_try_soon(
    gate: Gate, clock: HandClock
) -> None:
    gate.drain()
    await meet(gate, EXPIRED)
    assert not gate.gave_up, "that was news: new credentials may do better"
    clock.now += 1.0
    assert await passes(gate)
    await meet(gate, EXPIRED)
    assert gate.gave_up


async def test_a_target_that_is_blocked_while_draining_is_given_a_moment(
    gate: Gate, clock: HandClock
) -> None:
    gate.drain()
    clock.now += 5.0
    gate.block("dead letters", "the disk is full", Reason.STORAGE)
    assert not gate.gave_up
    clock.now += 1.1
    assert gate.gave_up


async def test_draining_a_blocked_target_gives_up(gate: Gate, clock: HandClock) -> None:
    gate.block("verify", "no bus", Reason.MISSING)
    gate.drain()
    clock.now += 2
    assert gate.gave_up


async def test_a_drain_in_which_a_part_is_denied_gives_the_others_a_turn_and_then_gives_up(
    gate: Gate, clock: HandClock
) -> None:
    await meet(gate, GOOD)
    gate.drain()
    await meet(gate, DENIED)
    clock.now += 1.5
    await meet(gate, GOOD)
    clock.now += 1.5
    await meet(gate, DENIED)
    assert gate.view().state == "open"
    clock.now += 1.5  # since the last of the others got through
    await meet(gate, DENIED)
    assert gate.view().state == "held"
    clock.now += 1.5
    await meet(gate, DENIED)
    assert gate.gave_up


async def test_a_cancelled_wait_leaves_nothing_behind(gate: Gate, clock: HandClock) -> None:
    await meet(gate, THROTTLED)
    assert await enter(gate) is None  # waited and was cancelled
    clock.now += 1
    probe = await enter(gate)
    assert probe is not None
    await probe.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)
    assert await passes(gate)
    assert gate.view().in_flight == 0


async def test_time_spent_throttled_is_counted(gate: Gate, clock: HandClock) -> None:
    await meet(gate, THROTTLED)
    clock.now += 3
    assert gate.view().throttle_wait_seconds == pytest.approx(3)
    await meet(gate, GOOD)
    clock.now += 5
    assert gate.view().throttle_wait_seconds == pytest.approx(3)


async def test_every_change_of_state_is_logged_with_its_reason_however_soon_it_comes(gate: Gate) -> None:
    with structlog.testing.capture_logs() as lines:
        for results in (EXPIRED, DENIED, GOOD, DOWN, WORSE, GOOD):  # all within a second
            await meet(gate, results)
            gate.retry_now()
    assert [(line["event"], line["reason"]) for line in lines] == [
        ("target held", "credentials"),
        ("target held", "access"),
        ("target recovered", "access"),
        ("target backing off", "unavailable"),
        ("target held", "credentials"),
        ("target recovered", "credentials"),
    ]
    assert lines[0]["error"] == "ExpiredTokenException: expired"


async def test_the_same_trouble_again_is_not_logged_again(gate: Gate, clock: HandClock) -> None:
    with structlog.testing.capture_logs() as lines:
        for results in (EXPIRED, WORSE, EXPIRED):
            await meet(gate, results)
            clock.now += 400
    assert len(lines) == 1


async def test_a_state_lasts_since_its_reason_began_whatever_its_probes_meet(
    gate: Gate, clock: HandClock
) -> None:
    began = clock.now = 5000.0
    await meet(gate, EXPIRED)
    for results in (WORSE, EXPIRED):
        clock.now += 400
        await meet(gate, results)
    assert (gate.view().reason, gate.view().since_wall) == ("credentials", began)
    changed = clock.now = clock.now + 400
    await meet(gate, DENIED)
    assert (gate.view().reason, gate.view().since_wall) == ("access", changed)


async def test_a_block_lasts_since_it_began_and_what_it_hid_since_that_began(
    gate: Gate, clock: HandClock
) -> None:
    held = clock.now
    await meet(gate, EXPIRED)
    blocked = clock.now = clock.now + 600
    gate.block("verify", "no bus", Reason.MISSING)
    clock.now += 600
    gate.block("verify", "still no bus", Reason.MISSING)
    view = gate.view()
    assert (view.reason, view.message, view.since_wall) == ("missing", "still no bus", blocked)
    paused = clock.now = clock.now + 600
    gate.block("operator", "paused", Reason.OPERATOR)
    assert (gate.view().reason, gate.view().since_wall) == ("operator", paused)
    gate.unblock("operator")
    gate.unblock("verify")
    assert (gate.view().reason, gate.view().since_wall) == ("credentials", held)


async def test_a_target_that_was_only_blocked_is_open_since_the_block_ended(
    gate: Gate, clock: HandClock
) -> None:
    gate.block("verify", "no bus", Reason.MISSING)
    clock.now += 600
    gate.unblock("verify")
    assert (gate.view().state, gate.view().since_wall) == ("open", clock.now)


async def test_time_spent_backing_off_is_counted_over_a_change_of_reason(
    gate: Gate, clock: HandClock
) -> None:
    await meet(gate, THROTTLED)
    clock.now += 3
    await meet(gate, DOWN)
    clock.now += 4
    assert gate.view().throttle_wait_seconds == pytest.approx(7)
