"""What is logged of refusals: each reason soon, then rarely, with numbers that add up."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from forwarder.daemon.refusal_log import EVERY_SECONDS, MANY, RefusalLog
from forwarder.metrics import Metrics


def test_a_reason_is_logged_at_once_and_then_with_all_that_came_since() -> None:
    metrics = Metrics()
    orders, log = metrics.for_target("orders"), RefusalLog(metrics)
    with capture_logs() as lines:
        for second in range(25):
            orders.add_refused("queue_full", 3)
            log.look(float(second))
        orders.add_refused("queue_full", 1)
        log.look(25.0, last=True)
    assert {(line["target"], line["listener"], line["reason"]) for line in lines} == {
        ("orders", "ingest", "queue_full")
    }
    assert [line["count"] for line in lines] == [3, 30, 30, 13]
    assert sum(line["count"] for line in lines) == orders.refused["queue_full"]


def test_targets_and_reasons_do_not_hide_each_other() -> None:
    metrics = Metrics()
    log = RefusalLog(metrics)
    metrics.for_target("orders").add_refused("queue_full")
    metrics.for_target("web").add_refused("storage", 2)
    metrics.unbound.add_refused("unauthenticated", 4)
    metrics.unbound.add_refused("memory", 5)
    metrics.http.refused_connections = 6
    metrics.process.admin_refused["host"] = 7
    with capture_logs() as lines:
        log.look(1.0)
        log.look(2.0)

    def told(line: Any) -> tuple[str, str, str, str, int]:
        return line["event"], line["listener"], line.get("target", ""), line["reason"], line["count"]

    assert sorted(map(told, lines)) == [
        ("connections refused", "ingest", "", "connections", 6),
        ("events refused", "ingest", "", "memory", 5),
        ("events refused", "ingest", "", "unauthenticated", 4),
        ("events refused", "ingest", "orders", "queue_full", 1),
        ("events refused", "ingest", "web", "storage", 2),
        ("requests refused", "admin", "", "host", 7),
    ]


def test_faults_of_a_sender_wait_until_they_are_many_and_none_is_left_out() -> None:
    metrics = Metrics()
    orders, log = metrics.for_target("orders"), RefusalLog(metrics)
    with capture_logs() as lines:
        orders.add_refused("invalid", MANY - 1)
        log.look(0.0)
        log.look(EVERY_SECONDS)
        assert lines == []
        orders.add_refused("invalid", 3)
        log.look(2 * EVERY_SECONDS)
        orders.add_refused("invalid", 1)
        log.look(9 * EVERY_SECONDS)
        log.look(9 * EVERY_SECONDS + 1, last=True)
    assert [(line["reason"], line["count"]) for line in lines] == [("invalid", MANY + 2), ("invalid", 1)]
    assert sum(line["count"] for line in lines) == orders.refused["invalid"]
