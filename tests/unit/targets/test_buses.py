"""Which buses events may be sent to, by what was answered about them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results, same_for_all
from forwarder.targets import buses
from forwarder.targets.buses import BusNames
from forwarder.targets.questions import Answer, Judge, Question, answer_of

UNKNOWN_SECONDS = 300.0


class Turned:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """The names of one target, an AWS that knows some buses, and how often it was asked."""

    def __init__(
        self, *configured: str, existing: Sequence[str] = (), default: bool = True, verify: bool = True
    ) -> None:
        self.clock = Turned()
        self.existing = set(existing)
        self.trouble: Answer | None = None
        self.asked: list[str] = []
        self.released: list[str] = []
        self.closed: list[str] = []
        self.names = BusNames(
            configured,
            default=default,
            verify=verify,
            every=60.0,
            probe=30.0,
            cap=300.0,
            region="eu-west-1",
            now=self.clock,
            chance=lambda: 1.0,
        )

    def ask(self) -> bool:
        """Ask the next question, if there is one now."""
        question = self.names.next_question()
        if question is None:
            return False
        self.answer(question)
        return True

    def answer(self, question: Question) -> None:
        self.asked.append(question.name)
        answer = Answer.EXISTS if question.name in self.existing else Answer.MISSING
        learned = self.names.learn(question, self.trouble or answer, "503: down" if self.trouble else "")
        self.released += learned.opened
        self.closed += learned.closed

    def ask_all(self) -> None:
        while self.ask():
            pass

    def run(self, seconds: float) -> None:
        """Let time pass, and ask whenever there is something to ask."""
        ends = self.clock.now + seconds
        self.ask_all()
        while (at := self.clock.now + max(self.names.wait(), 0.001)) < ends:
            self.clock.now = at
            self.ask_all()
        self.clock.now = ends


@pytest.mark.parametrize(
    ("results", "answer"),
    [
        (Results(CallStatus.OK, []), Answer.EXISTS),
        (same_for_all(CallStatus.HELD, 0, "ResourceNotFoundException", ""), Answer.MISSING),
        (same_for_all(CallStatus.HELD, 0, "AccessDeniedException", ""), Answer.DENIED),
        (same_for_all(CallStatus.HELD, 0, "AccessDenied", ""), Answer.DENIED),
        (same_for_all(CallStatus.REFUSED, 0, "ValidationException", ""), Answer.DENIED),
        (same_for_all(CallStatus.HELD, 0, "UnknownOperationException", ""), Answer.UNASKABLE),
        (same_for_all(CallStatus.HELD, 0, "404", ""), Answer.UNASKABLE),
        (same_for_all(CallStatus.HELD, 0, "405", ""), Answer.UNASKABLE),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "501", ""), Answer.UNASKABLE),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "wrong_shape", ""), Answer.UNASKABLE),
        (same_for_all(CallStatus.THROTTLED, 0, "ThrottlingException", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.THROTTLED, 0, "429", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "InternalException", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "ServiceUnavailable", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "503", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "timeout", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.UNAVAILABLE, 0, "connection", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.HELD, 0, "credentials", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.HELD, 0, "ExpiredTokenException", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.HELD, 0, "tls", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.HELD, 0, "403", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.HELD, 0, "307", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.REFUSED, 0, "413", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.REFUSED, 0, "other", ""), Answer.UNANSWERED),
        (same_for_all(CallStatus.REFUSED, 0, "RequestEntityTooLargeException", ""), Answer.UNANSWERED),
    ],
)
def test_three_answers_it_exists_it_does_not_and_nobody_knows(results: Results, answer: Answer) -> None:
    assert answer_of(results) is answer


@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "404", "ValidationError", "400"])
def test_a_refusal_on_the_way_to_credentials_says_nothing_about_a_bus(code: str) -> None:
    """The role cannot be assumed: nobody was asked about the bus."""
    refused = same_for_all(CallStatus.HELD, 0, code, "AssumeRole: not authorized")
    assert answer_of(msgspec.structs.replace(refused, called=False)) is Answer.UNANSWERED


def test_unknown_is_not_exists() -> None:
    world = World(existing=["real"])
    assert not world.names.is_open("real", "p")
    assert world.names.why("real") == "unknown"
    world.ask_all()
    assert world.asked == ["real"]
    assert world.released == ["real"]
    assert world.names.is_open("real", "p")
    assert world.names.reason("real") == ""


def test_a_missing_bus_stays_closed_and_says_so() -> None:
    world = World()
    assert not world.names.is_open("nobus", "p")
    world.ask_all()
    assert not world.names.is_open("nobus", "p")
    assert world.names.why("nobus") == "missing"
    assert world.names.reason("nobus") == "event bus nobus does not exist in eu-west-1"
    assert world.asked == ["nobus"]
    assert world.released == []


def test_a_bus_that_was_denied_and_then_deleted_is_not_sent_to_as_a_probe() -> None:
    """AWS accepts events for a missing bus and drops them, so a probe would open it."""
    world = World(existing=["shop"])
    world.names.is_open("shop", "p")
    world.ask_all()
    batch = Batch(b"", [Event("1", b"{}", 2, b"", 0.0, name="shop")], 2, Flush.TIME)
    denied = same_for_all(
        CallStatus.HELD, 1, "AccessDeniedException", "denied on resource: arn:x:event-bus/shop"
    )
    late = world.names.heard(batch, denied)
    assert list(late.closed) == ["shop"]
    assert world.names.why("shop") == "uncallable"
    world.existing.clear()
    world.run(61.0)
    assert world.names.why("shop") == "missing"
    assert "does not exist" in world.names.reason("shop")
    world.names.heard(batch, denied)  # of a call that was under way
    world.clock.now += 1_000.0
    assert world.names.next_probe() is None
    delivered = Results(CallStatus.OK, [Outcome(Kind.DELIVERED)])
    assert list(world.names.heard(batch, delivered).opened) == []
    assert not world.names.is_open("shop", "p")


def test_the_default_bus_is_never_asked_about() -> None:
    world = World("default")
    assert world.names.is_open("", "p")
    world.run(1000.0)
    assert world.asked == []


def test_without_verification_every_name_is_open_and_nobody_is_asked() -> None:
    world = World("orders", verify=False)
    assert world.names.is_open("orders", "p")
    assert world.names.is_open("other", "p")
    assert not world.names.has_share("other")
    world.run(1000.0)
    assert world.asked == []


def test_a_bus_of_another_region_is_left_to_sending() -> None:
    world = World()
    assert world.names.is_open("arn:aws:events:us-east-1:123456789012:event-bus/orders", "p")
    assert not world.names.is_open("arn:aws:events:eu-west-1:123456789012:event-bus/orders", "p")


def test_a_name_that_is_too_long_to_exist_is_missing_without_a_question() -> None:
    world = World()
    assert not world.names.is_open("x" * 257, "p")
    assert world.names.why("x" * 257) == "missing"
    assert world.names.has_share("x" * 257)
    world.ask_all()
    assert world.asked == []


def test_a_missing_bus_is_found_within_a_probe_interval_of_its_making() -> None:
    world = World()
    world.names.is_open("late", "p")
    world.run(100.0)
    world.existing.add("late")
    world.run(30.0)
    assert world.released == ["late"]
    assert world.names.is_open("late", "p")


def test_a_bus_that_was_deleted_is_closed_by_the_next_check() -> None:
    world = World(existing=["orders"])
    world.names.is_open("orders", "p")
    world.run(10.0)
    world.existing.clear()
    world.run(60.0)
    assert world.closed == ["orders"]
    assert not world.names.is_open("orders", "p")


@pytest.mark.parametrize("trouble", [Answer.UNANSWERED])
def test_nobody_knows_changes_nothing_that_is_known(trouble: Answer) -> None:
    world = World(existing=["orders"])
    world.names.is_open("orders", "p")
    world.names.is_open("nobus", "p")
    world.run(10.0)
    world.trouble = trouble
    world.names.is_open("new", "p")
    world.run(600.0)
    assert world.names.is_open("orders", "p"), "verified names go on"
    assert world.names.why("nobus") == "missing"
    assert world.names.why("new") == "unknown"
    assert "cannot verify" in world.names.note()
    world.trouble = None
    world.existing.add("new")
    world.run(60.0)
    assert world.names.is_open("new", "p")
    assert world.names.note() == ""


def test_asking_backs_off_while_nobody_knows() -> None:
    world = World()
    world.trouble = Answer.UNANSWERED
    for i in range(50):
        world.names.is_open(f"n{i}", "p")
    world.run(600.0)
    assert 20 <= len(world.asked) <= 35, "200 ms growing to 30 s"
    assert len(set(world.asked)) > 10, "each failure is another name's"


def test_a_bus_that_may_not_be_described_is_sent_to() -> None:
    world = World()
    world.trouble = Answer.DENIED
    assert not world.names.is_open("secret", "p")
    world.ask_all()
    assert world.names.is_open("secret", "p")
    assert world.released == ["secret"]
    assert "DescribeEventBus is denied" in world.names.note()
    world.run(1800.0)
    assert world.asked == ["secret"], "not asked again soon"


def test_a_missing_bus_stays_closed_until_it_is_denied_three_times_in_a_row() -> None:
    world = World()
    world.names.is_open("nobus", "p")
    world.ask_all()
    for trouble in (Answer.DENIED, Answer.DENIED, None, Answer.DENIED, Answer.DENIED):
        world.trouble = trouble
        world.run(31.0)
        assert world.names.why("nobus") == "missing"
    world.run(31.0)
    assert world.released == ["nobus"]


@pytest.mark.parametrize("code", ["wrong_shape", "404", "405"])
def test_an_endpoint_cannot_be_asked_by_its_third_foreign_answer_in_a_row(code: str) -> None:
    foreign = same_for_all(CallStatus.UNAVAILABLE, 0, code, "")
    judge = Judge()
    answers = [judge(foreign, has_answered=False) for _ in range(2)]
    judge(Results(CallStatus.OK, []), has_answered=False)
    answers += [judge(foreign, has_answered=False) for _ in range(3)]
    unanswered = [Answer.UNANSWERED] * 2
    assert answers == [*unanswered, *unanswered, Answer.UNASKABLE]
    assert judge(foreign, has_answered=True) is Answer.UNANSWERED


def test_awss_own_word_that_it_does_not_know_the_question_counts_at_once() -> None:
    unknown = same_for_all(CallStatus.HELD, 0, "UnknownOperationException", "")
    assert Judge()(unknown, has_answered=True) is Answer.UNASKABLE


def test_an_endpoint_that_does_not_know_the_question_is_sent_to() -> None:
    world = World()
    world.trouble = Answer.UNASKABLE
    for i in range(500):
        assert not world.names.is_open(f"n{i}", "p")
    question = world.names.next_question()
    assert question is not None
    learned = world.names.learn(question, Answer.UNASKABLE, "404: Not Found")
    assert learned.all
    assert all(world.names.is_open(f"n{i}", "p") for i in range(500))
    assert not world.names.has_share("n1")
    assert "does not support DescribeEventBus" in world.names.note()
    world.run(121.0)
    assert len(world.asked) == 2, "one question an interval, to see whether it has learned"
    world.trouble = None
    world.run(60.0)
    assert not world.names.is_open("n7", "p"), "it answers now"


# --- the share


def test_configured_names_have_no_share() -> None:
    world = World("orders", "bills")
    assert not world.names.has_share("orders")
    world.run(10.0)
    assert world.names.why("orders") == "missing"
    assert not world.names.has_share("orders")


def test_the_arn_of_a_configured_bus_has_no_share() -> None:
    arn = "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
    world = World("orders")
    question = world.names.next_question()
    assert question is not None
    world.names.learn(question, Answer.EXISTS, arn=arn)
    assert not world.names.has_share(arn)
    assert world.names.has_share(arn.replace("1234", "9999")) or world.names.why(arn) == "unknown"


def test_what_a_default_target_takes_has_a_share_once_it_was_answered_missing() -> None:
    world = World()
    world.names.is_open("first", "p")
    world.ask_all()
    world.names.is_open("nobus", "p")
    assert not world.names.has_share("nobus")
    world.ask_all()
    assert world.names.has_share("nobus")


def test_names_that_no_default_target_takes_have_a_share_from_the_start() -> None:
    world = World("orders", default=False, existing=["orders"])
    world.ask_all()
    world.names.is_open("other", "p")
    assert world.names.has_share("other")


def test_names_whose_question_is_far_off_have_a_share() -> None:
    world = World()
    world.names.is_open("first", "q")
    world.ask_all()
    for i in range(1000):
        world.names.is_open(f"n{i}", "p")
    shares = [world.names.has_share(f"n{i}") for i in range(1000)]
    assert shares == [False] * 100 + [True] * 900


def test_an_outage_lifts_the_share_and_its_end_brings_it_back() -> None:
    world = World()
    for i in range(1000):
        world.names.is_open(f"n{i}", "p")
    assert not any(world.names.has_share(f"n{i}") for i in range(1000)), "nothing was answered yet"
    world.run(1.0)
    assert world.names.has_share("n900")
    world.trouble = Answer.UNANSWERED
    world.run(5.0)
    assert not world.names.has_share("n900")
    assert world.names.has_share("n0"), "this one was answered missing"
    world.trouble = None
    world.run(60.0)
    assert world.names.has_share("n900")


def test_a_question_that_hangs_is_an_outage() -> None:
    world = World()
    world.names.is_open("first", "p")
    world.ask_all()
    for i in range(500):
        world.names.is_open(f"n{i}", "p")
    assert world.names.next_question() is not None
    assert world.names.has_share("n400")
    world.clock.now += 6.0
    assert not world.names.has_share("n400")


# --- turns


@pytest.mark.parametrize("false_names", [0, 90, 120, 300, 1000, 20_000])
def test_beside_false_names_a_real_bus_of_another_peer_is_found_at_once(false_names: int) -> None:
    world = World(existing=["real"])
    for i in range(false_names):
        world.names.is_open(f"n{i}", "false")
    world.run(60.0)
    began = world.clock.now
    world.names.is_open("real", "honest")
    world.run(1.0)
    assert world.names.is_open("real", "honest")
    assert world.clock.now - began <= 1.0


@pytest.mark.parametrize("false_names", [0, 90, 120, 300])
def test_a_real_bus_of_the_same_peer_is_found_in_its_turn(false_names: int) -> None:
    world = World(existing=["real"])
    for i in range(false_names):
        world.names.is_open(f"n{i}", "p")
    world.names.is_open("real", "p")
    world.run(max(0, false_names - 100) + 2.0)
    assert world.names.is_open("real", "p")


def test_missing_names_are_asked_again_at_a_slow_rate_and_no_unknown_one_waits_for_them() -> None:
    world = World()
    for i in range(100):
        world.names.is_open(f"n{i}", "p")
    world.run(20.0)
    world.asked.clear()
    world.run(1000.0)
    assert len(world.asked) <= 1030
    assert max(world.asked.count(f"n{i}") for i in range(100)) <= 12


def test_a_peer_with_one_missing_name_is_not_made_to_wait_by_one_with_thousands() -> None:
    world = World()
    for i in range(5000):
        world.names.is_open(f"n{i}", "false")
        if i % 50 == 0:
            world.run(50.0)
    world.names.is_open("late", "honest")
    world.run(60.0)
    world.existing.add("late")
    world.run(35.0)
    assert world.names.is_open("late", "honest")


def test_verified_names_are_checked_at_a_rate_of_their_own_and_new_ones_do_not_wait_for_that() -> None:
    existing = [f"b{i}" for i in range(2000)]
    world = World(existing=[*existing, "new"])
    world.names.remember(existing)
    world.run(10.0)
    world.asked.clear()
    world.names.is_open("new", "p")
    world.run(0.5)
    assert "new" in world.asked
    world.asked.clear()
    world.run(100.0)
    assert len(world.asked) <= 510


def test_a_hurry_asks_about_missing_names_again() -> None:
    world = World("orders")
    for i in range(10):
        world.names.is_open(f"n{i}", "p")
    world.run(5.0)
    world.asked.clear()
    world.names.hurry()
    world.ask_all()
    assert sorted(world.asked) == sorted(["orders", *(f"n{i}" for i in range(10))])


def test_a_hurry_ends_a_back_off_of_the_asking() -> None:
    world = World()
    world.trouble = Answer.UNANSWERED
    world.names.is_open("n", "p")
    world.run(100.0)
    world.trouble = None
    assert not world.ask()
    world.names.hurry()
    assert world.ask()


# --- what is remembered


def test_remembered_names_are_open_at_once_and_checked_in_the_background() -> None:
    world = World(existing=["orders"])
    world.names.remember(["orders", "gone"])
    assert world.names.is_open("orders", "p")
    assert world.names.is_open("gone", "p")
    world.ask_all()
    assert world.asked == ["orders", "gone"]
    assert world.closed == ["gone"]


def test_what_is_verified_and_what_is_gone_is_to_be_saved() -> None:
    world = World(existing=["orders"])
    world.names.remember(["gone"])
    world.names.is_open("orders", "p")
    world.ask_all()
    assert world.names.unsaved() == {"orders": True, "gone": False}
    assert world.names.unsaved() == {}


def test_what_is_known_is_bounded_and_a_forgotten_name_is_unknown_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buses, "MAX_KNOWN", 50)
    world = World("orders", existing=["orders"])
    for i in range(200):
        world.names.is_open(f"n{i}", "p")
    world.run(300.0)
    words = [world.names.why(f"n{i}") for i in range(200)]
    assert words.count("missing") == 50
    assert not world.names.is_waiting(next(f"n{i}" for i in range(200) if words[i] == "unknown"))
    monkeypatch.setattr(buses, "MAX_KNOWN", 3)
    world.names.remember(["a", "b", "c", "d"])
    assert world.names.is_open("orders", "p"), "a configured one is not forgotten"


# --- the hold


def test_one_configured_bus_that_is_missing_holds_its_target() -> None:
    world = World("orders", default=False)
    assert world.names.held() is None
    world.ask_all()
    assert world.names.held() == "event bus orders does not exist in eu-west-1"
    world.existing.add("orders")
    world.run(31.0)
    assert world.names.held() is None


@pytest.mark.parametrize(
    ("configured", "default"),
    [(("orders", "bills"), False), (("orders", "default"), False), (("orders",), True), ((), True)],
)
def test_where_other_names_are_sent_to_a_missing_bus_holds_nobody(
    configured: tuple[str, ...], default: bool
) -> None:
    world = World(*configured, default=default)
    world.names.is_open("other", "p")
    world.ask_all()
    assert world.names.held() is None


def test_a_stop_waits_for_answers_that_are_about_to_come_and_not_in_an_outage() -> None:
    world = World(existing=["real"])
    assert not world.names.pending
    world.names.is_open("real", "p")
    assert world.names.pending
    world.ask_all()
    assert not world.names.pending
    world.trouble = Answer.UNANSWERED
    world.names.is_open("other", "p")
    world.run(20.0)
    assert not world.names.pending


def test_an_event_for_a_global_endpoint_that_cannot_be_called_waits() -> None:
    world = World()
    assert not world.names.is_open("endpoint:abcde.veo", "p")
    assert world.names.why("endpoint:abcde.veo") == "uncallable"
    assert world.names.has_share("endpoint:abcde.veo")
    assert "awscrt" in world.names.reason("endpoint:abcde.veo")
    world.run(100.0)
    assert world.asked == []


def test_events_of_an_open_bus_wait_for_nothing() -> None:
    """A bar that was forgotten, as there are too many, told the queue nothing."""
    known = BusNames(["a", "b"], default=True, verify=True, every=60.0, probe=30.0, cap=300.0)
    known.remember(["open"])
    assert known.is_open("open", "p")
    assert not known.is_waiting("open"), "so the queue is told to release it"
