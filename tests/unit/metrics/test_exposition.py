"""The exposition as a scraper sees it: read back with prometheus_client's own parser."""

from __future__ import annotations

import asyncio
import math
import re
from functools import partial
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from forwarder.metrics import FAMILIES, CredentialsView, GateView, Metrics, NamesView, TargetMetrics
from forwarder.metrics.families import (
    CALL_OUTCOMES,
    DEATH_REASONS,
    DROP_REASONS,
    FLUSH_REASONS,
    QUESTION_ANSWERS,
    REFUSAL_REASONS,
    RETRY_REASONS,
    SECRET_FILES,
    SET_ASIDE_REASONS,
    VALUES,
)
from forwarder.metrics.senders import MAX_SENDERS
from forwarder.model import QueueView
from forwarder.states import REASONS, Reason, State
from tests.support.clocks import HandClock

RULES = Path(__file__).parents[3] / "deploy" / "prometheus" / "rules.yml"
LOST_BY_ITSELF = {"shutdown", "damaged", "storage"}
"""Reasons for which events are lost; an operator's purge is no reason for an alert."""


EVERY = [(state, reason) for state, reasons in REASONS.items() for reason in reasons]


def queue_view(waiting: int = 0, in_flight: int = 0, oldest_at: float | None = None) -> QueueView:
    return QueueView(waiting, waiting * 10, in_flight, in_flight * 10, 100_000, 1 << 26, oldest_at)


