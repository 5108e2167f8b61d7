"""What every client does when its target is full: it hears ThrottlingException, waits, and gets through."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import test_aws_cli, test_boto3, test_evidently
from tests.e2e.conftest import PROJECT
from tests.e2e.processes import Daemon, Sandbox, Sdk, a_daemon, ask, surroundings, until

TINY = """\
  {name}:
    kind: {kind}
    region: eu-west-1
    endpoint_url: "{url}"
    queue_limits: {{max_events: 1}}
    hold: {{probe: 200ms, probe_cap: 200ms}}
"""
NO_CREDENTIALS = {"fault": "credentials"}


@dataclass
class Client:
    """A client that puts its event number ``n``, for ``target``; ``route`` is its label in metrics."""

    sdk: Sdk
    api: str
    target: str
    route: str
    params: Callable[[int], dict[str, Any]]


@pytest.fixture
def small(sandbox: Sandbox, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon whose targets have room for one event each."""
    kinds = (("orders", "eventbridge"), ("web", "rum"), ("flags", "evidently"))
    targets = "".join(TINY.format(name=name, kind=kind, url=sandbox.url) for name, kind in kinds)
    with a_daemon(tmp_path, targets) as daemon:
        yield daemon


@pytest.fixture(params=["boto3 put_events", "boto3 put_rum_events", "botocore 1.42.50 put_project_events"])
def client(
    request: pytest.FixtureRequest,
    boto3_put_events: Sdk,
    boto3_put_rum_events: Sdk,
    old_botocore_put_project_events: Sdk,
) -> Client:
    clients = {
        "boto3 put_events": Client(
            boto3_put_events,
            "eventbridge",
            "orders",
            "put_events",
            lambda n: {"Entries": [{**test_boto3.GOOD, "Detail": json.dumps({"n": n})}]},
        ),
        "boto3 put_rum_events": Client(
            boto3_put_rum_events,
            "rum",
            "web",
            "put_rum_events",
            lambda n: {**test_boto3.BATCH, "RumEvents": [test_boto3.rum_event(n)]},
        ),
        "botocore 1.42.50 put_project_events": Client(
            old_botocore_put_project_events,
            "evidently",
            "flags",
            "put_project_events",
            lambda n: {"project": PROJECT, "events": [test_evidently.event(n)]},
        ),
    }
    return clients[request.param]


@contextmanager
def held(sandbox: Sandbox, daemon: Daemon, target: str) -> Iterator[None]:
    """Nothing leaves from the time the first event is in, until the block ends."""
    sandbox.order(NO_CREDENTIALS)
    try:
        yield
    finally:
        sandbox.mend()
        daemon.deliver(target)


def test_an_sdk_is_throttled_with_the_time_to_wait_and_tries_again_until_there_is_room(
    client: Client, sandbox: Sandbox, small: Daemon
) -> None:
    with held(sandbox, small, client.target):
        said = client.sdk(small.url, client.params(1))
        assert said.status == 200
        until(lambda: small.status(client.target)["state"] == "held", "the target to be held", small.log)

        said = client.sdk(small.url, client.params(2), AWS_MAX_ATTEMPTS="1")
        assert (said.status, said.answer, said.retries) == (429, None, 0)
        assert said.error is not None
        assert said.error["Code"] == "ThrottlingException"
        assert client.target in said.error["Message"]
        assert 1 <= int(said.headers["retry-after"]) <= 3
        assert 1000 <= int(said.headers["x-amz-retry-after"]) <= 3000

        before = small.throttled(client.route)
        trying = client.sdk.begin(small.url, client.params(3), AWS_MAX_ATTEMPTS="10")
        until(lambda: small.throttled(client.route) > before, "the client to be throttled", small.log)
    said = client.sdk.end(trying)
    assert (said.status, said.error) == (200, None)
    assert said.retries >= 1
    small.deliver(client.target)
    arrived = [event["entry"] for event in sandbox.arrived(client.api)]
    events = [next(v for v in client.params(n).values() if isinstance(v, list))[0] for n in (1, 3)]
    assert arrived == events


def test_the_cli_is_throttled_and_tries_again_until_there_is_room(
    aws: Path, sandbox: Sandbox, small: Daemon
) -> None:
    command: list[str | Path] = [aws, "events", "put-events", "--entries", json.dumps([test_aws_cli.GOOD])]

    def begin(attempts: int) -> subprocess.Popen[str]:
        environment = surroundings(AWS_ENDPOINT_URL_EVENTBRIDGE=small.url, AWS_MAX_ATTEMPTS=str(attempts))
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with held(sandbox, small, "orders"):
        assert test_aws_cli.put_events(aws, small, [test_aws_cli.GOOD]).returncode == 0
        with begin(1) as process:
            said, error = process.communicate()
        assert (process.returncode, said) == (test_aws_cli.SERVICE_ERROR, "")
        assert "An error occurred (ThrottlingException) when calling the PutEvents operation" in error

        before = small.throttled("put_events")
        trying = begin(10)
        until(lambda: small.throttled("put_events") > before, "the CLI to be throttled", small.log)
    with trying:
        said, error = trying.communicate()
    assert (trying.returncode, error) == (0, "")
    assert json.loads(said)["FailedEntryCount"] == 0
    small.deliver("orders")
    assert len(sandbox.arrived("eventbridge")) == 2


def test_only_the_entries_of_a_full_target_are_throttled(
    sandbox: Sandbox, tmp_path: Path, boto3_put_events: Sdk
) -> None:
    targets = TINY.format(name="orders", kind="eventbridge", url=sandbox.url)
    other = (
        f'  rest: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{sandbox.url}", default: true}}\n'
    )
    good = test_boto3.GOOD
    ask(f"{sandbox.url}/_sandbox/buses/orders", method="POST")
    with a_daemon(tmp_path, f"{targets}    buses: [orders]\n{other}") as daemon:
        sandbox.order(
            {**NO_CREDENTIALS, "name": "orders"}, {**NO_CREDENTIALS, "operation": "DescribeEventBus"}
        )
        for_orders = {**good, "EventBusName": "orders"}
        assert boto3_put_events(daemon.url, {"Entries": [for_orders]}).status == 200
        said = boto3_put_events(daemon.url, {"Entries": [good, for_orders, good]})
        assert said.status == 200
        assert said.answer is not None
        results = said.answer["Entries"]
        assert said.answer["FailedEntryCount"] == 1
        assert [result.get("ErrorCode") for result in results] == [None, "ThrottlingException", None]
        sandbox.mend()
        daemon.deliver("orders")
