"""Answers of the admin listener wait when they are asked for without pause, and only then."""

from __future__ import annotations

import pytest

from forwarder.admin.pacing import AnswerPace
from forwarder.admin.server import health_pace, page_pace


def asked(pace: AnswerPace, clients: int, seconds: float, pause: float = 0.0) -> tuple[int, float]:
    """Answers that clients get which ask again ``pause`` after an answer; the longest wait of one."""
    due = [0.0] * clients
    answers, longest = 0, 0.0
    while (now := min(due)) < seconds:
        wait = pace.wait(now)
        longest = max(longest, wait)
        answers += 1
        due[due.index(now)] = now + wait + max(pause, 0.000_1)
    return answers, longest


@pytest.mark.parametrize("clients", [1, 16, 128])
def test_however_many_ask_without_pause_they_get_few_answers(clients: int) -> None:
    answers, longest = asked(page_pace(), clients, 10.0)
    assert answers <= 10 * 150 + 200
    assert longest <= 1.001
    answers, longest = asked(health_pace(), clients, 10.0)
    assert answers <= 10 * 600 + 400
    assert longest <= 0.251


@pytest.mark.parametrize(("clients", "pause"), [(20, 1.0), (5, 0.2), (40, 15.0)])
def test_people_and_scrapers_never_wait(clients: int, pause: float) -> None:
    assert asked(page_pace(), clients, 60.0, pause)[1] == 0.0


def test_what_waits_of_pages_delays_no_health_check() -> None:
    pages, health = page_pace(), health_pace()
    asked(pages, 128, 10.0)
    assert health.wait(10.0) == 0.0
