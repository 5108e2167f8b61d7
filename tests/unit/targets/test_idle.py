"""A target without events: its credentials are found and renewed, and their trouble holds it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from forwarder.metrics import TargetMetrics
from forwarder.model import SystemClock
from forwarder.queues.memory import MemoryQueue
from forwarder.states import Reason
from forwarder.targets import TARGETS, eventbridge, idle, rum
from forwarder.targets.credentials import Credentials
from forwarder.targets.options import TargetOptions
from forwarder.targets.sources import CREDENTIALS, Keys, Progress, SourceTrouble
from tests.support.fake_aws import aws_environment, forget_credentials

__all__ = ["aws_environment"]

SAID = "credentials: the profile's credential_process: it is gone. Mend it."


async def test_trouble_of_credentials_holds_an_idle_target_until_they_are_found() -> None:
    gone, held, told = [True], [], asyncio.Event()

    async def find(progress: Progress) -> Keys:
        if gone:
            raise SourceTrouble(CREDENTIALS, "custom-process", "it is gone", "Mend it")
        return Keys("AKID", "secret", None, None, "custom-process", None)

    def hold(sentence: str | None, reason: Reason) -> None:
        held.append((sentence, reason))
        told.set()

    credentials = Credentials(find)
    keeping = asyncio.create_task(idle.IdleCredentials(credentials, 0.01).run(hold))
    await told.wait()
    assert set(held) == {(SAID, Reason.CREDENTIALS)}
    gone.clear()
    async with asyncio.timeout(10):
        while held[-1] != (None, Reason.NONE):
            await asyncio.sleep(0.002)
    assert credentials.view().source == "the profile's credential_process"
    keeping.cancel()
    await asyncio.wait([keeping])
    await credentials.close()


NOTHING_TO_ASK = [
    eventbridge.EventBridgeOptions(region="eu-west-1"),
    eventbridge.EventBridgeOptions(region="eu-west-1", buses=["default"]),
    eventbridge.EventBridgeOptions(region="eu-west-1", buses=["shop"], verify_buses=False),
    rum.RumOptions(region="eu-west-1"),
]


@pytest.mark.parametrize("options", NOTHING_TO_ASK)
async def test_who_makes_no_calls_is_held_for_its_credentials_and_by_an_owner_of_its_own(
    options: TargetOptions, monkeypatch: pytest.MonkeyPatch, aws_environment: None
) -> None:
    forget_credentials(monkeypatch)
    target = TARGETS[options.kind].build("orders", options)
    clock, metrics = SystemClock(), TargetMetrics("orders")
    queue = MemoryQueue(target.limits, max_events=9, max_bytes=1 << 20, clock=clock, metrics=metrics)
    held: list[tuple[str, str | None, Reason]] = []
    watching = asyncio.create_task(target.watch(queue, lambda *said: held.append(said)))
    async with asyncio.timeout(10):
        while not held:
            await asyncio.sleep(0.002)
    assert (held[0][0], held[0][2]) == ("credentials", Reason.CREDENTIALS)
    assert {owner for owner, _, _ in held} == {"credentials"}
    watching.cancel()
    await asyncio.wait([watching])
    await queue.aclose()
    await target.close()


async def test_a_person_who_mended_something_need_not_wait_for_the_next_look() -> None:
    gone, held = [True], []

    async def find(progress: Progress) -> Keys:
        if gone:
            raise SourceTrouble(CREDENTIALS, "custom-process", "it is gone", "Mend it")
        return Keys("AKID", "secret", None, None, "custom-process", None)

    credentials = Credentials(find)
    looks = idle.IdleCredentials(credentials, idle.LOOK_SECONDS)
    looking = asyncio.create_task(looks.run(lambda sentence, reason: held.append(sentence)))
    async with asyncio.timeout(idle.LOOK_SECONDS / 2):
        while not held or looks.is_looking:
            await asyncio.sleep(0.002)
        gone.clear()
        looks.hurry()
        assert looks.is_looking, "who asked waits for the outcome"
        while looks.is_looking:
            await asyncio.sleep(0.002)
    assert held == [SAID, None]
    looking.cancel()
    await asyncio.wait([looking])
    await credentials.close()


async def test_a_search_that_cannot_even_begin_holds_the_target_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def find(progress: Progress) -> Keys:
        return Keys("AKID", "secret", None, None, "custom-process", None)

    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    held: list[tuple[str | None, Reason]] = []
    credentials = Credentials(find)
    looking = asyncio.create_task(
        idle.IdleCredentials(credentials, 0.01).run(lambda *said: held.append(said))
    )
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        while not held:
            await asyncio.sleep(0.002)
    assert held[0] == ("configuration: RuntimeError: can't start new thread", Reason.CONFIGURATION)
    async with asyncio.timeout(10):
        while held[-1] != (None, Reason.NONE):
            await asyncio.sleep(0.002)
    looking.cancel()
    await asyncio.wait([looking])
    await credentials.close()
