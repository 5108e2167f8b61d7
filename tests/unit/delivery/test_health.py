"""When a target is open, backing off or held: scripts of calls, and the state that follows from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.delivery.health import (
    DRAIN_BACKOFF_CAP,
    DRAIN_WINDOW,
    SUSPECTS,
    Decision,
    Health,
    HealthOptions,
    Load,
    Passage,
    Verdict,
)
from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all
from forwarder.states import Reason, State

OPTIONS = HealthOptions(backoff_base=0.2, backoff_cap=30.0, probe=30.0, probe_cap=300.0)
MET = {
    "ok": Results(CallStatus.OK, [Outcome(Kind.DELIVERED)]),
    "entry throttled": Results(CallStatus.OK, [Outcome(Kind.RETRY, "ThrottlingException")]),
    "entry rejected": Results(CallStatus.OK, [Outcome(Kind.REJECTED, "MalformedDetail")]),
    "throttled": same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "Rate exceeded"),
    "503": same_for_all(CallStatus.UNAVAILABLE, 1, "503", ""),
    "refused": same_for_all(CallStatus.REFUSED, 1, "ValidationException", "no"),
    "denied": same_for_all(CallStatus.HELD, 1, "AccessDeniedException", "not authorized"),
    "expired keys": same_for_all(CallStatus.HELD, 1, "ExpiredTokenException", "expired"),
    "not called": same_for_all(CallStatus.HELD, 1, "endpoint", "botocore[crt]"),
}
_numbers = itertools.count()


def batch() -> Batch:
    """A batch of one event, each time another."""
    return Batch(b"", [Event(f"e{next(_numbers)}", b"{}", 2, b"", 0.0)], 2, Flush.COUNT)


class World:
    """A target with full back-offs (no jitter), at the time ``now``."""

    def __init__(self) -> None:
        self.health = Health(OPTIONS, chance=lambda: 1.0)
        self.now = 1000.0
        self.reason = Reason.NONE

    def play(self, script: str) -> Decision:
        """Steps separated by ", ": ``+5`` is a wait in seconds, ``drain`` begins one, others are calls."""
        decision = None
        for step in script.split(", "):
            if step.startswith("+"):
                self.now += float(step[1:])
            elif step == "drain":
                self.health.drain(self.now)
            else:
                decision = self.call(step)
        assert decision is not None
        return decision

    def call(self, met: str) -> Decision:
        assert self.wait() == 0, "no call may begin now"
        call = self.health.begin(self.now)
        decision = self.result(call, met)
        self.health.end(call)
        if decision.entered is not None:
            self.reason = decision.entered.reason
        return decision

    def result(self, call: Passage, met: str, *, apart: bool = False) -> Decision:
        return self.health.on_result(call, batch(), MET[met], self.now, apart=apart)

    def wait(self) -> float:
        return round(self.health.wait(self.now), 6)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("script", "state", "reason", "wait"),
    [
        ("ok", State.OPEN, Reason.NONE, 0),
        ("throttled", State.BACKING_OFF, Reason.THROTTLED, 0.2),
        ("throttled, +0.2, throttled", State.BACKING_OFF, Reason.THROTTLED, 0.4),
        ("throttled, +0.2, 503, +0.4, throttled", State.BACKING_OFF, Reason.THROTTLED, 0.8),
        ("503, +0.2, ok", State.OPEN, Reason.NONE, 0),
        ("503, +0.2, 503, +0.4, ok, 503", State.BACKING_OFF, Reason.UNAVAILABLE, 0.2),
        ("expired keys", State.HELD, Reason.CREDENTIALS, 30),
        ("expired keys, +30, expired keys", State.HELD, Reason.CREDENTIALS, 60),
        ("throttled, +0.2, expired keys", State.HELD, Reason.CREDENTIALS, 30),
        ("expired keys, +30, throttled", State.BACKING_OFF, Reason.THROTTLED, 0.2),
        ("expired keys, +30, ok", State.OPEN, Reason.NONE, 0),
        ("denied", State.HELD, Reason.ACCESS, 30),
        ("ok, denied", State.OPEN, Reason.NONE, 0),
        ("ok, +30, denied", State.HELD, Reason.ACCESS, 30),
        ("ok, expired keys", State.HELD, Reason.CREDENTIALS, 30),
        ("not called", State.OPEN, Reason.NONE, 0),
        ("denied, +30, not called", State.HELD, Reason.ACCESS, 0),
        ("entry rejected", State.OPEN, Reason.NONE, 0),
        ("throttled, +0.2, entry rejected", State.OPEN, Reason.NONE, 0),
        ("entry throttled", State.OPEN, Reason.NONE, 0),
        ("refused, refused", State.OPEN, Reason.NONE, 0),
        ("refused, refused, refused", State.HELD, Reason.CONFIGURATION, 30),
        ("ok, refused, refused, refused, refused", State.OPEN, Reason.NONE, 0),
        ("throttled, drain, throttled", State.BACKING_OFF, Reason.THROTTLED, 0.2),
        ("drain, expired keys", State.HELD, Reason.CREDENTIALS, DRAIN_BACKOFF_CAP),
    ],
)
def test_a_script_of_calls_leads_to(
    script: str, state: State, reason: Reason, wait: float, world: World
) -> None:
    world.play(script)
    assert (world.health.state, world.reason, world.wait()) == (state, reason, wait)


@pytest.mark.parametrize(
    ("script", "load"),
    [
        ("ok", Load.NORMAL),
        ("entry throttled", Load.OVERLOADED),
        ("throttled", Load.OVERLOADED),
        ("503", Load.OVERLOADED),
        ("throttled, +0.2, throttled", Load.UNKNOWN),  # a probe shows nothing of many calls at once
        ("denied", Load.UNKNOWN),
        ("expired keys", Load.UNKNOWN),
    ],
)
def test_a_call_shows_how_busy_the_service_is(script: str, load: Load, world: World) -> None:
    assert world.play(script).load is load


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("refused", Verdict(proven=False)),
        ("ok, refused", Verdict(proven=True)),
        ("ok, denied", Verdict(proven=True, aside=30.0)),
        ("denied", Verdict(proven=False, aside=30.0)),
        ("expired keys", Verdict(proven=False)),
        ("not called", Verdict(proven=False, aside=30.0)),
    ],
)
def test_a_call_means_for_its_events(script: str, verdict: Verdict, world: World) -> None:
    assert world.play(script).verdict == verdict


def test_trouble_of_names_that_wait_by_themselves_closes_nothing(world: World) -> None:
    world.result(world.health.begin(world.now), "denied", apart=True)
    assert world.health.state is State.OPEN


def test_a_pause_that_aws_asks_for_is_kept_with_up_to_a_tenth_more(world: World) -> None:
    asked = same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "", delay=5.0)
    world.health.on_result(world.health.begin(world.now), batch(), asked, world.now)
    assert world.wait() == 5.5


def test_only_one_call_tries_a_closed_target(world: World) -> None:
    world.play("throttled, +0.2, throttled, +0.4, 503, +0.8, 503")
    world.now += 1.6
    probe = world.health.begin(world.now)
    assert world.wait() == math.inf
    world.health.end(probe)  # without a result, as a worker does that found no batch
    assert world.wait() == 0


def test_calls_of_an_earlier_epoch_neither_lengthen_the_back_off_nor_open(world: World) -> None:
    early, late = world.health.begin(world.now), world.health.begin(world.now)
    world.result(early, "throttled")
    assert world.result(late, "throttled").entered is None
    assert world.result(late, "ok").entered is None
    assert (world.health.state, world.wait()) == (State.BACKING_OFF, 0.2)


@pytest.mark.parametrize("probing", [False, True])
def test_a_hold_counts_from_a_call_of_an_earlier_epoch_unless_a_probe_is_in_flight(
    probing: bool, world: World
) -> None:
    early, late = world.health.begin(world.now), world.health.begin(world.now)
    world.result(early, "throttled")
    if probing:
        world.now += 0.2
        world.health.begin(world.now)
    world.result(late, "expired keys")
    assert world.health.state is (State.BACKING_OFF if probing else State.HELD)


def test_an_interval_between_probes_and_a_back_off_have_caps(world: World) -> None:
    for met, cap in (("expired keys", OPTIONS.probe_cap), ("503", OPTIONS.backoff_cap)):
        for _ in range(40):
            world.call(met)
            world.now += world.wait()
        world.call(met)
        assert world.wait() == cap
        world.now += cap


@pytest.mark.parametrize(
    ("script", "gave_up"),
    [
        ("drain, ok", False),
        ("drain, expired keys", False),  # news: it gets another try
        ("drain, expired keys, +1, expired keys", True),
        ("expired keys, drain, expired keys", True),
        ("drain, 503, +0.2, 503", False),
        (f"ok, drain, denied, +{DRAIN_WINDOW}, denied, +1, denied", True),
        ("ok, drain, denied", False),  # others had no turn in this drain yet
    ],
)
def test_a_drain_gives_up_after(script: str, gave_up: bool, world: World) -> None:
    world.play(script)
    assert world.health.gave_up(world.now, None) is gave_up


@pytest.mark.parametrize(
    ("blocked_at", "gave_up"),
    [(None, False), (999.0, True), (1001.5, False)],
    ids=["open", "before", "during"],
)
def test_a_drain_waits_a_moment_for_who_blocks(blocked_at: float | None, gave_up: bool, world: World) -> None:
    world.health.drain(world.now)
    assert not world.health.gave_up(world.now, blocked_at)
    assert world.health.gave_up(world.now + DRAIN_BACKOFF_CAP + 0.1, blocked_at) is gave_up


def test_without_a_drain_nothing_is_given_up(world: World) -> None:
    world.play("expired keys, +30, expired keys")
    assert not world.health.gave_up(world.now, 0.0)


def test_a_suspect_counts_once_however_often_it_is_refused(world: World) -> None:
    poison = batch()
    for _ in range(SUSPECTS * 3):
        world.health.on_result(world.health.begin(world.now), poison, MET["refused"], world.now)
    assert world.health.state is State.OPEN


Step = Callable[[World, list[Passage]], None]


def _begin(world: World, flying: list[Passage]) -> None:
    if world.health.wait(world.now) <= 0:
        flying.append(world.health.begin(world.now))


def _end(met: str, oldest: bool) -> Step:
    def step(world: World, flying: list[Passage]) -> None:
        if flying:
            call = flying.pop(0 if oldest else -1)
            world.result(call, met)
            world.health.end(call)

    return step


def _wait(seconds: float) -> Step:
    def step(world: World, flying: list[Passage]) -> None:
        world.now += seconds

    return step


STEPS = st.lists(
    st.one_of(
        st.just(_begin),
        st.builds(_end, st.sampled_from(sorted(MET)), st.booleans()),
        st.builds(_wait, st.sampled_from([0.1, 1.0, 30.0, 300.0])),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(STEPS)
def test_whatever_happens_one_probe_flies_at_most_and_an_answer_always_opens(steps: list[Step]) -> None:
    world, flying = World(), list[Passage]()
    for step in steps:
        step(world, flying)
        probes = [call.epoch for call in flying if call.probe]
        assert len(probes) == len(set(probes)), "two probes of one epoch"
        assert world.health.state is not State.OPEN or world.health.wait(world.now) == 0
    for call in flying:
        world.health.end(call)
    world.now += OPTIONS.probe_cap + OPTIONS.backoff_cap
    assert world.wait() == 0, "a target without a call in flight is tried again within its longest pause"
    world.call("ok")
    assert world.health.state is State.OPEN
