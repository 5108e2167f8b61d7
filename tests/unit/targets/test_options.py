"""What targets can be told, read from a configuration."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.config import ConfigError, parse
from forwarder.targets import option_types
from forwarder.targets.options import TargetOptions

URL = "http://127.0.0.1:2790"


def read(options: str) -> TargetOptions:
    target = parse(f"targets:\n  t: {{{options}}}\n", option_types()).targets["t"]
    assert isinstance(target, TargetOptions)
    return target


@pytest.mark.parametrize(
    ("kind", "max_wait", "max_age", "pace", "max_events"),
    [
        ("eventbridge", 0.1, 86400, None, 10),
        ("rum", 1.0, 6 * 3600, 50, 100),
        ("evidently", 0.1, 3600, None, 50),
    ],
)
def test_defaults(kind: str, max_wait: float, max_age: float, pace: float | None, max_events: int) -> None:
    options: Any = read(f"kind: {kind}, endpoint_url: {URL}")
    assert options.kind == kind
    assert (options.workers, options.min_workers, options.max_calls_per_second) == (32, 1, pace)
    assert (options.batch.max_wait, options.batch.max_events) == (max_wait, max_events)
    assert (options.retry.base, options.retry.cap, options.retry.max_age) == (0.2, 30, max_age)
    assert options.retry.max_attempts is None
    assert (options.hold.probe, options.hold.probe_cap) == (30, 300)
    assert (options.timeouts.connect, options.timeouts.read) == (3, 15)
    assert (options.queue.kind, options.queue_limits.max_events, options.queue_bytes) == (
        "memory",
        100_000,
        64 << 20,
    )


@pytest.mark.parametrize(
    ("text", "size"), [("queue: disk", 1 << 30), ("queue: disk, queue_limits: {max_bytes: 5MiB}", 5 << 20)]
)
def test_a_queue_on_disk_holds_more_unless_it_is_told(text: str, size: int) -> None:
    assert read(f"kind: eventbridge, {text}").queue_bytes == size


def test_what_a_group_does_not_say_keeps_the_default_of_the_kind() -> None:
    options: Any = read("kind: rum, retry: {cap: 5s}, batch: {max_events: 20}")
    assert (options.retry.cap, options.retry.max_age) == (5, 6 * 3600)
    assert (options.batch.max_events, options.batch.max_wait) == (20, 1.0)


def test_a_role_is_a_group() -> None:
    role = read("kind: eventbridge, role: {arn: 'arn:aws:iam::123456789012:role/r', external_id: x}").role
    assert role is not None
    assert (role.arn, role.external_id, role.session_name) == (
        "arn:aws:iam::123456789012:role/r",
        "x",
        "event-forwarder",
    )


ZERO = "must be greater than 0, got 0"


@pytest.mark.parametrize(
    ("options", "place", "what"),
    [
        ("kind: evidently", "targets.t.endpoint_url", "AWS ended Evidently on 2025-10-16"),
        ("kind: eventbridge, batch: {max_events: 11}", "targets.t.batch.max_events", "at most 10"),
        ("kind: eventbridge, batch: {max_events: 0}", "targets.t.batch.max_events", "at least 1"),
        ("kind: eventbridge, batch: {max_bytes: 0}", "targets.t.batch.max_bytes", ZERO),
        (f"kind: evidently, endpoint_url: {URL}, batch: {{max_events: 51}}", "targets.t.batch", "at most 50"),
        ("kind: rum, workers: 0", "targets.t.workers", "must be at least 1, got 0"),
        (
            "kind: rum, workers: 3, min_workers: 4",
            "targets.t.min_workers",
            "must be at most workers, which is 3, got 4",
        ),
        ("kind: rum, max_calls_per_second: 0", "targets.t.max_calls_per_second", ZERO),
        ("kind: rum, timeouts: {read: 0}", "targets.t.timeouts.read", f"{ZERO}s"),
        ("kind: rum, retry: {max_age: 0}", "targets.t.retry.max_age", f"{ZERO}s"),
        ("kind: rum, hold: {probe: 0}", "targets.t.hold.probe", f"{ZERO}s"),
        ("kind: rum, retry: {base: 1m}", "targets.t.retry.base", "must be at most cap, which is 30s, got 1m"),
        (
            "kind: rum, hold: {probe: 1h}",
            "targets.t.hold.probe",
            "must be at most probe_cap, which is 5m, got 1h",
        ),
        (
            "kind: rum, app_monitors: [shop]",
            "targets.t.app_monitors[0]",
            'must be the id of an app monitor (a UUID), and not its name, got "shop"',
        ),
        ("kind: rum, role: {arn: admin}", "targets.t.role.arn", "arn:aws:iam::123456789012:role/name"),
        ("kind: eventbridge, verify_interval: 0", "targets.t.verify_interval", f"{ZERO}s"),
        ("kind: eventbridge, queue: paper", "targets.t.queue", "disk"),
        ("kind: eventbridge, role: {}", "targets.t.role.arn", "required"),
        ("kind: eventbridge, endpoint_url: 127.0.0.1", "targets.t.endpoint_url", 'got "127.0.0.1"'),
        ("kind: eventbridge, endpoint_url: 'http://'", "targets.t.endpoint_url", "complete"),
        ("kind: eventbridge, endpoint_url: 'http://a b'", "targets.t.endpoint_url", "complete"),
        ("kind: eventbridge, endpoint_url: 'http://a:99999'", "targets.t.endpoint_url", "port"),
        ("kind: eventbridge, endpoint_url: 'http://a/?k=SECRET'", "targets.t.endpoint_url", "a/?***"),
        ("kind: eventbridge, endpoint_url: 'http://a/?'", "targets.t.endpoint_url", "without a query"),
        ("kind: eventbridge, endpoint_url: 'http://a/#x'", "targets.t.endpoint_url", "without a fragment"),
        (f"kind: eventbridge, endpoint_url: {URL}, use_fips: true", "targets.t.use_fips", "endpoint_url"),
        ("kind: eventbridge, buses: ['']", "targets.t.buses[0]", "event bus"),
        ("kind: eventbridge, buses: [a, 'b c']", "targets.t.buses[1]", "event bus"),
        (
            "kind: eventbridge, buses: ['arn:aws:events:eu-west-1:123:event-bus/x']",
            "targets.t.buses[0]",
            "123456789012:event-bus/orders",
        ),
        (
            f"kind: evidently, endpoint_url: {URL}, projects: ['arn:aws:evidently:x:y:project/p']",
            "targets.t.projects[0]",
            "123456789012:project/shop",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(options: str, place: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(options)
    (problem,) = caught.value.problems
    assert str(problem).startswith(place)
    assert what in str(problem)
