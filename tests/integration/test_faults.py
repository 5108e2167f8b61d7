"""The fault suite: whatever happens, every event arrives, and only what AWS rejects is given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.events import KINDS, TARGETS, event, events, markers
from tests.support.harness import Settings, World, daemon_in, for_each, full_ledger

WITH_RESULTS = ("eventbridge", "evidently")


@dataclass(frozen=True)
class Trouble:
    """A fault that ends. ``again``: AWS may have taken events without our knowing, so they may come twice."""

    name: str
    fault: Settings
    kinds: tuple[str, ...] = KINDS
    again: bool = False
    read_timeout: str = "10s"


def trouble(name: str, fault: str, times: int = 3, **more: Any) -> Trouble:
    about = {key: more.pop(key) for key in ("kinds", "again", "read_timeout") if key in more}
    return Trouble(name, {"fault": fault, "times": times, **more}, **about)


TROUBLES = [
    trouble("throttle", "throttle"),
    trouble("throttle with a time to wait", "throttle", retry_after=0.05),
    trouble("429 of no name", "error", status=429, code="SlowDownPlease"),
    trouble("500", "error"),
    trouble("503", "error", status=503),
    trouble("400 of no known name", "error", status=400, code="SomethingNew"),
    trouble("slow", "slow", delay=0.1),
    trouble("too slow", "slow", delay=0.7, times=2, again=True, read_timeout="300ms"),
    trouble("hang", "hang", times=2, again=True, read_timeout="300ms"),
    trouble("reset before", "reset"),
    trouble("reset after", "reset_after", again=True),
    trouble("HTML with 200", "wrong_shape"),
    trouble("a list with 200", "wrong_shape", shape="list"),
    trouble("nothing with 200", "wrong_shape", shape="empty", kinds=WITH_RESULTS),
    trouble("an empty object with 200", "wrong_shape", shape="object", kinds=WITH_RESULTS),
    trouble("null results", "wrong_shape", shape="null", kinds=WITH_RESULTS),
    trouble("missing results", "missing_results", kinds=WITH_RESULTS),
    trouble("redirect", "redirect", times=2),
    trouble("expired credentials", "credentials", times=2),
    trouble("access denied", "access_denied", times=2),
    trouble("a missing resource", "not_found", times=2),
    trouble("entries that fail", "entry", times=12, kinds=WITH_RESULTS),
    trouble("throttled entries", "entry", times=12, code="ThrottlingException", kinds=WITH_RESULTS),
    trouble("entries of no known error", "entry", times=12, code="SomethingNew", kinds=WITH_RESULTS),
]


def by(transport: str) -> Settings:
    """Settings with which every target takes this call path; with ``fast`` it is held where it cannot."""
    return {name: {"transport": transport} for name in TARGETS.values()}


@pytest.mark.parametrize("transport", ["fast", "plain"])
@pytest.mark.parametrize("wrong", TROUBLES, ids=lambda wrong: wrong.name)
async def test_every_event_arrives_and_none_is_given_up(place: World, wrong: Trouble, transport: str) -> None:
    async def suffer(kind: str) -> None:
        names = markers(60)
        await place.order({**wrong.fault, "api": kind})
        await place.send(kind, events(kind, names), size=12)
        await place.all_arrive(kind, names)
        await place.settled(kind)
        ledger, arrived = await place.ledger(kind), await place.arrived(kind)
        assert await place.injected(kind, wrong.fault["fault"]) > 0, kind
        assert set(arrived) == set(names)
        assert wrong.again or set(arrived.values()) == {1}, kind
        assert (ledger["accepted"], ledger["delivered"]) == (60, 60), kind
        assert (await place.summary(kind))["dropped"] == 0

    kinds = wrong.kinds if transport == "fast" else ("eventbridge",)
    async with daemon_in(place, timeouts={"read": wrong.read_timeout}, **by(transport)):
        await for_each(kinds, suffer)
    assert place.letters() == {}


async def test_faults_of_every_kind_at_once_lose_nothing(place: World) -> None:
    kinds = ("throttle", "error", "reset", "wrong_shape", "credentials", "slow")
    async with daemon_in(place, hold={"probe": "20ms", "probe_cap": "20ms"}):
        for kind in kinds:
            await place.order({"fault": kind, "rate": 0.08, "delay": 0.02})
        await place.order({"fault": "entry", "rate": 0.05}, {"fault": "missing_results", "rate": 0.03})
        sent = {kind: markers(300) for kind in KINDS}
        for kind, names in sent.items():
            await place.send(kind, events(kind, names), size=25)
        for kind, names in sent.items():
            assert set(await place.all_arrive(kind, names)) == set(names)
        await place.settled(*KINDS)
        ledgers = await full_ledger(place)
    assert {kind: ledger["delivered"] for kind, ledger in ledgers.items()} == dict.fromkeys(KINDS, 300)
    assert place.letters() == {}


@pytest.mark.parametrize("transport", ["fast", "plain"])
async def test_redirects_are_not_followed(place: World, transport: str) -> None:
    async with daemon_in(place, **by(transport)):
        names = markers(3)
        for kind in KINDS:
            await place.order({"fault": "redirect", "api": kind, "times": 2})
            await place.send(kind, events(kind, names))
        for kind in KINDS:
            await place.all_arrive(kind, names)
        async with place.http.get(f"{place.sandbox}/_sandbox/summary") as answer:
            assert (await answer.json())["redirects_followed"] == 0


@pytest.mark.parametrize("fault", ["throttle", "error", "reset", "credentials"])
async def test_dead_letters_are_exactly_what_aws_rejected(place: World, fault: str) -> None:
    async def suffer(kind: str) -> None:
        good, bad = markers(40), markers(4)
        await place.order({"fault": fault, "api": kind, "times": 2})
        mixed = events(kind, good)
        for i, name in enumerate(bad):
            mixed.insert(i * 10, event(kind, name, "reject"))
        ids = await place.send(kind, mixed, size=11)
        await place.all_arrive(kind, good)
        await place.settled(kind)
        ledger, arrived = await place.ledger(kind), await place.arrived(kind)
        letters = {id_: each for id_, each in place.letters().items() if each.target == TARGETS[kind]}
        assert set(letters) == {ids[i * 10] for i in range(4)}
        assert all(name.encode() in letters[ids[i * 10]].body for i, name in enumerate(bad))
        assert {letter.reason for letter in letters.values()} == {"rejected"}
        assert arrived == dict.fromkeys(good, 1)
        assert (ledger["delivered"], ledger["dead_lettered"]) == (40, 4)

    async with daemon_in(place):
        await for_each(KINDS, suffer)


@pytest.mark.parametrize("proven", [False, True], ids=["the first call ever", "after others"])
@pytest.mark.parametrize("position", [0, 4, 9])
async def test_one_poison_among_ten_costs_the_others_nothing(
    place: World, position: int, proven: bool
) -> None:
    async def suffer(kind: str) -> None:
        before = markers(3) if proven else []
        if before:
            await place.send(kind, events(kind, before))
            await place.all_arrive(kind, before)
            await place.settled(kind)
        calls_before = (await place.summary(kind))["calls"]
        good = markers(9)
        batch = events(kind, good)
        batch.insert(position, event(kind, "poison", "refuse"))
        ids = await place.send(kind, batch)
        await place.settled(kind)
        ledger, arrived = await place.ledger(kind), await place.arrived(kind)
        calls = (await place.summary(kind))["calls"] - calls_before
        assert arrived == dict.fromkeys(before + good, 1), "each once: none again after its 200"
        assert [id_ for id_, each in place.letters().items() if each.target == TARGETS[kind]] == [
            ids[position]
        ]
        assert calls <= 9
        assert (ledger["delivered"], ledger["dead_lettered"]) == (len(before) + 9, 1)

    async with daemon_in(place):
        await for_each(KINDS, suffer)


@pytest.mark.parametrize("word", ["fail-once", "fail-twice", "throttle-once"])
async def test_an_entry_that_failed_comes_back_alone(place: World, word: str) -> None:
    async with daemon_in(place):
        good, (late,) = markers(9), markers(1)
        batch = events("eventbridge", good)
        batch.insert(3, event("eventbridge", late, word))
        await place.send("eventbridge", batch)
        arrived = await place.all_arrive("eventbridge", [*good, late])
        lines = await place.arrivals("eventbridge")
        await place.settled("eventbridge")
    assert arrived == dict.fromkeys([*good, late], 1)
    calls = [line["call"] for line in lines]
    assert calls[:9] == [calls[0]] * 9, "nine in the first call"
    assert calls[9] > calls[0], "the tenth after it"


async def test_an_envelope_that_aws_never_takes_holds_the_target_and_costs_no_event(place: World) -> None:
    """Every call is refused alike, the first singles too: that is no poison, it is the set-up."""
    async with daemon_in(place):
        names = markers(12)
        await place.order({"fault": "error", "api": "rum", "status": 400, "code": "ValidationException"})
        await place.send("rum", events("rum", names))
        assert "ValidationException" in await place.held("rum")
        assert place.letters() == {}
        await place.heal()
        assert await place.all_arrive("rum", names) == dict.fromkeys(names, 1)
