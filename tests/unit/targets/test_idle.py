"""A target without events: its credentials are found and renewed, and their trouble holds it."""

from __future__ import annotations

import asyncio

import pytest

from forwarder.states import Reason
from forwarder.targets import idle
from forwarder.targets.credentials import Credentials
from forwarder.targets.sources import CREDENTIALS, Keys, Progress, SourceTrouble

SAID = "credentials: the profile's credential_process: it is gone. Mend it."


async def test_trouble_of_credentials_holds_an_idle_target_until_they_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone, held, told = [True], [], asyncio.Event()

    async def find(progress: Progress) -> Keys:
        if gone:
            raise SourceTrouble(CREDENTIALS, "custom-process", "it is gone", "Mend it")
        return Keys("AKID", "secret", None, None, "custom-process", None)

    def hold(sentence: str | None, reason: Reason) -> None:
        held.append((sentence, reason))
        told.set()

    monkeypatch.setattr(idle, "LOOK_SECONDS", 0.01)
    credentials = Credentials(find)
    keeping = asyncio.create_task(idle.keep(credentials, hold))
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
