"""Sends marked events into a running forwarder, as a program of its own: stock botocore and plain HTTP.

Prints one JSON object: the markers it sent and the markers that were accepted.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import botocore.session
from botocore.config import Config

MONITOR = "00000000-0000-4000-8000-0000000000aa"
MAX_TRIES = 50


class Sender:
    """Marks every event, sends it, and remembers which markers were promised."""

    def __init__(self, ingest: str) -> None:
        self._ingest = ingest
        self.sent: list[str] = []
        self.accepted: list[str] = []
        session = botocore.session.get_session()
        common = {
            "region_name": "eu-west-1",
            "endpoint_url": ingest,
            "aws_access_key_id": "demo",
            "aws_secret_access_key": "demo",
            "config": Config(
                inject_host_prefix=False, retries={"mode": "standard", "total_max_attempts": 10}
            ),
        }
        self._events = session.create_client("events", **common)
        self._rum = session.create_client("rum", **common)

    def mark(self) -> str:
        marker = str(uuid.uuid4())
        self.sent.append(marker)
        return marker

    def put_events(self, count: int) -> None:
        """PutEvents by botocore, ten entries a call; throttled entries are sent again, as its user would."""
        waiting = [self.mark() for _ in range(count)]
        for _ in range(MAX_TRIES):
            if not waiting:
                return
            now, waiting = waiting[:10], waiting[10:]
            entries = [self._entry(marker) for marker in now]
            answer = self._events.put_events(Entries=entries)
            for marker, result in zip(now, answer["Entries"], strict=True):
                (self.accepted if "EventId" in result else waiting).append(marker)

    @staticmethod
    def _entry(marker: str) -> dict[str, Any]:
        detail = json.dumps({"marker": marker, "amount": 12.5, "customer": "c-4711"})
        return {"Source": "demo.shop", "DetailType": "OrderPlaced", "Detail": detail}

    def put_rum_events(self, batches: int, size: int) -> None:
        """PutRumEvents by botocore, one session a call."""
        for _ in range(batches):
            markers = [self.mark() for _ in range(size)]
            self._rum.put_rum_events(
                Id=MONITOR,
                BatchId=str(uuid.uuid4()),
                AppMonitorDetails={"id": MONITOR, "version": "1.0.0"},
                UserDetails={"userId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4())},
                RumEvents=[self._rum_event(marker) for marker in markers],
            )
            self.accepted += markers

    @staticmethod
    def _rum_event(marker: str) -> dict[str, Any]:
        details = json.dumps({"marker": marker, "n": 1})
        return {"id": str(uuid.uuid4()), "timestamp": time.time(), "type": "demo_event", "details": details}

    def post(self, target: str, events: list[dict[str, Any]], markers: list[str]) -> None:
        """A JSON array to the native endpoint; a full queue is waited for, as its Retry-After says."""
        url = f"{self._ingest}/v1/targets/{target}/events"
        request = urllib.request.Request(
            url, json.dumps(events).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        for _ in range(MAX_TRIES):
            try:
                with urllib.request.urlopen(request) as answer:
                    results = json.load(answer)["results"]
                self.accepted += [m for m, r in zip(markers, results, strict=True) if "id" in r]
                return
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise
                time.sleep(float(error.headers.get("Retry-After", "1")))

    def post_orders(self, count: int) -> None:
        markers = [self.mark() for _ in range(count)]
        events = [
            {"Source": "demo.shop", "DetailType": "OrderPaid", "Detail": {"marker": marker}}
            for marker in markers
        ]
        self.post("orders", events, markers)

    def post_features(self, count: int) -> None:
        markers = [self.mark() for _ in range(count)]
        events = [
            {
                "type": "aws.evidently.custom",
                "timestamp": time.time(),
                "data": {"details": {"marker": marker}},
            }
            for marker in markers
        ]
        self.post("features", events, markers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ingest", required=True)
    sender = Sender(parser.parse_args().ingest)
    for _ in range(10):
        sender.put_events(60)
        sender.post_orders(40)
        sender.put_rum_events(batches=8, size=5)
        sender.post_features(50)
    print(json.dumps({"sent": sender.sent, "accepted": sender.accepted}))


if __name__ == "__main__":
    main()
