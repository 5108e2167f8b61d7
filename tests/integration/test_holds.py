"""Trouble that lasts: a target is held, the others do not notice, and nothing is lost when it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import KINDS, MONITOR, TARGETS, event, events, markers
from tests.support.fake_aws import forget_credentials, set_credentials
from tests.support.harness import World, daemon_in, daemon_of, full_ledger, until
from tests.support.processes import daemon_beside

DENIED = {"fault": "access_denied"}


async def test_a_target_that_is_held_and_full_costs_the_others_no_refusal(place: World) -> None:
    small = {"queue_limits": {"max_events": 50}}
    statuses: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    taken: dict[str, list[str]] = {kind: [] for kind in KINDS}
    over = asyncio.Event()

    async def load(kind: str, size: int) -> None:
        while not over.is_set():
            names = markers(size)
            sent = await place.post(kind, events(kind, names))
            statuses[kind][sent.status] += 1
            if sent.status == 202:
                taken[kind] += names

    async def busy() -> bool:
        return all([(await place.summary(kind))["distinct"] >= 3000 for kind in ("rum", "evidently")])

    async with daemon_in(place, orders=small):
        await place.order({**DENIED, "api": "eventbridge"})
        await place.send("eventbridge", events("eventbridge", early := markers(50)), size=10)
        await place.held("eventbridge", "AccessDenied")
        async with asyncio.TaskGroup() as loads:
            for kind in KINDS:
                for _ in range(3):
                    loads.create_task(load(kind, 10 if kind == "eventbridge" else 100))
            await until(busy, "three thousand events for each of the others")
            over.set()
        assert (await place.status("eventbridge"))["state"] == "held"
        assert set(statuses["rum"]) == set(statuses["evidently"]) == {202}
        assert set(statuses["eventbridge"]) == {429}
        await place.heal()
        await place.settled(*KINDS)
        assert await place.all_arrive("eventbridge", early) == dict.fromkeys(early, 1)
        for kind in ("rum", "evidently"):
            assert await place.arrived(kind) == dict.fromkeys(taken[kind], 1)
        ledgers = await full_ledger(place)
    assert {kind: ledgers[kind]["accepted"] for kind in ("rum", "evidently")} == {
        kind: len(taken[kind]) for kind in ("rum", "evidently")
    }


async def failed_tries(place: World, kind: str) -> int:
    """Tries of the daemon that found no credentials, by its own count."""
    found = re.search(
        rf'credentials_refresh_total{{outcome="failed",target="{TARGETS[kind]}"}} (\S+)',
        await place.metrics(),
    )
    assert found is not None
    return int(float(found[1]))


async def test_no_event_is_sent_to_a_bus_that_was_not_seen_to_exist_however_it_is_named(place: World) -> None:
    ours = "arn:aws:events:eu-west-1:111122223333:event-bus/nobus"
    async with daemon_in(place, orders={"verify_interval": "100ms"}):
        await place.send("eventbridge", [event("eventbridge", name := markers(1)[0], EventBusName=ours)])
        far = await place.post(
            "eventbridge", [event("eventbridge", "far", EventBusName=ours.replace("eu-west", "us-east"))]
        )
        assert far.status == 400
        await until(lambda: _says(place, "nobus"), "the status names the missing bus")
        await place.make_bus("nobus")
        assert await place.all_arrive("eventbridge", [name]) == {name: 1}
        assert (await place.summary("eventbridge"))["dropped"] == 0


async def _says(place: World, words: str) -> bool:
    return words in (await place.status("eventbridge"))["message"]


async def test_an_app_monitor_that_is_missing_costs_the_other_nothing(place: World) -> None:
    missing = "00000000-0000-4000-8000-0000000000bb"
    async with daemon_in(place, web={"app_monitors": [MONITOR, missing]}):
        await place.send("rum", events("rum", first := markers(1), AppMonitorId=MONITOR))
        await place.all_arrive("rum", first)
        await place.order({"fault": "not_found", "api": "rum", "name": missing})
        stuck, good = markers(20), markers(20)
        for name in stuck:  # a session each, so that none shares a call
            await place.send("rum", [event("rum", name, AppMonitorId=missing, Alias=name)])
        await place.send("rum", events("rum", good, AppMonitorId=MONITOR))
        assert await place.all_arrive("rum", good) == dict.fromkeys([*first, *good], 1)
        await place.heal()
        await place.settled("rum")
        assert await place.arrived("rum") == dict.fromkeys([*first, *stuck, *good], 1)


async def test_events_on_the_disk_for_a_global_endpoint_that_cannot_be_called_are_set_aside(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were accepted where awscrt was installed, and are found where it is not."""
    options = {"queue": "disk"}
    with monkeypatch.context() as with_crt:
        with_crt.setattr("forwarder.targets.eventbridge.find_spec", lambda name: name)
        async with daemon_of(place, orders=options, shutdown={"drain_timeout": "300ms"}) as daemon:
            call = {
                "EndpointId": "abcde.veo",
                "Entries": [{"Source": "a", "DetailType": "b", "Detail": "{}"}],
            }
            headers = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
            async with place.http.post(place.ingest, json=call, headers=headers) as answer:
                assert (await answer.json(content_type=None))["FailedEntryCount"] == 0
            await daemon.stop()
    async with daemon_in(place, orders=options):
        await place.send("eventbridge", events("eventbridge", good := markers(30)))
        await place.all_arrive("eventbridge", good)
        status = await place.status("eventbridge")
        assert status["set_aside"]["reasons"] == {"uncallable": 1}
        assert "awscrt" in status["message"]
        assert status["state"] == "open"


