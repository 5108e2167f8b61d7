"""A real Prometheus scrapes the daemon: its rules are good, and "target held" fires and is over in time."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from forwarder.metrics import FAMILIES
from forwarder.metrics.families import PREFIX
from tests.e2e.processes import Daemon, Sandbox, a_daemon, ask, until
from tests.e2e.prometheus import ROOT, Prometheus, a_prometheus, a_victoria_metrics, promtool
from tests.support.dashboard import filled_in, panels

TARGET = """\
  orders:
    kind: eventbridge
    region: eu-west-1
    endpoint_url: "{url}"
    hold: {{probe: 200ms, probe_cap: 200ms}}
"""
HELD = {
    "alertname": "ForwarderTargetHeld",
    "job": "forwarder",
    "reason": "credentials",
    "severity": "critical",
    "state": "held",
    "target": "orders",
}
NOT_HERE = {
    "Certificate ends in",
    "Credentials end in",
    "Dead letters",
    "Dead letters kept",
    "Files of secrets",
    "Requests that came twice",
}
"""Panels for which nothing happened."""

BEFORE_ANY = {
    "credentials_expiry_timestamp_seconds",
    "event_failures_total",
    "events_unverified_total",
    "http_authenticated_requests_total",
    "http_repeated_requests_total",
    "secret_file_reads_total",
    "secret_file_stale",
    "tls_certificate_expiry_timestamp_seconds",
}
"""Families that have no series until something happened that did not happen here."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_the_rules_good(arguments: tuple[str, ...]) -> None:
    said = subprocess.run(
        [promtool(), *arguments], cwd=ROOT / "deploy" / "prometheus", capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "SUCCESS" in said.stdout + said.stderr


@pytest.fixture
def watched(sandbox: Sandbox, tmp_path: Path) -> Iterator[Daemon]:
    with a_daemon(tmp_path, TARGET.format(url=sandbox.url)) as daemon:
        yield daemon


@pytest.fixture
def prometheus(watched: Daemon, tmp_path: Path) -> Iterator[Prometheus]:
    with a_prometheus(tmp_path, watched.admin) as running:
        yield running


def send(daemon: Daemon, count: int) -> None:
    events = [{"Source": "my.app", "DetailType": "Hello", "Detail": {"n": n}} for n in range(count)]
    answer = json.loads(ask(f"{daemon.url}/v1/targets/orders/events", events, "POST"))
    assert answer["accepted"] == count


@contextlib.contextmanager
def one_set_aside(sandbox: Sandbox, daemon: Daemon, prometheus: Prometheus) -> Iterator[None]:
    """Meanwhile an event waits for a bus that does not exist, about which AWS was asked."""
    event = {"Source": "my.app", "DetailType": "Hello", "Detail": {}, "EventBusName": "nowhere"}
    assert json.loads(ask(f"{daemon.url}/v1/targets/orders/events", event, "POST"))["accepted"] == 1
    missing = 'forwarder_set_aside_events{reason="missing"} == 1'
    until(lambda: prometheus.query(missing) != [], "the event to be set aside", prometheus.log)
    yield
    ask(f"{sandbox.url}/_sandbox/buses/nowhere", method="POST")
    daemon.deliver("orders")


def held(prometheus: Prometheus) -> list[tuple[str, dict[str, str]]]:
    """State and labels of the alert, without the address."""
    return [
        (alert["state"], {k: v for k, v in alert["labels"].items() if k != "instance"})
        for alert in prometheus.alerts()
        if alert["labels"]["alertname"] == HELD["alertname"]
    ]


def test_target_held_fires_and_is_resolved_when_the_target_is_back(
    sandbox: Sandbox, watched: Daemon, prometheus: Prometheus
) -> None:
    send(watched, 10)
    watched.deliver("orders")
    until(lambda: prometheus.query("forwarder_events_delivered_total") != [], "a scrape", prometheus.log)
    assert held(prometheus) == []

    sandbox.order({"fault": "credentials"})
    send(watched, 10)
    until(lambda: ("firing", HELD) in held(prometheus), "the alert to fire", prometheus.log)

    sandbox.mend()
    watched.deliver("orders")
    until(lambda: held(prometheus) == [], "the alert to be resolved", prometheus.log)
    assert prometheus.query('ALERTS{alertname="ForwarderTargetHeld",alertstate="firing"}') == []

    delivered = 'forwarder_events_delivered_total{target="orders"} == 20'
    until(lambda: prometheus.query(delivered) != [], "all to be delivered", prometheus.log)
    difference = prometheus.query("instance_target:forwarder_ledger_difference:events")
    assert [sample["value"][1] for sample in difference] == ["0"]
    firing = {alert["labels"]["alertname"] for alert in prometheus.alerts() if alert["state"] == "firing"}
    assert firing <= {"ForwarderCallsFail"}  # of the last five minutes' calls most were probes that failed
    wrong = [(rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"]
    assert wrong == []
    silent = {
        panel.title
        for panel in panels()
        if panel.queries and not any(prometheus.query(filled_in(each.expression)) for each in panel.queries)
    }
    assert silent <= NOT_HERE
    with one_set_aside(sandbox, watched, prometheus):
        seen = prometheus.names()
    missing = {
        family.name
        for family in FAMILIES
        if not {PREFIX + family.name, f"{PREFIX}{family.name}_count"} & seen
    }
    assert missing <= BEFORE_ANY


def test_victoria_metrics_scrapes_every_family_and_answers_the_dashboard(
    sandbox: Sandbox, watched: Daemon, tmp_path: Path
) -> None:
    sandbox.order({"fault": "throttle", "times": 1})
    send(watched, 10)
    watched.deliver("orders")
    with a_victoria_metrics(tmp_path, watched.admin) as victoria:
        delivered = 'forwarder_events_delivered_total{target="orders"} == 10'
        until(lambda: victoria.query(delivered) != [], "a scrape", victoria.log)
        with one_set_aside(sandbox, watched, victoria):
            seen = victoria.names()
        for panel in panels():
            for query in panel.queries:
                victoria.query(filled_in(query.expression))  # an error is not a success
    missing = {
        family.name
        for family in FAMILIES
        if not {PREFIX + family.name, f"{PREFIX}{family.name}_count"} & seen
    }
    assert missing <= BEFORE_ANY


def test_promtool_finds_every_expression_of_the_dashboard_good(tmp_path: Path) -> None:
    expressions = [filled_in(query.expression) for panel in panels() for query in panel.queries]
    rules = [{"record": f"query:{n}", "expr": expression} for n, expression in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    said = subprocess.run(
        [promtool(), "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(expressions)} rules found" in said.stdout
