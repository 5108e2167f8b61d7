"""A RUM target that merges: fewer calls, and all else as it is without."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.events import MONITOR, marker_of, markers
from tests.support.harness import World, daemon_in, daemon_of

SESSIONS = tuple(str(uuid.UUID(int=number, version=4)) for number in (1, 2, 3))
PER_BATCH = 2
HELD = {"fault": "credentials"}


@pytest.fixture(params=["memory", "disk"])
def web(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of the merging target, for each kind of queue."""
    return {"merge": True, "queue": request.param}


def event(marker: str, word: str | None = None) -> dict[str, Any]:
    details = {"marker": marker} | ({} if word is None else {"sandbox": word})
    common = {"id": str(uuid.uuid4()), "timestamp": 1767323045, "type": "test_event"}
    return {**common, "details": json.dumps(details)}


async def flush(place: World, session: str, events: Sequence[dict[str, Any]]) -> None:
    """What a page sends when it sends: a batch with an id of its own."""
    body = {
        "BatchId": str(uuid.uuid4()),
        "AppMonitorDetails": {"id": MONITOR, "version": "1"},
        "UserDetails": {"userId": MONITOR, "sessionId": session},
        "SessionMetadata": '{"version":"1"}',
        "RumEvents": events,
    }
    async with place.http.post(f"{place.ingest}/appmonitors/{MONITOR}", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def flush_all(place: World, names: Sequence[str]) -> None:
    """All of these, a few at a time, for one session after the other."""
    for start in range(0, len(names), PER_BATCH):
        session = SESSIONS[start // PER_BATCH % len(SESSIONS)]
        await flush(place, session, [event(name) for name in names[start : start + PER_BATCH]])


async def calls(place: World) -> dict[int, list[dict[str, Any]]]:
    """What arrived, by call; each of one session and with one BatchId of its own."""
    by_call: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in await place.arrivals("rum"):
        by_call[line["call"]].append(line)
    for lines in by_call.values():
        assert len({json.dumps(line["envelope"], sort_keys=True) for line in lines}) == 1
    return by_call


def batch_ids(by_call: dict[int, list[dict[str, Any]]]) -> list[str]:
    return [lines[0]["envelope"]["BatchId"] for lines in by_call.values()]


async def test_what_waited_leaves_in_full_calls_each_with_an_id_of_its_own(
    place: World, web: dict[str, Any]
) -> None:
    names = markers(60)
    async with daemon_in(place, web=web):
        await place.order(HELD)
        await flush_all(place, names)
        await place.held("rum")
        await place.heal()
        assert set((await place.all_arrive("rum", names)).values()) == {1}
        await place.settled("rum")
        by_call = await calls(place)
        assert len(by_call) < len(names) / PER_BATCH / 2, "some were tried before the rest came"
        assert len(set(batch_ids(by_call))) == len(by_call)
        assert (await place.ledger("rum"))["delivered"] == len(names)


async def test_a_batch_is_tried_again_as_it_is_whatever_came_meanwhile(
    place: World, web: dict[str, Any]
) -> None:
    early, late = markers(4), markers(4)
    async with daemon_in(place, web={**web, "retry": {"base": "300ms", "cap": "300ms"}}):
        await place.order({"fault": "reset_after", "times": 2})
        await flush(place, SESSIONS[0], [event(name) for name in early])
        await place.all_arrive("rum", early)
        await flush(place, SESSIONS[0], [event(name) for name in late])
        await place.all_arrive("rum", late)
        await place.settled("rum")
        names: defaultdict[str, set[str]] = defaultdict(set)
        for line in await place.arrivals("rum"):
            names[marker_of(line["entry"])].add(line["envelope"]["BatchId"])
        assert max((await place.arrived("rum")).values()) > 1, "calls whose answer was lost are made again"
        assert {name: len(ids) for name, ids in names.items()} == dict.fromkeys([*early, *late], 1)


async def test_events_on_disk_are_joined_after_a_restart(place: World) -> None:
    names, options = markers(30), {"merge": True, "queue": "disk"}
    short = {"drain_timeout": "100ms"}
    await place.order(HELD)
    async with daemon_of(place, web=options, shutdown=short) as daemon:
        await flush_all(place, names[:20])
        await place.held("rum")
        await daemon.stop()
    async with daemon_in(place, web=options):
        await flush_all(place, names[20:])
        await place.heal()
        assert set((await place.all_arrive("rum", names)).values()) == {1}
        await place.settled("rum")
        ledger = await place.ledger("rum")
        assert (ledger["recovered"], ledger["accepted"], ledger["delivered"]) == (20, 10, 30)
        assert len(await calls(place)) < len(names) / PER_BATCH / 2


async def test_one_bad_event_costs_none_of_those_it_was_joined_with(
    place: World, web: dict[str, Any]
) -> None:
    names = markers(20)
    bad = names[9]
    async with daemon_in(place, web=web):
        await place.order(HELD)
        for name in names:
            await flush(place, SESSIONS[0], [event(name, "refuse" if name == bad else None)])
        await place.held("rum")
        await place.heal()
        good = [name for name in names if name != bad]
        assert set((await place.all_arrive("rum", good)).values()) == {1}
        await place.settled("rum")
        ledger = await place.ledger("rum")
        assert (ledger["delivered"], ledger["dead_lettered"]) == (19, 1)
        assert [letter.code for letter in place.letters().values()] == ["ValidationException"]
        assert len(set(batch_ids(await calls(place)))) == len(await calls(place))


async def test_a_batch_that_is_too_large_for_aws_arrives_in_parts(place: World, web: dict[str, Any]) -> None:
    names = markers(8)
    too_large = {"fault": "error", "status": 413, "code": "RequestEntityTooLargeException", "times": 3}
    async with daemon_in(place, web=web):
        await place.order(too_large)
        await flush(place, SESSIONS[0], [event(name) for name in names])
        assert set((await place.all_arrive("rum", names)).values()) == {1}
        await place.settled("rum")
        by_call = await calls(place)
        assert len(by_call) > 1
        assert len(set(batch_ids(by_call))) == len(by_call)
        assert (await place.ledger("rum"))["delivered"] == len(names)
