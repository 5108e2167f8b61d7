"""Settings of one of several kinds: a word, or a mapping with the options of the kind."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.config import ConfigError, parse, redacted
from forwarder.queues.disk import DiskOptions
from forwarder.queues.memory import MemoryOptions
from forwarder.targets import option_types

BEFORE = """
# As files were before `queue` could be a mapping.
storage: {path: /var/lib/forwarder, max_bytes: 3GiB}
targets:
  orders:
    kind: eventbridge
    region: eu-west-1
    default: true
    queue: disk
    queue_limits: {max_events: 50000, max_bytes: 2GiB}
  web:
    kind: rum
    region: eu-west-1
    app_monitors: [00000000-0000-4000-8000-0000000000aa]
    queue: memory
  features: {kind: evidently, region: eu-west-1, endpoint_url: "https://example.com"}
"""

WRONG = """
targets:
  orders:
    kind: eventbridge
    region: eu-west-1
    queue:
      QUEUE
"""


def read(text: str, **environment: str) -> Any:
    return parse(text, option_types(), environment)


def queue_of(queue: str, **environment: str) -> Any:
    text = f"targets: {{orders: {{kind: eventbridge, region: eu-west-1, queue: {queue}}}}}"
    return read(text, **environment).targets["orders"].queue


def test_a_file_from_before_kinds_had_options_means_what_it_meant() -> None:
    config = read(BEFORE)
    queues = {name: (each.queue, each.queue_bytes) for name, each in config.targets.items()}
    assert queues == {
        "orders": (DiskOptions(), 2 << 30),
        "web": (MemoryOptions(), 64 << 20),
        "features": (MemoryOptions(), 64 << 20),
    }
    assert config.targets["orders"].queue_limits.max_events == 50_000
    assert [each["queue"] for each in redacted(config)["targets"].values()] == ["disk", "memory", "memory"]
    new = BEFORE.replace("queue: disk", "queue: {kind: disk}").replace(
        "queue: memory", "queue: {kind: memory}"
    )
    assert read(new) == config


@pytest.mark.parametrize("queue", ["disk", "{kind: disk}", "'${Q}'", "'${NONE:-disk}'", "{kind: '${Q}'}"])
def test_a_word_a_mapping_and_a_variable_mean_the_same(queue: str) -> None:
    assert queue_of(queue, Q="disk") == DiskOptions()


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ("Disk", ['queue: must be "memory" or "disk", got "Disk". Did you mean "disk"?']),
        ("drive", ['queue: must be "memory" or "disk", got "drive"']),
        ("5", ['queue: must be "memory" or "disk", got 5']),
        ("null", ['queue: must be "memory" or "disk", got null']),
        ("[disk]", ['queue: must be "memory" or "disk", got a list']),
        ("kind: dsik", ['queue.kind: must be "memory" or "disk", got "dsik". Did you mean "disk"?']),
        ("kind: [disk]", ['queue.kind: must be "memory" or "disk", got a list']),
        ("{}", ['queue.kind: is required: "memory" or "disk"']),
        (
            "{knid: disk}",
            ['queue.kind: is required: "memory" or "disk"', 'queue.knid: unknown key. Did you mean "kind"?'],
        ),
        ("{kind: disk, max_bytes: 1GiB}", ["queue.max_bytes: unknown key; known: kind"]),
        (
            "kind: ${NONE}",
            ["queue.kind: environment variable NONE is not set; set it, or write ${NONE:-default}"],
        ),
        ("${NONE}", ["queue: environment variable NONE is not set; set it, or write ${NONE:-default}"]),
    ],
)
def test_a_wrong_kind_is_named_with_its_path_value_and_what_is_allowed(
    given: str, problems: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        read(WRONG.replace("QUEUE", given))
    assert sorted(map(str, error.value.problems)) == [f"targets.orders.{each}" for each in problems]
    assert {each.line for each in error.value.problems} <= {6, 7}


def test_a_wrong_kind_of_target_that_is_no_word_is_refused_too() -> None:
    with pytest.raises(ConfigError) as error:
        read("targets: {orders: {kind: [eventbridge]}}")
    assert str(error.value.problems[0]).endswith('"eventbridge", "rum" or "evidently", got a list')


def test_a_wrong_queue_hides_no_other_problem_and_nothing_that_depends_on_it_is_judged() -> None:
    text = WRONG.replace("QUEUE", "kind: dsik") + "    workers: 0\ningest: {memory_budget: 1MiB}\n"
    with pytest.raises(ConfigError) as error:
        read(text)
    assert [each.path for each in error.value.problems] == [
        "targets.orders.queue.kind",
        "targets.orders.workers",
    ]
