"""Into an EventBridge that we did not write: moto's, with rules that deliver to SQS queues we read back."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.e2e.processes import REGION, Daemon, Sdk, a_daemon, a_moto, a_sandbox, ask

ACCOUNT = "123456789012"
BUSES = ("default", "orders")
TARGET = """\
  orders:
    kind: eventbridge
    region: eu-west-1
    endpoint_url: "{url}"
    retry: {{base: 10ms, cap: 100ms}}
"""
EVENTS = 10_000
LINES = 100
FAULTS = (
    {"fault": "slow", "rate": 0.01, "delay": 0.1},
    {"fault": "throttle", "rate": 0.02, "retry_after": 0.1},
    {"fault": "error", "rate": 0.02},
    {"fault": "reset", "rate": 0.02},
    {"fault": "reset_after", "rate": 0.02},
    {"fault": "wrong_shape", "rate": 0.01},
    {"fault": "wrong_shape", "rate": 0.01, "shape": "object"},
    {"fault": "missing_results", "rate": 0.01},
    {"fault": "entry", "rate": 0.03},
    {"fault": "entry", "rate": 0.01, "code": "ThrottlingException"},
)


@dataclass
class Moto:
    """moto's server. Each bus has a queue of its own, and can have a rule that delivers to it."""

    url: str

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="e2e",
            aws_secret_access_key="e2e",
        )

    def make(self, **pattern: Any) -> None:
        """The buses and the queues, and a rule for the events of this pattern."""
        with closing(self.client("events")) as events, closing(self.client("sqs")) as sqs:
            for bus in BUSES:
                if bus != "default":
                    events.create_event_bus(Name=bus)
                url = sqs.create_queue(QueueName=bus)["QueueUrl"]
                arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
                    "QueueArn"
                ]
                events.put_rule(Name=f"from-{bus}", EventBusName=bus, EventPattern=json.dumps(pattern))
                events.put_targets(Rule=f"from-{bus}", EventBusName=bus, Targets=[{"Id": "1", "Arn": arn}])

    def delivered(self, bus: str) -> list[dict[str, Any]]:
        """Everything in the bus's queue, which is empty after."""
        events: list[dict[str, Any]] = []
        with closing(self.client("sqs")) as sqs:
            url = sqs.get_queue_url(QueueName=bus)["QueueUrl"]
            while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                events += [json.loads(message["Body"]) for message in messages]
                handles = [
                    {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)
                ]
                sqs.delete_message_batch(QueueUrl=url, Entries=handles)
        return events


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[Moto]:
    with a_moto(tmp_path) as url:
        yield Moto(url)


def test_every_field_arrives_as_it_was_sent(moto: Moto, tmp_path: Path, boto3_put_events: Sdk) -> None:
    moto.make(account=[ACCOUNT])
    sent: list[dict[str, Any]] = [
        {
            "Source": f"shop.{n}",
            "DetailType": "Bestellung übergeben ✓",
            "Detail": json.dumps(
                {"n": n, "text": 'ä "€" \\ 𝄞\u2028', "deep": [{"list": [1, 2.5, None, True]}]}
            ),
            "Resources": [f"arn:aws:s3:::bücher/{n}", "arn:aws:s3:::b"][: n % 3],
            "Time": 1767323045 + n,
            "EventBusName": BUSES[n % 2]
            if n % 4
            else f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{BUSES[n % 2]}",
        }
        for n in range(10)
    ]
    began = int(time.time())
    without = {"Source": "shop", "DetailType": "no time, no bus", "Detail": "{}"}
    with a_daemon(tmp_path, TARGET.format(url=moto.url)) as daemon:
        for entries in (sent, [without]):
            said = boto3_put_events(daemon.url, {"Entries": entries})
            assert said.answer is not None
            assert said.answer["FailedEntryCount"] == 0
        daemon.deliver("orders")
    for bus in BUSES:
        delivered = {event["source"]: event for event in moto.delivered(bus)}
        if bus == "default":
            plain = delivered.pop("shop")
            assert (plain["detail-type"], plain["detail"], plain["resources"]) == ("no time, no bus", {}, [])
            assert began <= seconds(plain["time"]) <= time.time()
        expected = [entry for entry in sent if entry["EventBusName"].rpartition("/")[2] == bus]
        assert set(delivered) == {entry["Source"] for entry in expected}
        for entry in expected:
            event = delivered[entry["Source"]]
            assert event["detail-type"] == entry["DetailType"]
            assert event["detail"] == json.loads(entry["Detail"])
            assert event["resources"] == entry["Resources"]
            assert seconds(event["time"]) == entry["Time"]


def test_ten_thousand_events_through_faults_are_neither_lost_nor_doubled(moto: Moto, tmp_path: Path) -> None:
    moto.make(detail={"sample": [True]})
    with (
        a_sandbox(tmp_path, "--upstream", moto.url) as sandbox,
        a_daemon(tmp_path, TARGET.format(url=sandbox.url)) as daemon,
    ):
        sandbox.order(*FAULTS)
        for start in range(0, EVENTS, LINES):
            send(daemon, range(start, start + LINES))
        daemon.deliver("orders", patience=180)
        counts = sandbox.counts("eventbridge")
        arrived = Counter(marker(event["entry"]["Detail"]) for event in sandbox.arrived("eventbridge"))
        dead = daemon.status("orders")["dead_lettered"]
    injected = counts["injected"]
    assert {fault["fault"] for fault in FAULTS} == set(injected), "every fault has struck"
    assert dead == 0
    assert set(arrived) == set(range(EVENTS)), "none is lost"
    # The only calls whose events were taken and whose answer was not heard:
    assert 0 < arrived.total() - EVENTS <= injected["reset_after"]["events"]
    assert counts["duplicates"] == arrived.total() - EVENTS
    in_moto = Counter(event["detail"]["marker"] for event in moto.delivered("default"))
    assert in_moto == {n: copies for n, copies in arrived.items() if is_sample(n)}, (
        "moto had what is recorded"
    )


def send(daemon: Daemon, numbers: range) -> None:
    events = [
        {"Source": "shop", "DetailType": "OrderPlaced", "Detail": {"marker": n, "sample": is_sample(n)}}
        for n in numbers
    ]
    body = "\n".join(map(json.dumps, events)).encode()
    answer = json.loads(
        ask(f"{daemon.url}/v1/targets/orders/events", body, "POST", media="application/x-ndjson")
    )
    assert answer["accepted"] == len(numbers), answer


def is_sample(number: int) -> bool:
    """One in twenty goes on to SQS, at which moto is slow."""
    return number % 20 == 0


def marker(detail: str) -> int:
    return int(json.loads(detail)["marker"])


def seconds(time_text: str) -> float:
    return datetime.fromisoformat(time_text).timestamp()
