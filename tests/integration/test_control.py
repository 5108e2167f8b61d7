"""The control socket of a real daemon: pause, resume, flush; and dead letters that go back into the queue."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import aiohttp
import msgspec
import pytest

from forwarder import client
from forwarder.cli import main
from tests.integration.test_ledger import scraping
from tests.support.credential_sources import write_keys
from tests.support.events import TARGETS, event, events, markers
from tests.support.fake_aws import forget_credentials
from tests.support.harness import Settings, World, daemon_in, daemon_of, until
from tests.support.processes import daemon_beside

LONG: Settings = {"retry": {"base": "600s", "cap": "600s"}, "hold": {"probe": "600s", "probe_cap": "600s"}}
DISK: Settings = {"queue": "disk"}
QUEUES: tuple[Settings, ...] = ({"queue": "memory"}, DISK)


def socket_of(place: World) -> Path:
    return place.storage / "data" / "control.sock"


async def told(*arguments: str) -> int:
    """The exit code of a command, beside a daemon in this process."""
    return await asyncio.to_thread(main, arguments)


async def operate(place: World, operation: str, kind: str) -> None:
    assert await told(operation, TARGETS[kind], "--socket", str(socket_of(place))) == 0


async def die(place: World, kind: str, count: int, size: int = 100) -> list[str]:
    """Events that were sent and expired while AWS could not be reached: the markers of dead letters."""
    names = markers(count)
    await place.order({"fault": "access_denied"})
    async with daemon_of(place, retry={"max_age": "100ms"}) as daemon:
        await place.send(kind, events(kind, names), size)

        async def dead() -> bool:
            return (await place.ledger(kind))["dead_lettered"] == count

        await until(dead, f"{count} events of {kind} are given up on")
        await daemon.stop()
    await place.heal()
    assert len(place.letters()) >= count
    return names


# --- the socket


async def test_the_socket_is_its_owners_alone_and_goes_away_with_the_daemon(place: World) -> None:
    async with daemon_in(place):
        mode = socket_of(place).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not socket_of(place).exists()


async def test_the_socket_of_a_killed_daemon_is_replaced(place: World) -> None:
    async with daemon_beside(place) as daemon:
        daemon.ask(signal.SIGKILL)
        await daemon.ended()
    assert socket_of(place).exists()
    async with daemon_in(place):
        await operate(place, "pause", "eventbridge")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_the_admin_listener_takes_none_of_it(place: World, method: str) -> None:
    paths = [f"/targets/orders/{each}" for each in ("pause", "resume", "flush", "replay")]
    async with daemon_in(place):
        for path in ("/targets", *paths, "/dead-letters/count", "/dead-letters/purge"):
            async with place.http.request(method, place.admin + path, json={}) as answer:
                assert answer.status == 404, path
        assert (await place.status("eventbridge"))["state"] == "open"


async def test_a_bad_order_is_told_what_is_possible(place: World) -> None:
    async with daemon_in(place):
        connector = aiohttp.UnixConnector(path=str(socket_of(place)))
        async with aiohttp.ClientSession(connector=connector) as session:
            for path, order, status, words in (
                ("/targets/nowhere/pause", {}, 404, "targets: orders, web, features"),
                ("/targets/orders/replay", {"limit": "x"}, 400, "`$.limit`"),
                ("/targets/orders/replay", {"colour": "red"}, 400, "known fields: target, reason, code"),
                ("/dead-letters/purge", {"limit": -1}, 400, "`$.limit`"),
            ):
                async with session.post(f"http://localhost{path}", json=order) as answer:
                    assert answer.status == status
                    assert words in (await answer.json())["error"]["message"]


async def test_a_command_without_a_daemon_exits_69_and_for_an_unknown_target_1(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await told("pause", "orders", "--socket", str(place.storage / "none.sock")) == 69
    assert "no daemon at" in capsys.readouterr().err
    async with daemon_in(place):
        assert await told("pause", "nowhere", "--path", str(place.storage)) == 1
        assert 'no such target: "nowhere"; targets: orders, web, features' in capsys.readouterr().err
        assert await told("dead-letters", "replay", "--target", "nowhere", "--path", str(place.storage)) == 1
        assert "targets: orders, web, features" in capsys.readouterr().err


# --- pause, resume, flush


async def test_a_paused_target_takes_events_and_sends_none_until_it_is_resumed(
    place: World, kind: str
) -> None:
    names = markers(30)
    async with daemon_in(place):
        await operate(place, "pause", kind)
        assert "paused by an operator since 2" in await place.held(kind)
        await place.send(kind, events(kind, names))
        other = next(each for each in TARGETS if each != kind)
        await place.all_arrive(other, [(await sent_one(place, other))])
        assert await place.arrived(kind) == {}
        assert f'reason="operator",state="held",target="{TARGETS[kind]}"}} 1.0' in await place.metrics()
        await operate(place, "resume", kind)
        assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)


async def sent_one(place: World, kind: str) -> str:
    (name,) = markers(1)
    await place.send(kind, [event(kind, name)])
    return name


async def test_what_is_paused_still_grows_too_old(place: World) -> None:
    async with daemon_in(place, retry={"max_age": "100ms"}):
        await operate(place, "pause", "eventbridge")
        await place.send("eventbridge", events("eventbridge", markers(3)))

        async def dead() -> bool:
            return (await place.ledger("eventbridge"))["dead_lettered"] == 3

        await until(dead, "what waits at a paused target is given up on")


async def test_a_restart_resumes(place: World) -> None:
    names = markers(3)
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await operate(place, "pause", "eventbridge")
        await place.send("eventbridge", events("eventbridge", names))
        daemon.ask()
        assert await daemon.ended() == 0
    async with daemon_in(place, **DISK):
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


@pytest.mark.parametrize("fault", [{"fault": "throttle", "times": 1}, {"fault": "access_denied", "times": 1}])
async def test_a_flush_ends_the_back_off_of_a_closed_gate(place: World, fault: Settings) -> None:
    names = markers(3)
    await place.order({**fault, "retry_after": 300} if fault["fault"] == "throttle" else fault)
    async with daemon_in(place, **LONG):
        await place.send("eventbridge", events("eventbridge", names))

        async def closed() -> bool:
            return str((await place.status("eventbridge"))["state"]) != "open"

        await until(closed, "the gate is closed")
        await operate(place, "flush", "eventbridge")
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


async def test_a_flush_looks_for_the_credentials_of_a_target_without_calls(
    place: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_credentials(monkeypatch)
    async with daemon_in(place, **LONG):
        assert (await place.held("rum")).startswith("credentials: ")
        await place.send("rum", events("rum", names := markers(3)))
        write_keys(Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]), "AKID")
        capsys.readouterr()
        await operate(place, "flush", "rum")
        assert "web: open" in capsys.readouterr().out
        assert await place.all_arrive("rum", names) == dict.fromkeys(names, 1)


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a command printed, without the log of the daemon in this process."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith(("orders:", "  cure:"))]


async def test_a_flush_asks_about_a_missing_bus_and_prints_what_came_of_it(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"buses": ["shop"], "verify_interval": "600s"}
    async with daemon_in(place, **LONG, orders=options):
        assert "event bus shop does not exist" in await place.held("eventbridge")
        since = (await place.status("eventbridge"))["since"]
        await place.send("eventbridge", events("eventbridge", names := markers(3)))
        await operate(place, "flush", "eventbridge")
        first, second = printed(capsys)
        assert first == "orders: held (missing), 3 events queued: event bus shop does not exist in eu-west-1"
        assert second.startswith("  cure: Create the event bus")
        assert (await place.status("eventbridge"))["since"] == since
        await place.make_bus("shop")
        await operate(place, "flush", "eventbridge")
        assert printed(capsys) == ["orders: open, 0 events queued"]
        assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)


async def test_a_flush_of_an_open_target_prints_why_events_stay_set_aside(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"buses": ["shop", "till"], "verify_interval": "600s"}
    await place.make_bus("till")
    async with daemon_in(place, **LONG, orders=options):
        for_shop = {**event("eventbridge", "a"), "EventBusName": "shop"}
        await place.send("eventbridge", [for_shop])
        await operate(place, "flush", "eventbridge")
        first, second = printed(capsys)
        assert first == (
            "orders: open, 1 event queued: 1 event is set aside: event bus shop does not exist in eu-west-1"
        )
        assert second.startswith("  cure: Create it, or correct the name")
        await place.make_bus("shop")
        await operate(place, "flush", "eventbridge")
        assert printed(capsys) == ["orders: open, 0 events queued"]


async def test_a_flush_waits_for_an_outcome_but_not_for_long(
    place: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.control.operations.FLUSH_SECONDS", 0.1)
    async with daemon_in(place, **LONG, shutdown={"drain_timeout": "100ms"}):
        await place.order({"fault": "access_denied", "times": 1}, {"fault": "hang"})
        await place.send("eventbridge", events("eventbridge", markers(3)))
        await place.held("eventbridge")
        await operate(place, "flush", "eventbridge")
        assert printed(capsys)[0].startswith("orders: held (access) (no answer yet), 0 events queued: Access")
        await place.heal()


async def test_a_flush_ends_the_delays_of_single_events(place: World) -> None:
    async with daemon_in(place, **LONG):
        names = markers(5)
        await place.send("eventbridge", [event("eventbridge", name, "fail-once") for name in names])

        async def waiting() -> bool:
            status = await place.status("eventbridge")
            return int(status["retried"]) == 5

        await until(waiting, "each failed once and waits")
        await operate(place, "flush", "eventbridge")
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


# --- replay


@pytest.mark.parametrize(
    ("kind", "queue"), [*((kind, DISK) for kind in TARGETS), ("eventbridge", QUEUES[0])], ids=str
)
async def test_replayed_events_keep_their_ids_arrive_once_and_every_scrape_balances(
    place: World, kind: str, queue: Settings
) -> None:
    names = await die(place, kind, 230)
    ids = set(place.letters())
    async with daemon_beside(place, **queue) as daemon, scraping(f"{place.admin}/metrics") as outside:
        await operate(place, "pause", kind)
        assert await client.replay(socket_of(place), {}, None) == 0
        assert place.letters() == {}
        ledger = await place.ledger(kind)
        assert (ledger["accepted"], ledger["replayed"], ledger["in_queue"]) == (0, 230, 230)
        assert f'dead_letters_events{{target="{TARGETS[kind]}"}} 0.0' in await place.metrics()
        if queue == DISK:
            assert set(ids_on_disk(place.storage)) == ids
        await operate(place, "resume", kind)
        assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
        await place.settled(kind)
        report = await outside.report()
        daemon.ask()
        assert await daemon.ended() == 0
    assert report["wrong"] == []
    assert report["last"][TARGETS[kind]]["delivered"] == 230


async def test_a_replayed_event_starts_anew_and_may_die_again(place: World) -> None:
    names = await die(place, "eventbridge", 3)
    before = place.letters()
    await place.order({"fault": "entry", "code": "MalformedDetail", "api": "eventbridge"})
    async with daemon_in(place):
        assert await client.replay(socket_of(place), {"target": "orders"}, None) == 0

        async def dead() -> bool:
            return len(place.letters()) == 3

        await until(dead, "AWS refuses them")
        again = place.letters()
        assert set(again) == set(before)
        assert {letter.reason for letter in again.values()} == {"rejected"}
        assert all(again[id_].received_at > before[id_].received_at for id_ in again)
        await place.heal()
        assert await client.replay(socket_of(place), {"reason": "rejected"}, None) == 0
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


async def test_only_what_was_asked_for_is_replayed_at_the_rate_that_was_asked_for(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await die(place, "eventbridge", 30)
    await die(place, "evidently", 5)
    async with daemon_in(place):
        where = ("--socket", str(socket_of(place)))
        began = asyncio.get_running_loop().time()
        assert (
            await told(
                "dead-letters", "replay", "--target", "orders", "--limit", "20", "--rate", "40", *where
            )
            == 0
        )
        assert asyncio.get_running_loop().time() - began > 0.25, "20 at 40 a second, the first step at once"
        assert "20 of 20 replayed, 0 skipped, 0 failed" in capsys.readouterr().err
        await place.settled("eventbridge")
        assert sum((await place.arrived("eventbridge")).values()) == 20
        assert len(place.letters()) == 15
        assert await told("dead-letters", "replay", "--until", "1h", *where) == 0
        assert "0 of 0 replayed" in capsys.readouterr().err
        assert await told("dead-letters", "replay", "--since", "1h", *where) == 0
        assert place.letters() == {}


@pytest.mark.parametrize("queue", QUEUES, ids=str)
async def test_a_replay_waits_for_room_in_a_full_queue(
    place: World, queue: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = await die(place, "eventbridge", 130)
    await place.order({"fault": "access_denied"})
    async with daemon_in(place, **queue, queue_limits={"max_events": 50}):
        replaying = asyncio.create_task(client.replay(socket_of(place), {}, None))

        async def full() -> bool:
            in_queue = (await place.ledger("eventbridge"))["in_queue"]
            return in_queue == 50 and len(place.letters()) == 80

        await until(full, "the queue is full, and the letters of those in it are gone")
        said = ""

        async def waits() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "waiting: the queue is full" in said

        await until(waits, "the replay says that it waits")
        await place.heal()
        assert await replaying == 0
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


async def test_letters_of_a_target_that_is_gone_are_left_and_said(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await die(place, "eventbridge", 3)
    with closing(sqlite3.connect(place.storage / "data" / "forwarder.db")) as connection, connection:
        connection.execute("UPDATE dead_letters SET target = 'gone'")
    async with daemon_in(place):
        assert await client.replay(socket_of(place), {}, None) == 1
        said = capsys.readouterr().err
        assert "gone: 3 dead letters, but the daemon has no such target" in said
        assert "0 of 3 replayed, 3 skipped, 0 failed" in said
    assert len(place.letters()) == 3


async def test_a_replay_that_is_interrupted_ends_between_two_steps(place: World) -> None:
    names = await die(place, "eventbridge", 60)
    async with daemon_in(place, **DISK):
        replaying = asyncio.create_task(client.replay(socket_of(place), {}, 20.0))

        async def under_way() -> bool:
            return (await place.ledger("eventbridge"))["replayed"] >= 8

        await until(under_way, "some are replayed")
        replaying.cancel()
        await asyncio.gather(replaying, return_exceptions=True)

        async def ended() -> bool:
            ledger = await place.ledger("eventbridge")
            return ledger["in_queue"] == 0 and len(place.letters()) == 60 - ledger["replayed"] > 0

        await until(ended, "the last step is done, and no other was begun")
        assert await client.replay(socket_of(place), {}, None) == 0
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


def ids_on_disk(storage: Path) -> list[str]:
    """The ids of the events in the queue's rows, as another program finds them; nothing is settled."""
    with closing(sqlite3.connect(storage / "data" / "forwarder.db")) as connection:
        payloads = connection.execute("SELECT payload FROM queue_rows").fetchall()
        assert connection.execute("SELECT count(*) FROM queue_settled").fetchone() == (0,)
    return [item[0] for (payload,) in payloads for item in msgspec.msgpack.decode(payload)]


