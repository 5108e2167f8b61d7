"""Sends events with the CloudEvents SDK for Python, as a program does: its order on stdin, answers on stdout.

The order: ``url``, ``mode`` (binary, structured; ``1`` behind it: by the interface of the SDK's release 1),
``events`` (each with ``attributes``, and ``data`` or ``base64``), ``patience``: for so many seconds an event
that was not taken, or met nobody, is sent again; ``pause``, seconds between events; ``headers``: more.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as to_binary_1
from cloudevents.v1.conversion import to_structured as to_structured_1
from cloudevents.v1.http import CloudEvent as CloudEvent1

Message = tuple[dict[str, str], bytes]
AGAIN = (429, 503)


def made(event: dict[str, Any]) -> CloudEvent:
    attributes = dict(event["attributes"])
    if "time" in attributes:
        attributes["time"] = datetime.datetime.fromisoformat(attributes["time"])
    return CloudEvent(attributes, data_of(event))


def data_of(event: dict[str, Any]) -> Any:
    return base64.b64decode(event["base64"]) if "base64" in event else event.get("data")


def as_it_is(data: Any) -> Any:
    return data if isinstance(data, str | bytes) else json.dumps(data)


def by_2(convert: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Message]:
    def message(event: dict[str, Any]) -> Message:
        said = convert(made(event))
        return said.headers, said.body

    return message


def by_1(convert: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Message]:
    def message(event: dict[str, Any]) -> Message:
        headers, body = convert(CloudEvent1(event["attributes"], data_of(event)))
        return headers, body.encode() if isinstance(body, str) else body

    return message


MODES = {
    "binary": by_2(to_binary_event),
    "structured": by_2(to_structured_event),
    "binary 1": by_1(lambda event: to_binary_1(event, as_it_is)),  # by itself it quotes text
    "structured 1": by_1(to_structured_1),
}


def post(url: str, message: Message) -> dict[str, Any]:
    place = urlsplit(url)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    try:
        connection.request("POST", place.path, message[1], message[0])
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return {"status": answer.status, "headers": headers, "body": answer.read().decode()}
    except OSError as problem:
        return {"status": 0, "headers": {}, "body": str(problem)}
    finally:
        connection.close()


def send(order: dict[str, Any], message: Message) -> dict[str, Any]:
    ends = time.monotonic() + order["patience"]
    tries = 1
    while (answer := post(order["url"], message))["status"] in (0, *AGAIN) and time.monotonic() < ends:
        time.sleep(float(answer["headers"].get("retry-after", 0.1)))
        tries += 1
    return {**answer, "tries": tries}


def main() -> None:
    order = json.load(sys.stdin)
    answers = []
    for event in order["events"]:
        headers, body = MODES[order["mode"]](event)
        answers.append(send(order, ({**headers, **order.get("headers", {})}, body)))
        time.sleep(order["pause"])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
