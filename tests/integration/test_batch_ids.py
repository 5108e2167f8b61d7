"""The BatchId of a RUM call whose daemon was killed between sending it and knowing that it arrived."""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.test_merge import SESSIONS, event, flush
from tests.support.events import events, marker_of, markers
from tests.support.harness import World
from tests.support.processes import daemon_beside

Send = Callable[[World, list[str]], Awaitable[object]]


async def by_clients(place: World, names: list[str]) -> None:
    """Batches of one session with BatchIds, which could be joined but for these."""
    for start in range(0, len(names), 4):
        await flush(place, SESSIONS[0], [event(name) for name in names[start : start + 4]])


async def alone(place: World, names: list[str]) -> None:
    """One batch without a BatchId, with nothing beside it that it could be joined with."""
    await place.send("rum", events("rum", names))


async def batch_ids(place: World) -> dict[str, list[str]]:
    """The BatchIds under which each event arrived, one for each time."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in await place.arrivals("rum"):
        found[marker_of(line["entry"])].append(line["envelope"]["BatchId"])
    return found


@pytest.mark.parametrize("send", [by_clients, alone])
async def test_a_batch_keeps_its_batch_id_over_a_kill_between_its_call_and_the_answer(
    place: World, send: Send
) -> None:
    names = markers(12)
    await place.order({"fault": "reset_after", "api": "rum"})
    async with daemon_beside(place, web={"queue": "disk"}) as daemon:
        await send(place, names)
        await place.all_arrive("rum", names)
        daemon.ask(signal.SIGKILL)
        await daemon.ended()
    before = await batch_ids(place)
    await place.heal()
    async with daemon_beside(place, web={"queue": "disk"}) as daemon:
        await place.settled("rum")
        daemon.ask()
        assert await daemon.ended() == 0
    after = await batch_ids(place)
    for name in names:
        assert len(after[name]) > len(before[name]), "it was sent again, as nobody knew that it arrived"
        assert len(set(after[name])) == 1