async def test_missing_app_monitors_cost_few_calls_however_many_batches_wait_for_them(place: World) -> None:
    names = [f"00000000-0000-4000-8000-{i:012d}" for i in range(20)]
    options: dict[str, Any] = {"default": True, "hold": {"probe": "60s", "probe_cap": "60s"}, "workers": 2}
    async with daemon_in(place, web=options, shutdown={"drain_timeout": "300ms"}):
        await place.order(*({"fault": "not_found", "api": "rum", "name": name} for name in names))
        for name in names:
            for session in markers(10):
                await place.send("rum", [event("rum", session, AppMonitorId=name, Alias=session)])
        await place.send("rum", events("rum", good := markers(5), AppMonitorId=MONITOR))
        await place.all_arrive("rum", good)

        async def known() -> bool:
            aside = (await place.status("rum"))["set_aside"]
            return bool(aside["reasons"] == {"missing": 200})

        await until(known, "every event of a missing app monitor is set aside")
        assert await place.injected("rum", "not_found") <= 60
        assert (await place.status("rum"))["state"] == "open"


async def test_a_bus_that_was_deleted_and_made_again_gets_everything(place: World) -> None:
    options = {"buses": ["shop"], "verify_interval": "50ms"}
    async with daemon_in(place, orders=options):
        await place.make_bus("shop")
        before, gone, after = markers(15), markers(25), markers(15)
        await place.send("eventbridge", events("eventbridge", before))
        await place.all_arrive("eventbridge", before)
        await place.delete_bus("shop")
        assert "event bus shop does not exist" in await place.held("eventbridge")
        await place.send("eventbridge", events("eventbridge", gone))
        assert (await place.ledger("eventbridge"))["in_queue"] == 25
        await place.make_bus("shop")
        assert await place.all_arrive("eventbridge", before + gone) == dict.fromkeys(before + gone, 1)
        await place.send("eventbridge", events("eventbridge", after))
        await place.all_arrive("eventbridge", after)
        await place.settled("eventbridge")
    assert (await place.summary("eventbridge"))["dropped"] == 0
    assert place.letters() == {}


async def test_events_for_a_bus_that_is_made_later_wait_for_it_and_pass_no_others_by(place: World) -> None:
    """The bus is not configured, so only its own events wait; those for others are delivered meanwhile."""
    async with daemon_in(place, orders={"verify_interval": "50ms"}):
        early, others = markers(5), markers(30)
        await place.send("eventbridge", events("eventbridge", early, EventBusName="later"))
        for i in range(0, 30, 5):
            await place.send("eventbridge", events("eventbridge", others[i : i + 5]))
        assert await place.all_arrive("eventbridge", others) == dict.fromkeys(others, 1)
        await place.make_bus("later")
        assert await place.all_arrive("eventbridge", early) == dict.fromkeys(early + others, 1)
        await place.settled("eventbridge")
    assert (await place.summary("eventbridge"))["dropped"] == 0
    assert place.letters() == {}


async def test_credentials_that_appear_late_find_everything_waiting(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_credentials(monkeypatch)
    async with daemon_in(place):
        assert await place.ready()
        sent = {kind: markers(30) for kind in KINDS}
        for kind, names in sent.items():
            await place.send(kind, events(kind, names), size=7)
        for kind in KINDS:
            assert "redentials" in await place.held(kind)
            assert (await place.ledger(kind))["in_queue"] == 30
        assert await place.ready(), "no trouble at AWS makes the daemon unready"
        keys = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n"
        Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).write_text(keys)
        failed = {kind: await failed_tries(place, kind) for kind in KINDS}
        for kind, names in sent.items():
            assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
        await place.settled(*KINDS)
        assert {(await place.status(kind))["state"] for kind in KINDS} == {"open"}
        for kind in KINDS:  # at most the probe that was under way while the file was written
            assert await failed_tries(place, kind) <= failed[kind] + 1, "the next probe delivers"
    assert place.letters() == {}


