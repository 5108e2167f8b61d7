"""At start: one for each target, or for each set of equal settings where they are many."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from forwarder.daemon.start_lines import EACH, LINES, NOT_YET, endpoint_in_words, say_targets
from forwarder.queues.kinds import QUEUES


def options(queue: str = "memory", **more: Any) -> SimpleNamespace:
    given = {"endpoint_url": None, "use_fips": False, "use_dualstack": False, **more}
    return SimpleNamespace(kind="eventbridge", queue=QUEUES[queue].options(), **given)


def built(region: str = "eu-west-1", source: str = "") -> Any:
    credentials = SimpleNamespace(source=source)
    return SimpleNamespace(target=SimpleNamespace(region=region, credentials=lambda: credentials))


def said(parts: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    with capture_logs() as lines:
        say_targets(parts, settings)
    return [dict(line) for line in lines]


def test_a_target_has_a_line_with_where_its_events_go_and_what_they_survive() -> None:
    (line,) = said({"orders": built(source="an environment variable")}, {"orders": options("disk")})
    assert line == {
        "event": "target configured",
        "log_level": "info",
        "target": "orders",
        "kind": "eventbridge",
        "region": "eu-west-1",
        "endpoint": "AWS",
        "queue": "disk",
        "survives": "a kill, a crash and a power cut",
        "credentials": "an environment variable",
    }


def test_a_memory_queue_and_credentials_that_were_not_found_yet_are_said() -> None:
    (line,) = said({"orders": built("")}, {"orders": options()})
    assert (line["region"], line["credentials"]) == ("none", NOT_YET)
    assert line["survives"] == "a clean stop if all events can be delivered; not a kill"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"use_fips": True}, "AWS (FIPS)"),
        ({"use_fips": True, "use_dualstack": True}, "AWS (FIPS, dual stack)"),
        ({"endpoint_url": "https://me:secret@events.internal"}, "https://events.internal"),
    ],
)
def test_the_endpoint_is_in_words_and_without_a_password(given: dict[str, Any], words: str) -> None:
    assert "secret" not in endpoint_in_words(options(**given))
    assert endpoint_in_words(options(**given)).replace("***@", "") == words


def test_many_targets_are_told_together_and_those_that_differ_apart() -> None:
    names = [f"t{number:03}" for number in range(200)]
    settings = {name: options() for name in names} | {"t007": options("disk")}
    lines = said({name: built() for name in names}, settings)
    assert [(line["count"], line["targets"], line["queue"]) for line in lines] == [
        (199, "t000, t001, t002 and 196 more", "memory"),
        (1, "t007", "disk"),
    ]


def test_targets_that_all_differ_do_not_flood_the_log_and_each_is_counted() -> None:
    names = [f"t{number:03}" for number in range(200)]
    parts = {name: built(f"region-{name}") for name in names}
    lines = said(parts, {name: options() for name in names})
    assert len(lines) == LINES
    assert sum(line["count"] for line in lines) == 200
    few = dict(list(parts.items())[:EACH])
    assert len(said(few, {name: options() for name in few})) == EACH
