"""App monitors and projects: only a call tells whether they exist."""

from __future__ import annotations

import msgspec
import pytest

from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all
from forwarder.targets.barred import troubled_names
from forwarder.targets.names import CalledNames, display_name

DELIVERED = Outcome(Kind.DELIVERED)


class Turned:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def batch(*names: str) -> Batch:
    events = [Event(f"e{i}", b"{}", 2, b"", 0.0, name=name) for i, name in enumerate(names)]
    return Batch(b"", events, 2, Flush.COUNT)


def missing(count: int = 1) -> Results:
    return same_for_all(CallStatus.HELD, count, "ResourceNotFoundException", "no such app monitor")


def denied(count: int = 1, message: str = "not authorized") -> Results:
    return same_for_all(CallStatus.HELD, count, "AccessDeniedException", message)


def good(count: int = 1) -> Results:
    return Results(CallStatus.OK, [DELIVERED] * count)


@pytest.fixture
def clock() -> Turned:
    return Turned()


def names(clock: Turned, *configured: str, default: bool = False) -> CalledNames:
    return CalledNames("app monitor", configured, default=default, probe=30.0, cap=300.0, now=clock)


@pytest.mark.parametrize("default", [True, False])
def test_a_call_that_was_not_sent_closes_no_name(clock: Turned, default: bool) -> None:
    """The role cannot be assumed: that holds the target, and says nothing about names."""
    known = names(clock, "a", "b", default=default)
    known.is_open("new", "p")
    known.next_turn()
    unsent = msgspec.structs.replace(denied(), called=False)
    heard = known.heard(batch("new"), unsent)
    assert not heard.closed
    assert not heard.apart
    assert not known.has_share("new")


def test_a_configured_name_is_open_until_a_call_says_it_is_missing(clock: Turned) -> None:
    known = names(clock, "a", "b")
    assert known.is_open("a", "p")
    heard = known.heard(batch("a"), missing())
    assert list(heard.closed) == ["a"]
    assert not heard.apart, "it may be true of the whole target: the gate decides"
    assert not known.is_open("a", "p")
    assert known.why("a") == "missing"
    assert known.reason("a") == "app monitor a: ResourceNotFoundException: no such app monitor"
    assert not known.has_share("a"), "a configured one never has"
    assert known.is_open("b", "p")


def test_where_one_configured_name_is_all_there_is_it_is_not_closed_but_its_target_held(
    clock: Turned,
) -> None:
    known = names(clock, "a")
    assert not known.heard(batch("a"), missing()).closed
    assert known.is_open("a", "p")


def test_one_batch_goes_as_a_probe_and_its_delivery_opens_the_name(clock: Turned) -> None:
    known = names(clock, "a", "b")
    known.heard(batch("a"), missing())
    assert known.next_probe() is None
    clock.now += 30
    assert known.next_probe() == "a"
    assert not known.is_open("a", "p"), "only the probe goes"
    assert known.next_probe() is None, "one at a time"
    assert list(known.heard(batch("a"), good()).opened) == ["a"]
    assert known.is_open("a", "p")
    clock.now += 1000
    assert known.next_probe() is None


def test_probes_grow_rarer_up_to_the_cap(clock: Turned) -> None:
    known = names(clock, "a", "b")
    known.heard(batch("a"), missing())
    waits = []
    for _ in range(6):
        waits.append(known.wait())
        clock.now += known.wait()
        assert known.next_probe() == "a"
        known.heard(batch("a"), missing())
    assert waits == pytest.approx([30, 60, 120, 240, 300, 300])


def test_calls_that_were_under_way_when_the_name_closed_make_it_wait_no_longer(clock: Turned) -> None:
    known = names(clock, "a", "b")
    for _ in range(8):
        known.heard(batch("a"), missing())
    assert known.wait() == pytest.approx(30)


def test_one_name_is_probed_at_a_time_and_a_bounded_number_a_second(clock: Turned) -> None:
    known = names(clock, default=True)
    for i in range(200):
        known.heard(batch(f"m{i}"), missing())
    clock.now += 30
    probed = 0
    for _ in range(100):  # ten seconds
        while (name := known.next_probe()) is not None:
            assert known.next_probe() is None
            known.heard(batch(name), missing())
            probed += 1
        clock.now += 0.1
    assert probed <= 41


def test_a_probe_of_which_nothing_is_heard_ends(clock: Turned) -> None:
    known = names(clock, "a", "b", "c")
    known.heard(batch("a"), missing())
    known.heard(batch("b"), missing())
    clock.now += 30
    assert known.next_probe() == "a"
    assert known.next_probe() is None
    clock.now += 61
    assert known.next_probe() is not None