async def test_a_dead_aws_and_full_queues_never_turn_health_red_and_status_says_so_per_target(
    place: World,
) -> None:
    async with daemon_in(place, queue_limits={"max_events": 10}):
        await place.order({"fault": "reset", "api": "eventbridge"}, {**DENIED, "api": "rum"})
        for kind in ("eventbridge", "rum"):
            await place.send(kind, events(kind, markers(10)))
            assert (await place.post(kind, events(kind, markers(1)))).status == 429

        async def states() -> bool:
            seen = [(await place.status(kind))["state"] for kind in KINDS]
            return seen == ["backing_off", "held", "open"]

        await until(states, "each target says how it is")
        for health in ("live", "ready"):
            async with place.http.get(f"{place.admin}/health/{health}") as answer:
                assert answer.status == 200, health
        await place.send("evidently", events("evidently", markers(5)))


async def test_credentials_that_change_while_held_are_found(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = markers(10)
    async with daemon_in(place):
        await place.order({"fault": "credentials"})
        for kind in KINDS:
            await place.send(kind, events(kind, names))
        for kind in KINDS:
            assert "expired" in await place.held(kind)
        set_credentials(monkeypatch, "AKIDOTHER")
        await place.heal()
        for kind in KINDS:
            assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)


async def test_events_that_grow_too_old_while_the_gate_is_closed_become_dead_letters(place: World) -> None:
    ids: set[str] = set()
    async with daemon_in(place, retry={"max_age": "1s"}):
        await place.order(DENIED)
        for kind in KINDS:
            ids |= set(await place.send(kind, events(kind, markers(25)), size=10))
        for kind in KINDS:
            await place.held(kind, "AccessDenied")
        await place.settled(*KINDS)
        for kind, ledger in (await full_ledger(place)).items():
            assert (ledger["accepted"], ledger["dead_lettered"]) == (25, 25)
            assert (await place.status(kind))["state"] == "held"
            assert await place.arrived(kind) == {}
    assert set(place.letters()) == ids
    assert {letter.reason for letter in place.letters().values()} == {"expired"}


class Disk:
    """A file that refuses dead letters, as a full disk does: an order that any program may leave in it."""

    def __init__(self, place: World) -> None:
        self._file = place.storage / "data" / "forwarder.db"

    def fill(self) -> None:
        self._do("CREATE TRIGGER no BEFORE INSERT ON dead_letters BEGIN SELECT raise(ABORT, 'full'); END")

    def empty(self) -> None:
        self._do("DROP TRIGGER no")

    def _do(self, statement: str) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute(statement)
            connection.commit()


async def test_a_dead_letter_that_cannot_be_written_stays_in_the_queue_until_it_can(
    place: World, kind: str
) -> None:
    other = KINDS[KINDS.index(kind) - 1]
    async with daemon_beside(place) as daemon:
        disk = Disk(place)
        first, good, more, elsewhere = markers(5), markers(9), markers(9), markers(20)
        await place.send(kind, events(kind, first))
        await place.all_arrive(kind, first)  # so that a refusal is the event's own
        disk.fill()
        ids = await place.send(kind, [*events(kind, good), event(kind, "bad", "reject")])
        assert "dead letters cannot be written" in await place.held(kind)
        assert await place.all_arrive(kind, good) == dict.fromkeys(first + good, 1)
        await place.send(kind, events(kind, more))  # taken, and waiting behind the hold
        assert (await place.ledger(kind))["in_queue"] == 10
        await place.send(other, events(other, elsewhere))
        assert await place.all_arrive(other, elsewhere) == dict.fromkeys(elsewhere, 1)
        assert place.letters() == {}
        assert (await place.ledger(kind))["dead_lettered"] == 0
        disk.empty()
        await place.settled(kind)
        assert set(place.letters()) == {ids[9]}
        assert await place.arrived(kind) == dict.fromkeys(first + good + more, 1)
        daemon.ask(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert not daemon.said("task ended unexpectedly; stopping")
    assert daemon.ledger(TARGETS[kind])["dead_lettered"] == 1


async def test_a_dead_letter_that_can_never_be_written_is_counted_as_lost_at_the_stop(place: World) -> None:
    async with daemon_beside(place, shutdown={"drain_timeout": "3s"}) as daemon:
        Disk(place).fill()
        await place.send("eventbridge", [event("eventbridge", "bad", "reject")])
        await place.held("eventbridge", "dead letters cannot be written")
        daemon.ask(signal.SIGTERM)
        assert await daemon.ended() == 3
    assert daemon.ledger("orders")["dropped"] == 1
    assert daemon.said("stopped; some events were lost", lost=1)