def ids_of_letters(storage: Path) -> list[str]:
    with closing(sqlite3.connect(storage / "data" / "forwarder.db")) as connection:
        return [id_ for (id_,) in connection.execute("SELECT id FROM dead_letters")]


async def test_killed_in_the_middle_of_a_replay_every_letter_is_once_a_letter_or_an_event(
    place: World,
) -> None:
    least = 700
    names = await die(place, "eventbridge", 3000, size=1000)
    everything = sorted(place.letters())
    await place.order({"fault": "access_denied"})
    async with daemon_beside(place, **DISK, **LONG) as daemon:
        replaying = asyncio.create_task(client.replay(socket_of(place), {}, 5000.0))

        async def under_way() -> bool:
            return len(ids_of_letters(place.storage)) <= 3000 - least

        await until(under_way, "some are replayed")
        daemon.ask(signal.SIGKILL)
        await daemon.ended()
        assert await replaying == 69
    letters, queued = ids_of_letters(place.storage), ids_on_disk(place.storage)
    assert len(queued) >= least
    assert sorted([*letters, *queued]) == everything
    await place.heal()
    async with daemon_in(place, **DISK):
        assert await client.replay(socket_of(place), {}, None) == 0
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


# --- purge


async def test_purge_says_how_many_and_deletes_with_yes_beside_a_daemon_or_without(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await die(place, "eventbridge", 6)
    await die(place, "evidently", 2)
    where = ("--path", str(place.storage))
    assert await told("dead-letters", "purge", *where) == 2
    assert await told("dead-letters", "purge", "--all", *where) == 0
    assert "8 dead letters would be deleted" in capsys.readouterr().out
    assert len(place.letters()) == 8
    assert await told("dead-letters", "purge", "--target", "orders", "--limit", "2", "--yes", *where) == 0
    assert capsys.readouterr().out == "2 dead letters deleted\n"
    async with daemon_in(place):
        before = await place.ledger("eventbridge")
        assert await told("dead-letters", "purge", "--target", "orders", "--yes", *where) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "4 dead letters deleted"
        assert 'dead_letters_events{target="orders"} 0.0' in await place.metrics()
        assert await place.ledger("eventbridge") == before
    assert {letter.target for letter in place.letters().values()} == {"features"}


async def test_purge_without_a_socket_beside_a_running_daemon_is_refused(
    place: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await die(place, "eventbridge", 1)
    async with daemon_in(place):
        socket_of(place).unlink()
        assert await told("dead-letters", "purge", "--all", "--yes", "--path", str(place.storage)) == 74
        assert "another forwarder" in capsys.readouterr().err
    assert len(place.letters()) == 1


def test_a_storage_that_is_not_there_is_not_made_by_a_purge(tmp_path: Path) -> None:
    assert main(["dead-letters", "purge", "--all", "--yes", "--path", str(tmp_path / "none")]) == 74
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("settings", QUEUES)
async def test_a_queue_is_purged_beside_a_daemon_and_every_event_is_accounted_for(
    place: World, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with daemon_in(place, **settings):
        await operate(place, "pause", "eventbridge")
        await place.send("eventbridge", events("eventbridge", markers(30)))
        command = ("queue", "purge", "--target", "orders", "--path", str(place.storage))
        assert await told(*command, "--older-than", "1h") == 0
        assert "0 events moved" in capsys.readouterr().out
        assert await told(*command, "--delete") == 0
        assert "30 events would be deleted" in capsys.readouterr().out
        assert await told(*command, "--target", "nowhere") == 1
        assert "targets: orders" in capsys.readouterr().err
        assert await told(*command) == 0
        assert "30 events moved to the dead letters" in capsys.readouterr().out
        ledger = await place.ledger("eventbridge")
        assert (ledger["dead_lettered"], ledger["in_queue"]) == (30, 0)
        assert len(place.letters()) == 30
        await operate(place, "resume", "eventbridge")
        assert await told("dead-letters", "replay", "--path", str(place.storage)) == 0

        async def delivered() -> bool:
            return (await place.ledger("eventbridge"))["delivered"] == 30

        await until(delivered, "the purged events were replayed and delivered")
