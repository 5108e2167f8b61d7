"""A daemon with queues on disk: killed, stopped and started again, nothing that was accepted is lost."""

from __future__ import annotations

import resource
import signal

import pytest

from tests.support.events import KINDS, TARGETS, events, markers
from tests.support.harness import Settings, World
from tests.support.processes import daemon_beside

DISK: Settings = {"queue": "disk", "hold": {"probe": "600s", "probe_cap": "600s"}}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_what_was_accepted_is_delivered_by_the_next_process(
    place: World, number: signal.Signals
) -> None:
    sent = {kind: markers(205) for kind in KINDS}
    await place.order({"fault": "access_denied"})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "300ms"}) as daemon:
        for kind, names in sent.items():
            await place.send(kind, events(kind, names))
        daemon.ask(number)
        assert await daemon.ended() == (0 if number == signal.SIGTERM else -number)
        assert not daemon.said("events are queued in memory only: a kill loses what has not been sent")
        if number == signal.SIGTERM:
            assert daemon.said("stopped, nothing lost")
            assert [line["in_queue"] for line in daemon.said("ledger")] == [205, 205, 205]
            assert all(line["balanced"] for line in daemon.said("ledger"))
    await place.heal()
    async with daemon_beside(place, **DISK) as daemon:
        await daemon.says(
            "events recovered from an earlier run; sending them first",
            events={TARGETS[kind]: 205 for kind in KINDS},
        )
        for kind, names in sent.items():
            assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
            await place.settled(kind)
            ledger = await place.ledger(kind)
            assert (ledger["recovered"], ledger["accepted"]) == (205, 0)
        daemon.ask()
        assert await daemon.ended() == 0


async def test_events_of_a_target_without_a_disk_queue_any_more_are_kept_and_said(place: World) -> None:
    names = markers(30)
    await place.order({"fault": "access_denied", "api": "eventbridge"})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send("eventbridge", events("eventbridge", names))
        daemon.ask()
        assert await daemon.ended() == 0
    await place.heal()
    async with daemon_beside(place) as daemon:
        await daemon.says(
            "events on disk have no target with a disk queue",
            events={TARGETS["eventbridge"]: 30},
            runbook="docs/runbook.md#note-stranded",
        )
        daemon.ask()
        assert await daemon.ended() == 0
    async with daemon_beside(place, **DISK) as daemon:
        await place.all_arrive("eventbridge", names)


async def test_a_disk_that_goes_on_failing_stops_the_daemon_with_its_report(place: World) -> None:
    names = markers(20)
    await place.order({"fault": "access_denied", "api": "eventbridge"})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send("eventbridge", events("eventbridge", names))
        no_file_grows(daemon.process.pid)
        refused = await place.post("eventbridge", events("eventbridge", markers(1)))
        assert refused.status == 503
        assert await daemon.ended() == 70
        assert daemon.said("storage failed; stopping")
        assert daemon.ledger(TARGETS["eventbridge"])["in_queue"] == 20
    await place.heal()
    async with daemon_beside(place, **DISK) as daemon:
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)


def no_file_grows(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