def gate_view(state: State = State.OPEN, reason: Reason | None = None) -> GateView:
    """The state, for its first reason where none is named."""
    return GateView(state, reason or REASONS[state][0], 0.0, "", None, 2, 8, 1.5)


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels; refuses a sample that comes twice."""
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(metrics.expose().decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, key
            samples[key] = sample.value
    return samples


def of(metrics: Metrics, name: str, **labels: str) -> float:
    return scrape(metrics)["forwarder_" + name, tuple(sorted(labels.items()))]


def make_busy() -> tuple[Metrics, HandClock]:
    clock = HandClock(wall_ahead=1_700_000_000.0)
    metrics = Metrics(clock)
    target = metrics.for_target("orders")
    target.add_accepted(20, 6_000)
    target.add_refused("queue_full", 5)
    target.call("partial", 0.2, 10, 3_000, "count")
    target.settled(delivered=8, retried={"entry": 1}, dead={"rejected": 1})
    target.failed("InternalFailure", 1)
    target.attempts(1, 8)
    target.latency(0.3, 8)
    metrics.watch(
        "orders",
        lambda: queue_view(6, 5, clock.now - 2.5),
        lambda: gate_view(State.BACKING_OFF),
        lambda: "fast",
    )
    metrics.watch_dead_letters(lambda: {"orders": (1, 300)})
    reasons, answers = dict.fromkeys(SET_ASIDE_REASONS, 1), dict.fromkeys(QUESTION_ANSWERS, 1)
    metrics.watch_names("orders", lambda: NamesView(reasons, answers, unconfirmed=3, unverified=2))
    metrics.watch_credentials("orders", lambda: CredentialsView(1_700_003_600.0, 2, 1))
    metrics.http.request("native", 202, 0.002)
    metrics.http.repeat("put_events")
    metrics.senders.request("shop")
    metrics.senders.read("tokens", ok=True)
    metrics.senders.certificate_ends = lambda: 1_700_086_400.0
    metrics.process.budget = lambda: (10, 100)
    return metrics, clock


def test_every_family_of_the_table_is_exposed_with_its_type_labels_and_sentence() -> None:
    metrics, _ = make_busy()
    families = {f.name: f for f in text_string_to_metric_families(metrics.expose().decode())}
    for family in FAMILIES:
        exposed = families["forwarder_" + family.name.removesuffix("_total")]
        assert exposed.type == family.type
        assert exposed.documentation == family.help
        for sample in exposed.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample


def test_the_table_keeps_to_the_naming_rules() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.type == "counter"), family.name
        assert family.help.endswith("."), family.name
        assert "id" not in family.labels


def test_a_fresh_daemon_exposes_a_valid_text() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    assert scrape(metrics)["forwarder_draining", ()] == 0


def test_what_the_calls_counted_is_what_the_scraper_reads() -> None:
    metrics, _ = make_busy()
    assert of(metrics, "events_accepted_total", target="orders") == 20
    assert of(metrics, "events_refused_total", target="orders", reason="queue_full") == 5
    assert of(metrics, "events_retried_total", target="orders", reason="entry") == 1
    assert of(metrics, "event_failures_total", target="orders", code="InternalFailure") == 1
    assert of(metrics, "delivery_latency_seconds_count", target="orders") == 8
    assert of(metrics, "calls_total", target="orders", outcome="partial") == 1
    assert of(metrics, "batch_flushes_total", target="orders", reason="count") == 1
    assert of(metrics, "dead_letters_bytes", target="orders") == 300
    assert of(metrics, "http_requests_total", route="native", code="202") == 1
    assert of(metrics, "memory_budget_bytes", kind="used") == 10
    assert of(metrics, "events_unconfirmed_total", target="orders") == 3
    assert of(metrics, "events_unverified_total", target="orders") == 2


def test_depth_and_state_are_asked_at_the_scrape() -> None:
    metrics, clock = make_busy()
    assert of(metrics, "queue_events", target="orders", state="waiting") == 6
    assert of(metrics, "queue_bytes", target="orders", state="in_flight") == 50
    assert of(metrics, "queue_oldest_event_age_seconds", target="orders") == 2.5
    clock.now += 10
    metrics.watch("orders", queue_view, gate_view)
    assert of(metrics, "queue_events", target="orders", state="waiting") == 0
    assert of(metrics, "queue_oldest_event_age_seconds", target="orders") == 0


@pytest.mark.parametrize(("state", "reason"), EVERY)
def test_the_state_and_reason_of_a_target_is_the_only_one_and_1(state: State, reason: Reason) -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.watch("web", queue_view, lambda: gate_view(state, reason))
    found = {
        (dict(labels)["state"], dict(labels)["reason"]): value
        for (name, labels), value in scrape(metrics).items()
        if name == "forwarder_target_state"
    }
    assert found == {(state, reason): 1}


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    metrics, _ = make_busy()
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in scrape(metrics).items()
        if name == "forwarder_delivery_latency_seconds_bucket"
    ]
    values = [value for _, value in sorted(buckets)]
    assert values == sorted(values)
    assert sorted(buckets)[-1] == (math.inf, 8)


def test_events_refused_before_a_target_was_found_have_an_empty_target() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.unbound.add_refused("unknown_target", 4)
    samples = scrape(metrics)
    assert of(metrics, "events_refused_total", target="", reason="unknown_target") == 4
    assert ("forwarder_events_accepted_total", (("target", ""),)) not in samples


def test_the_ledger_balances_when_every_event_has_its_place() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    target = metrics.for_target("orders")
    target.add_accepted(10, 1_000)
    target.recovered, target.replayed = 2, 1
    target.settled(delivered=5, dead={"expired": 1, "rejected": 1}, dropped={"shutdown": 2})
    metrics.watch("orders", lambda: queue_view(3, 1), gate_view)
    assert metrics.ledger("orders") == {
        "accepted": 10,
        "recovered": 2,
        "replayed": 1,
        "delivered": 5,
        "dead_lettered": 2,
        "dropped": 2,
        "in_queue": 4,
        "unconfirmed": 0,
        "balanced": True,
    }


def test_unconfirmed_events_are_no_part_of_the_sum() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    target = metrics.for_target("orders")
    target.add_accepted(5, 500)
    target.settled(delivered=5)
    metrics.watch_names("orders", lambda: NamesView({}, {}, unconfirmed=4))
    assert (metrics.ledger("orders")["unconfirmed"], metrics.ledger("orders")["balanced"]) == (4, True)


def test_the_ledger_says_when_an_event_has_no_place() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.for_target("orders").add_accepted(1, 1)
    assert metrics.ledger("orders")["balanced"] is False


def test_rates_are_over_the_last_ticks() -> None:
    clock = HandClock(wall_ahead=1_700_000_000.0)
    metrics = Metrics(clock)
    target = metrics.for_target("orders")
    assert metrics.rates("orders").received_per_second == 0
    for _ in range(100):
        metrics.tick()
        clock.now += 0.5
        target.add_accepted(50, 1)
        target.settled(delivered=25)
    metrics.tick()
    rates = metrics.rates("orders")
    assert (rates.received_per_second, rates.delivered_per_second) == (100.0, 50.0)


async def test_the_loop_is_measured_until_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.metrics.TICK_SECONDS", 0.001)
    metrics = Metrics()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await metrics.run()
    assert sum(metrics.process.loop_lag.counts) > 0


def test_credentials_that_do_not_end_have_no_end_to_tell() -> None:
    metrics, _ = make_busy()
    assert of(metrics, "credentials_expiry_timestamp_seconds", target="orders") == 1_700_003_600.0
    metrics.watch_credentials("orders", lambda: CredentialsView(None, 1, 0))
    assert not any(name == "forwarder_credentials_expiry_timestamp_seconds" for name, _ in scrape(metrics))
    assert of(metrics, "credentials_refresh_total", target="orders", outcome="ok") == 1


def test_a_sender_more_than_can_be_counted_by_name_is_counted_with_the_others() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    for number in range(MAX_SENDERS + 5):
        metrics.senders.request(f"sender {number}")
    metrics.senders.request("sender 0")
    assert of(metrics, "http_authenticated_requests_total", sender="sender 0") == 2
    assert of(metrics, "http_authenticated_requests_total", sender="other") == 5


def test_a_file_that_is_bad_shows_until_it_is_good_again() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.senders.read("tls", ok=False)
    assert of(metrics, "secret_file_stale", file="tls") == 1
    metrics.senders.read("tls", ok=True)
    assert of(metrics, "secret_file_stale", file="tls") == 0
    assert of(metrics, "secret_file_reads_total", file="tls", outcome="failed") == 1


def count_everything(target: TargetMetrics) -> None:
    """Every label value counts."""
    for outcome in CALL_OUTCOMES:
        target.call(outcome, 0.2, 10, 3_000, "time")
    for flush in FLUSH_REASONS:
        target.call("ok", 0.2, 10, 3_000, flush)
    for reason in REFUSAL_REASONS:
        target.add_refused(reason)
    target.settled(
        delivered=1,
        retried=dict.fromkeys(RETRY_REASONS, 1),
        dead=dict.fromkeys(DEATH_REASONS, 1),
        dropped=dict.fromkeys(DROP_REASONS, 1),
    )


def in_trouble(target: TargetMetrics) -> None:
    """It delivered, was throttled, got errors, and refused events of two reasons."""
    target.add_accepted(20, 6_000)
    for outcome, flush in (("ok", "time"), ("throttled", "count"), ("error", "retry")):
        target.call(outcome, 0.2, 10, 3_000, flush)
    target.settled(delivered=10, retried={"throttled": 10, "unavailable": 10})
    target.attempts(1, 10)
    target.latency(0.3, 10)
    target.failed("ThrottlingException", 10)
    target.add_refused("queue_full", 5)
    target.add_refused("invalid", 5)


@pytest.mark.parametrize("busy", [False, True])
def test_the_metrics_of_200_targets_stay_under_a_megabyte(busy: bool) -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    aside, answers = dict.fromkeys(SET_ASIDE_REASONS, 0), dict.fromkeys(QUESTION_ANSWERS, 0)
    for number in range(200):
        name = f"target-{number:03}"
        if busy:
            in_trouble(metrics.for_target(name))
        metrics.watch(name, lambda: queue_view(6, 5, 1.0), gate_view, lambda: "fast" if busy else "")
        metrics.watch_names(name, lambda: NamesView(aside, answers | {"exists": int(busy)}))
        metrics.watch_credentials(name, lambda: CredentialsView(None, 1, 0))
    assert len(metrics.expose()) < (1_000_000 if busy else 500_000)


def expressions_of_rules() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def test_what_an_alert_takes_a_rate_of_has_a_series_with_0_from_the_start() -> None:
    """Else the first time is missed: a rate begins with the second value of a series."""
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.watch("orders", queue_view, gate_view)
    metrics.watch_credentials("orders", lambda: CredentialsView(None, 0, 0))
    series = {
        (name, dict(labels).get("reason") or dict(labels).get("outcome"))
        for name, labels in scrape(metrics)
        if dict(labels).get("target") == "orders"
    }
    for rule in expressions_of_rules():
        for name, matchers in re.findall(r"(?:rate|increase)\((forwarder_\w+?)(?:\{(.*?)\})?\[", rule):
            values = re.findall(r'(?:reason|outcome)=~?"(.*?)"', matchers)
            wanted = values[0].split("|") if values else []
            missing = [value for value in wanted if (name, value) not in series]
            assert missing == [], name


def test_reasons_for_which_events_are_lost_or_die_by_themselves_begin_with_0() -> None:
    metrics = Metrics(HandClock(wall_ahead=1_700_000_000.0))
    metrics.watch("orders", queue_view, gate_view)
    found = {(name, dict(labels).get("reason")) for name, labels in scrape(metrics)}
    dropped = {reason for name, reason in found if name == "forwarder_events_dropped_total"}
    dead = {reason for name, reason in found if name == "forwarder_events_dead_lettered_total"}
    assert (dropped, dead) == (LOST_BY_ITSELF, {"rejected", "expired"})


def test_the_values_of_a_label_are_those_that_were_told() -> None:
    metrics, _ = make_busy()
    count_everything(metrics.for_target("orders"))
    for number, (state, reason) in enumerate(EVERY):
        view = partial(gate_view, state, reason)
        metrics.watch(f"target {number}", queue_view, view, lambda: "plain")
    for file in SECRET_FILES:
        metrics.senders.read(file, ok=True)
    seen: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(metrics.expose().decode()):
        name = family.name.removeprefix("forwarder_") + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            for label, value in sample.labels.items():
                seen.setdefault((name, label), set()).add(value)
    for (name, label), values in VALUES.items():
        assert seen[name, label] == set(values), (name, label)
