"""The log of a state: every change while they are few, and the truth as the last line in any case."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from forwarder import changes
from forwarder.changes import BURST, EVERY_SECONDS, Changes


class Hand:
    """A clock that the test turns, and a log without an event loop, as the storage's thread has it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.changes = Changes(structlog.get_logger("test"), lambda: self.now)

    def flip(self, times: int) -> None:
        for number in range(times):
            self.changes.say("info", "up" if number % 2 else "down", number=number)


def test_a_few_changes_are_logged_one_by_one() -> None:
    hand = Hand()
    with structlog.testing.capture_logs() as lines:
        hand.flip(BURST)
    assert [line["number"] for line in lines] == list(range(BURST))


def test_of_a_state_that_flips_the_last_line_is_what_it_is_with_the_number_of_changes() -> None:
    hand = Hand()
    with structlog.testing.capture_logs() as lines:
        hand.flip(100)
        assert len(lines) == BURST
        assert not hand.changes.flush()
        hand.now += EVERY_SECONDS
        assert hand.changes.flush()
        assert lines[-1] == {"event": "up", "log_level": "info", "number": 99, "changes": 100 - BURST}
        hand.now += EVERY_SECONDS
        assert hand.changes.flush()
    assert len(lines) == BURST + 1


def test_what_waits_when_its_owner_ends_is_logged() -> None:
    hand = Hand()
    with structlog.testing.capture_logs() as lines:
        hand.flip(100)
        assert hand.changes.flush(last=True)
    assert lines[-1]["number"] == 99


async def test_on_an_event_loop_it_needs_nobody_to_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "EVERY_SECONDS", 0.01)
    log = Changes(structlog.get_logger("test"))
    with structlog.testing.capture_logs() as lines:
        for number in range(100):
            log.say("info", "flipped", number=number)
        while lines[-1]["number"] < 99:
            await asyncio.sleep(0.01)
