"""The credentials of one target: found once, renewed beside the calls, and what is seen of them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import pytest
import structlog

from forwarder.targets import credentials as module
from forwarder.targets import searches
from forwarder.targets.credentials import Credentials
from forwarder.targets.searches import LONGEST_SECONDS
from forwarder.targets.sources import CREDENTIALS, Keys, Progress, SourceTrouble
from tests.support.turned_time import TurnedClock

LASTING, DUE = 7200.0, 800.0
"""Seconds to the end: long before it, and within the time in which keys are renewed."""


class Issuer:
    """A source of keys that last so many seconds, and its state."""

    def __init__(self, lasts: float | None) -> None:
        self.lasts = lasts
        self.issued = 0
        self.down = False
        self.key = ""
        self.waits = threading.Event()
        self.waits.set()

    async def find(self, progress: Progress) -> Keys:
        progress.source = "custom-process"
        await asyncio.to_thread(self.waits.wait)
        if self.down:
            raise SourceTrouble(CREDENTIALS, "custom-process", "the source is down", "Mend it")
        self.issued += 1
        return Keys(self.key or f"AKID{self.issued}", "secret-key", "t", None, "custom-process", self.lasts)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


async def renewed(credentials: Credentials, refreshed: int, failed: int = 0) -> None:
    """Wait until so many searches have ended, with keys and without."""
    async with asyncio.timeout(10):
        while (credentials.view().refreshed, credentials.view().failed) != (refreshed, failed):
            await asyncio.sleep(0.002)


async def test_the_end_of_the_keys_is_known_and_lasting_keys_are_looked_for_once(clock: TurnedClock) -> None:
    issuer = Issuer(LASTING)
    credentials = Credentials(issuer.find, clock)
    keys = [await credentials.ready() for _ in range(3)]
    view = credentials.view()
    assert view.ends_at == pytest.approx(clock.wall() + LASTING)
    assert (view.refreshed, view.failed) == (1, 0)
    assert view.source == "the profile's credential_process"
    assert keys[0] is keys[2]


async def test_keys_that_never_end_have_no_end_to_tell(clock: TurnedClock) -> None:
    credentials = Credentials(Issuer(None).find, clock)
    await credentials.ready()
    clock.now += 10 * 86_400
    await credentials.ready()
    assert (credentials.view().ends_at, credentials.view().refreshed) == (None, 1)


async def test_the_same_keys_found_again_are_no_new_ones(clock: TurnedClock) -> None:
    issuer = Issuer(None)
    credentials = Credentials(issuer.find, clock)
    for key in ("AKID1", "AKID1", "AKID2"):
        issuer.key = key
        keys = await credentials.ready()
        credentials.drop(keys)
    assert credentials.view().refreshed == 2


async def test_keys_are_dropped_only_while_they_are_the_latest(clock: TurnedClock) -> None:
    issuer = Issuer(None)
    credentials = Credentials(issuer.find, clock)
    first = await credentials.ready()
    credentials.drop(first)
    second = await credentials.ready()
    credentials.drop(first)  # another call, which was in flight with the first ones, was refused
    assert await credentials.ready() is second
    assert issuer.issued == 2


async def test_keys_are_renewed_before_they_end_and_no_call_waits_for_it(clock: TurnedClock) -> None:
    issuer = Issuer(LASTING)
    credentials = Credentials(issuer.find, clock)
    await credentials.ready()
    clock.now += LASTING - DUE
    issuer.waits.clear()
    assert (await credentials.ready()).access_key == "AKID1"
    issuer.waits.set()
    await renewed(credentials, 2)
    assert (await credentials.ready()).access_key == "AKID2"


async def test_a_renewal_that_fails_is_said_once_and_holds_nobody_until_the_keys_end(
    clock: TurnedClock,
) -> None:
    issuer = Issuer(LASTING)
    credentials = Credentials(issuer.find, clock)
    with structlog.testing.capture_logs() as lines:
        await credentials.ready()
        clock.now += LASTING - DUE
        issuer.down = True
        for failed in (1, 2):
            assert (await credentials.ready()).access_key == "AKID1"
            await renewed(credentials, 1, failed)
            clock.now += module.AGAIN_SECONDS
        clock.now += DUE
        with pytest.raises(SourceTrouble, match="the source is down"):
            await credentials.ready()
    assert [line["event"] for line in lines] == [
        "credentials found",
        "credentials could not be renewed; the old ones are still used",
    ]
    assert "the source is down" in lines[1]["error"]
    assert not [line for line in lines if "secret-key" in str(line)]
    issuer.down = False
    assert (await credentials.ready()).access_key == "AKID2"


async def test_a_source_that_fails_is_asked_at_most_now_and_then_while_the_keys_last(
    clock: TurnedClock,
) -> None:
    issuer = Issuer(DUE)
    credentials = Credentials(issuer.find, clock)
    await credentials.ready()
    for _ in range(50):
        await credentials.ready()
        await asyncio.sleep(0)
    assert issuer.issued == 1


async def test_a_search_that_takes_long_fails_the_call_names_its_source_and_serves_the_next(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(LASTING)
    issuer.waits.clear()
    credentials = Credentials(issuer.find, clock)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    with pytest.raises(SourceTrouble, match=r"credential_process: there was no answer within 0.05 seconds"):
        await credentials.ready()
    monkeypatch.undo()
    issuer.waits.set()
    assert (await credentials.ready()).access_key == "AKID1"
    assert issuer.issued == 1, "it is the same search"


async def test_calls_that_come_together_share_one_search(clock: TurnedClock) -> None:
    issuer = Issuer(LASTING)
    credentials = Credentials(issuer.find, clock)
    found = await asyncio.gather(*(credentials.ready() for _ in range(8)))
    assert (len(set(found)), issuer.issued) == (1, 1)


async def test_a_search_that_hangs_in_a_file_blocks_neither_the_loop_nor_a_later_search_nor_the_close(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, opened = Issuer(LASTING), threading.Event()
    files: list[str] = ["a pipe that nobody writes to"]

    async def find(progress: Progress) -> Keys:
        if files:
            opened.wait(60)  # as open() does; nothing can cancel it
        return await issuer.find(progress)

    monkeypatch.setattr(module, "WAIT_SECONDS", 0.05)
    credentials = Credentials(find, clock)
    waiting, turns = asyncio.create_task(credentials.ready()), 0
    while not waiting.done():
        await asyncio.sleep(0.002)
        turns += 1
    assert isinstance(waiting.exception(), SourceTrouble)
    assert turns >= 3, "the loop turns meanwhile"
    monkeypatch.undo()
    assert credentials._search is not None
    credentials._search.began_at -= LONGEST_SECONDS + 2  # it ought to have ended by now
    files.clear()
    assert (await credentials.ready()).access_key == "AKID1"
    await credentials.close()
    opened.set()


async def test_a_search_that_fails_is_counted_once_however_many_calls_waited_for_it_in_vain(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer(LASTING)
    issuer.down = True
    issuer.waits.clear()
    credentials = Credentials(issuer.find, clock)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    told = await asyncio.gather(*(credentials.ready() for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in told} == {SourceTrouble}
    assert credentials.view().failed == 1
    monkeypatch.undo()
    issuer.waits.set()
    with pytest.raises(SourceTrouble, match="the source is down"):
        await credentials.ready()
    assert credentials.view().failed == 1, "it is the same search"
    with pytest.raises(SourceTrouble, match="the source is down"):
        await credentials.ready()
    assert credentials.view().failed == 2


async def test_a_search_that_ends_itself_names_its_source(
    clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def find(progress: Progress) -> Keys:
        progress.source = "custom-process"
        await asyncio.sleep(60)
        raise AssertionError("it is cancelled")

    monkeypatch.setattr(searches, "LONGEST_SECONDS", 0.05)
    with pytest.raises(SourceTrouble) as trouble:
        await Credentials(find, clock).ready()
    assert "credential_process: there was no answer within 0.05 seconds" in trouble.value.sentence
    assert trouble.value.cure


async def test_a_thread_that_a_search_left_behind_holds_up_no_end_of_the_process() -> None:
    program = (
        "import asyncio, threading\n"
        "from forwarder.targets.searches import Search\n"
        "async def find(progress):\n"
        "    await asyncio.to_thread(threading.Event().wait)\n"  # as a look-up of a name may hang
        "async def main():\n"
        "    search = Search(find)\n"
        "    await asyncio.sleep(0.2)\n"
        "    search.cancel()\n"
        "    await search.ended(2.0)\n"
        "    print('ended')\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert (out, process.returncode) == (b"ended\n", 0)