def test_a_hurry_probes_now(clock: Turned) -> None:
    known = names(clock, "a", "b")
    known.heard(batch("a"), missing())
    known.hurry()
    assert known.next_probe() == "a"


def test_a_name_that_nobody_configured_waits_for_its_turn_and_is_open_then(clock: Turned) -> None:
    known = names(clock, default=True)
    assert not known.is_open("m", "p")
    assert known.why("m") == "unknown"
    assert not known.has_share("m"), "about to be tried"
    assert known.next_turn() == "m"
    assert known.is_open("m", "p")
    known.heard(batch("m"), missing())
    assert not known.is_open("m", "p")
    assert known.has_share("m")


def test_each_peer_has_a_hundred_new_names_at_once_and_then_one_a_second_in_turn(clock: Turned) -> None:
    known = names(clock, default=True)
    for i in range(300):
        known.is_open(f"m{i}", "false")
    tried = []
    while (name := known.next_turn()) is not None:
        tried.append(name)
    assert len(tried) == 100
    known.is_open("real", "honest")
    assert known.next_turn() == "real"
    assert known.has_share("m250")
    assert not known.has_share("real")


def test_a_missing_name_that_nobody_configured_holds_nobody(clock: Turned) -> None:
    known = names(clock, "a", default=True)
    assert known.heard(batch("m"), missing()).apart


def test_names_denied_one_after_the_other_are_a_matter_of_the_target(clock: Turned) -> None:
    known = names(clock, "a", default=True)
    assert [known.heard(batch(f"m{i}"), denied()).apart for i in range(3)] == [True, True, False]
    known.heard(batch("a"), good())
    assert known.heard(batch("m9"), denied()).apart


def test_a_denied_name_is_uncallable(clock: Turned) -> None:
    known = names(clock, "a", "b")
    known.heard(batch("a"), denied())
    assert known.why("a") == "uncallable"


def test_trouble_of_the_whole_call_says_nothing_of_names(clock: Turned) -> None:
    known = names(clock, "a", "b")
    for code in ("ExpiredTokenException", "credentials", "configuration"):
        assert not known.heard(batch("a"), same_for_all(CallStatus.HELD, 1, code, "")).closed
    assert not known.heard(
        batch("a"), same_for_all(CallStatus.THROTTLED, 1, "ThrottlingException", "")
    ).closed
    assert known.is_open("a", "p")


def _mixed(*codes: str) -> Results:
    outcomes = [Outcome(Kind.RETRY, code) if code else DELIVERED for code in codes]
    return Results(CallStatus.HELD, outcomes, "AccessDeniedException", "not for you")


D = "AccessDeniedException"
ON = "User: arn:aws:iam::1:user/u is not authorized to perform: events:PutEvents on resource: {} because"


@pytest.mark.parametrize(
    ("buses", "results", "troubled"),
    [
        (("a", "a"), denied(2), {"a"}),
        (("", ""), denied(2), set()),
        (("a", "b"), _mixed(D, ""), {"a"}),
        (("a", "b", "b"), _mixed(D, D, ""), {"a"}),
        (("a", "b"), denied(2), set()),
        (("a", "b"), denied(2, ON.format("arn:aws:events:eu-west-1:1:event-bus/b")), {"b"}),
        (("a", ""), denied(2, ON.format("arn:aws:events:eu-west-1:1:event-bus/default")), set()),
        (("ab", "b"), denied(2, ON.format("arn:aws:events:eu-west-1:1:event-bus/b,")), {"b"}),
    ],
)
def test_a_refused_call_tells_of_names_whose_every_event_failed(
    buses: tuple[str, ...], results: Results, troubled: set[str]
) -> None:
    assert troubled_names(batch(*buses), results) == troubled


@pytest.mark.parametrize(
    ("name", "text"),
    [("orders", "orders"), ("a\nb\x1b[31m\u202e", "a b [31m "), ("x" * 500, "x" * 119 + "…")],
)
def test_a_name_that_somebody_chose_is_one_short_line(name: str, text: str) -> None:
    assert display_name(name) == text


def test_events_of_an_open_name_wait_for_nothing(clock: Turned) -> None:
    known = names(clock, "a", "b")
    assert not known.is_waiting("a"), "so the queue is told to release it"
    known.is_open("new", "p")
    assert known.is_waiting("new")
    known.next_turn()
    assert not known.is_waiting("new")
