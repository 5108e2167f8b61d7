"""The rules in deploy/prometheus: what they name exists, and each alert has its section in the runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from forwarder.metrics.families import PREFIX, VALUES
from forwarder.states import REASONS, State
from tests.support.promql import wrong_names

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^### (Forwarder\w+)\n\n(.*?)(?=^##|\Z)", RUNBOOK, re.DOTALL | re.MULTILINE))
PARTS = ("**What it means.**", "**What to look at.**", "**What to do.**")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_names_only_what_exists(rule: dict[str, Any]) -> None:
    assert wrong_names(rule["expr"], RECORDED) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(forwarder_event_received_total[5m]) > 0", "no metric forwarder_event_received_total"),
        ("forwarder_batch_events > 0", "no metric forwarder_batch_events"),
        ("typo_metric offset 5m", "no metric typo_metric"),
        ('forwarder_target_state{status="held"} == 1', "forwarder_target_state has no label status"),
        ('forwarder_target_state{state="hold"} == 1', "forwarder_target_state has no state hold"),
        ('forwarder_target_state{state=~"open|hold"}', "forwarder_target_state has no state hold"),
        ("sum by (targt) (forwarder_queue_events)", "nothing has a label targt"),
        ("level:some:rule > 1", "no metric level:some:rule"),
    ],
)
def test_a_name_that_does_not_exist_is_found(expression: str, wrong: str) -> None:
    assert wrong_names(expression) == [wrong]


def test_names_that_exist_are_not_found_wrong() -> None:
    expression = (
        "histogram_quantile(0.99, sum by (le, job) (rate("
        'forwarder_send_duration_seconds_bucket{target=~"$a",le="1"}'
        "[5m] offset 1d))) > bool 2 and on (instance) up or level:some:rule unless vector(1)"
    )
    assert wrong_names(expression, ["level:some:rule"]) == []


def test_each_alert_has_a_section_and_each_section_an_alert() -> None:
    assert SECTIONS.keys() == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_its_section_which_says_what_to_do(alert: str) -> None:
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    assert ALERTS[alert]["labels"]["severity"] in ("critical", "warning", "info")
    assert ALERTS[alert]["annotations"]["summary"]
    places = [SECTIONS[alert].find(part) for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("alert", ALERTS)
def test_the_section_of_an_alert_has_every_reason_for_which_it_fires(alert: str) -> None:
    expression = ALERTS[alert]["expr"].partition("unless")[0]
    for name, matchers in re.findall(r"(?<![\w:])(forwarder_\w+)(?:\{([^}]*)\})?", expression):
        is_held = 'state="held"' in matchers
        known = REASONS[State.HELD] if is_held else VALUES.get((name.removeprefix(PREFIX), "reason"), ())
        reasons = {str(each) for each in known}
        for operator, pattern in re.findall(r'reason(!?=~?)"([^"]*)"', matchers):
            reasons = {each for each in reasons if bool(re.fullmatch(pattern, each)) is (operator[0] == "=")}
        if len(reasons) > 1:
            assert {each for each in reasons if f"`{each}`" not in SECTIONS[alert]} == set()


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_metrics_labels_and_values_that_exist(page: Path) -> None:
    told = set(re.findall(r"\bforwarder_[a-z_]+(?![a-z_]*:)(?:\{[^}]*\})?", page.read_text()))
    wrong = {
        name: wrong_names(name) for name in told if wrong_names(re.sub(r"(?={|$)", "_count", name, count=1))
    }
    assert {name: each for name, each in wrong.items() if each} == {}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tried_with_series_that_fire_it_and_series_that_do_not(alert: str) -> None:
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert any(case.get("exp_alerts") for case in cases)
    assert any(not case.get("exp_alerts") for case in cases)
