"""The CloudEvents SDKs for Go, Java, JavaScript and Python, unmodified, through the daemon into the sandbox.

Invariants:
- What docs/cloudevents.md says of an SDK is read from there, sent by that SDK, and must arrive as it says.
- Where a process costs more than an event, one process sends all of them.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import (
    FRESH,
    PATIENCE,
    Daemon,
    Sandbox,
    a_daemon,
    free_port,
    running,
    surroundings,
    until,
)
from tests.e2e.programs import CLOUDEVENTS
from tests.e2e.test_throttling import TINY, held

PAGE = Path(__file__).parents[2] / "docs" / "cloudevents.md"
EVENTS = 150
ARN = "arn:aws:s3:::bucket:photos"
SEND = "/v1/cloudevents"

CLIENTS = (
    "go binary",
    "go structured",
    "go batch",
    "java binary",
    "java structured",
    "python binary",
    "python structured",
    "python binary 1",
    "python structured 1",
    "javascript binary",
    "javascript structured",
    "javascript batch",
)


@dataclass
class Client:
    """A program with an SDK; every order is a process of its own."""

    language: str
    command: Sequence[str | Path]
    mode: str

    def begin(
        self, url: str, events: Sequence[Mapping[str, Any]], patience: float = 0, pause: float = 0
    ) -> subprocess.Popen[str]:
        order = {"url": url, "mode": self.mode, "events": events, "patience": patience, "pause": pause}
        pipe = subprocess.PIPE
        process = subprocess.Popen(self.command, env=surroundings(), stdin=pipe, stdout=pipe, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        return process

    def end(self, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
        with process:
            assert process.stdout is not None
            said = process.stdout.read()
            assert process.wait(PATIENCE) == 0
        answers: list[dict[str, Any]] = json.loads(said)
        return answers

    def __call__(
        self, url: str, events: Sequence[Mapping[str, Any]], patience: float = 0
    ) -> list[dict[str, Any]]:
        return self.end(self.begin(url, events, patience))


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    language, _, mode = request.param.partition(" ")
    return a_client(language, mode)


ONE_OF_EACH = pytest.mark.parametrize(
    "client", ["go binary", "python binary", "javascript structured", "javascript batch"], indirect=True
)


def a_client(language: str, mode: str) -> Client:
    return Client(language, CLOUDEVENTS[language](), mode)


def event(id: str, **more: Any) -> dict[str, Any]:
    """An order for an event; what is not an attribute is its payload."""
    payload: dict[str, Any] = {name: more.pop(name) for name in ("data", "base64") if name in more}
    needed = {
        "specversion": "1.0",
        "id": id,
        "source": "https://example.com/shop?a=1#b",
        "type": "order.placed",
    }
    return {"attributes": {**needed, "time": "2026-11-21T12:00:00.250000+00:00", **more}, **payload}


JSON = "application/json"
SENT = [
    event("object", data={"order": 1, "tags": ["a", None, 1.5]}, datacontenttype=JSON, subject="orders/1"),
    event("arn", data={"order": 2}, datacontenttype=JSON, subject=ARN, tenant="blue", quotes='a"b%41 c'),
    event("text", data="<much wow='xml'/>", datacontenttype="application/xml"),
    event(
        "bytes", base64=base64.b64encode(bytes(range(256))).decode(), datacontenttype="application/x-bytes"
    ),
]
IN_UTF8 = ("go", "java")
"""Their headers may have any letter."""
NOT_ASCII = event("unicode", data={"é": "😀"}, datacontenttype=JSON, subject="Euro € 😀")


def sent_by(client: Client) -> list[dict[str, Any]]:
    """Events with ids that are this client's alone, since the daemon is shared and takes each event once.

    The SDKs for Go, Java and JavaScript and release 1 of the one for Python leave headers as they are, where
    the binding asks for percent-encoding; what they cannot send so is sent plainer, or not at all.
    """
    encodes = not client.mode.startswith("binary") or (client.language, client.mode) == ("python", "binary")
    sent = [*SENT, NOT_ASCII] if encodes or client.language in IN_UTF8 else SENT
    plainer = {} if encodes else {"quotes": "a b"}
    return [
        {
            **each,
            "attributes": {
                **each["attributes"],
                "id": f"{client.language} {client.mode} {each['attributes']['id']}",
                **{name: value for name, value in plainer.items() if name in each["attributes"]},
            },
        }
        for each in sent
    ]


def payload(detail: Mapping[str, Any], is_text: bool) -> Any:
    """The data; SDKs send texts other than JSON as text or as bytes."""
    if "data_base64" not in detail:
        return detail.get("data")
    data = base64.b64decode(detail["data_base64"])
    return data.decode() if is_text else data


def check_arrived(entry: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    """Field by field: the entry's own, then the event in its Detail."""
    attributes = sent["attributes"]
    moment = datetime.datetime.fromisoformat(attributes["time"])
    assert entry["Source"] == attributes["source"]
    assert entry["DetailType"] == attributes["type"]
    assert entry["Time"] == moment.timestamp()
    assert entry.get("Resources") == ([ARN] if attributes.get("subject") == ARN else None)
    detail = json.loads(entry["Detail"])
    said = {name: value for name, value in detail.items() if not name.startswith("data")}
    said["time"] = datetime.datetime.fromisoformat(said["time"])
    wanted = {**attributes, "time": moment}
    media = wanted.pop("datacontenttype")
    assert said == wanted
    assert detail["datacontenttype"] == media
    is_text = isinstance(sent.get("data"), str)
    assert payload(detail, is_text) == (
        base64.b64decode(sent["base64"]) if "base64" in sent else sent["data"]
    )


def ids(answers: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Our ids of the events; None of one that was refused."""
    found = []
    for answer in answers:
        batch = json.loads(answer["body"])["results"] if answer["body"] else [{}]
        found += [answer["headers"].get("x-forwarder-event-id") or each.get("id") for each in batch]
    return found


def arrived(sandbox: Sandbox) -> dict[str, Any]:
    """The entries by their events' ids; each came once."""
    entries = [line["entry"] for line in sandbox.arrived("eventbridge")]
    by_id = {json.loads(entry["Detail"])["id"]: entry for entry in entries}
    assert len(by_id) == len(entries)
    return by_id


def test_what_an_sdk_sends_arrives_field_by_field(client: Client, sandbox: Sandbox, daemon: Daemon) -> None:
    sent = sent_by(client)
    answers = client(f"{daemon.url}{SEND}/orders", sent)
    assert {answer["status"] for answer in answers} == {202}
    if client.mode == "batch":
        assert json.loads(answers[0]["body"])["accepted"] == len(sent)
    else:
        assert all(answer["body"] == "" for answer in answers)
    daemon.deliver("orders")
    entries = arrived(sandbox)
    assert len(entries) == len(sent)
    for each in sent:
        check_arrived(entries[each["attributes"]["id"]], each)


def test_an_sdk_hears_what_is_wrong_with_one_event_and_the_others_arrive(
    client: Client, sandbox: Sandbox, daemon: Daemon
) -> None:
    name = sent_by(client)[0]["attributes"]["id"]
    events = [event(f"{name} 1"), event(f"{name} 2", type="x" * 129), event(f"{name} 3")]
    answers = client(f"{daemon.url}{SEND}/orders", events)
    if client.mode == "batch":
        (answer,) = answers
        said = json.loads(answer["body"])
        assert (answer["status"], said["accepted"], said["refused"]) == (202, 2, 1)
        refused = said["results"][1]
    else:
        assert [answer["status"] for answer in answers] == [202, 400, 202]
        refused = json.loads(answers[1]["body"])["error"]
    assert refused["code"] == "ValidationException"
    assert refused["message"].startswith("type has 129 characters")
    daemon.deliver("orders")
    assert set(arrived(sandbox)) == {f"{name} 1", f"{name} 3"}


@ONE_OF_EACH
def test_an_sdk_hears_why_nothing_of_its_request_can_be_taken(client: Client, daemon: Daemon) -> None:
    (answer,) = client(f"{daemon.url}{SEND}/nowhere", [event("1")])
    assert answer["status"] == 404
    assert json.loads(answer["body"])["error"]["code"] == "ResourceNotFoundException"
    (answer,) = client(f"{daemon.url}{SEND}/web", [event("1")])
    assert answer["status"] == 404
    assert "of kind rum" in json.loads(answer["body"])["error"]["message"]


MODES = {
    "go": ("binary", "structured", "batch"),
    "java": ("binary", "structured", "binary HttpClient"),
    "javascript": ("binary", "structured", "batch"),
    "python": ("binary", "structured"),
}
each_language = pytest.mark.parametrize("language", MODES)


@each_language
def test_an_event_is_taken_once_however_often_and_in_whichever_form_an_sdk_sends_it(
    language: str, sandbox: Sandbox, daemon: Daemon
) -> None:
    given: list[dict[str, Any]] = [
        {"data": "text", "datacontenttype": "text/plain"},
        {"data": {"a": [1, None]}, "datacontenttype": JSON},
        {"data": {"a": 1}},
        {"base64": base64.b64encode(b'{ "a" : 1 }').decode(), "datacontenttype": JSON},
        {"base64": "AP8=", "datacontenttype": "application/x-bytes"},
        {"tenant": "blue", "number": 5, "yes": True, "no": False},
        *[{"source": source, "subject": ARN} for source in URIS],
    ]
    same = [event(f"{language} {number}", **each) for number, each in enumerate(given)]
    heard = [
        ids(a_client(language, mode)(f"{daemon.url}{SEND}/orders", same * 2)) for mode in MODES[language]
    ]
    assert None not in heard[0]
    assert len(set(heard[0])) == len(same)
    for each in heard:
        assert each == heard[0][: len(same)] * 2
    daemon.deliver("orders")
    assert len(arrived(sandbox)) == len(same)


URIS = (
    "/a%20b",
    "/a%2Fb",
    "/a%2fb/%7E",
    "/%C3%A9?q=%22#x",
    "../x/./y?",
    "//host/p",
    "?q",
    "#f%20",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    "mailto:a%20b@example.com",
    "https://u:p%40w@Example.com:443/shop?a=1&b=%7B%7D#%E2%82%AC",
    "http://[::1]:8/(~)!$&'*+,;=:@",
)
"""Valid references without a raw ``%25``."""


@each_language
def test_a_uri_arrives_as_it_was_set_in_an_sdk(language: str, sandbox: Sandbox, daemon: Daemon) -> None:
    for mode in MODES[language]:
        events = [
            event(f"{language} {mode} {n}", source=uri, **({"dataschema": uri} if ":" in uri[:9] else {}))
            for n, uri in enumerate(URIS)
        ]
        assert None not in ids(a_client(language, mode)(f"{daemon.url}{SEND}/orders", events))
        daemon.deliver("orders")
        entries = arrived(sandbox)
        for each in events:
            entry = entries[each["attributes"]["id"]]
            assert entry["Source"] == each["attributes"]["source"]
            assert json.loads(entry["Detail"]).get("dataschema") == each["attributes"].get("dataschema")
        sandbox.reset()


# --- the table of docs/cloudevents.md

NAMED = {
    "Go": ("go", "binary"),
    "Java": ("java", "binary"),
    "Java's HttpClient": ("java", "binary HttpClient"),
    "JavaScript": ("javascript", "binary"),
    "Python": ("python", "binary"),
}
_ROW = re.compile(r"^\| `(\w+): ([^`]+)`[^|]* \| ([^|]+) \| [^|]+ \| (?:\**`([^`]+)`|refused)", re.MULTILINE)
ROWS = [
    (name, attribute, value, arrives)
    for attribute, value, senders, arrives in _ROW.findall(PAGE.read_text())
    for name in senders.split(", ")
]


def test_the_table_has_a_row_for_each_sdk() -> None:
    assert {name for name, *_ in ROWS} == set(NAMED)
    assert len(ROWS) > 40


@pytest.mark.parametrize("name", NAMED)
def test_what_an_sdk_sends_in_headers_arrives_as_the_table_says(
    name: str, sandbox: Sandbox, daemon: Daemon
) -> None:
    rows = [row[1:] for row in ROWS if row[0] == name]
    events = [
        event(**{"id": f"{name} {number}", "row": f"{name} {number}", attribute: value})
        for number, (attribute, value, _) in enumerate(rows)
    ]
    answers = a_client(*NAMED[name])(f"{daemon.url}{SEND}/orders", events)
    daemon.deliver("orders")
    details = {detail["row"]: detail for detail in map(json.loads, details_of(sandbox))}
    said = [
        (attribute, value, details.get(f"{name} {number}", {}).get(attribute, ""))
        for number, (attribute, value, _) in enumerate(rows)
    ]
    assert said == rows
    refused = [
        json.loads(answer["body"])["error"]["message"] for answer in answers if answer["status"] == 400
    ]
    assert len(refused) == len([arrives for _, _, arrives in rows if not arrives])
    assert all("UTF-8" in message for message in refused)


def details_of(sandbox: Sandbox) -> list[str]:
    return [line["entry"]["Detail"] for line in sandbox.arrived("eventbridge")]


@ONE_OF_EACH
def test_an_sdk_is_throttled_with_the_time_to_wait_and_gets_through_by_it(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    targets = TINY.format(name="orders", kind="eventbridge", url=sandbox.url)
    with a_daemon(tmp_path, targets) as small:
        url = f"{small.url}{SEND}/orders"
        with held(sandbox, small, "orders"):
            assert client(url, [event("1")])[0]["status"] == 202
            until(lambda: small.status("orders")["state"] == "held", "the target to be held", small.log)
            (answer,) = client(url, [event("2")])
            assert answer["status"] == 429
            assert json.loads(answer["body"])["error"]["code"] == "ThrottlingException"
            assert 1 <= int(answer["headers"]["retry-after"]) <= 3
            before = small.throttled("cloudevents")
            trying = client.begin(url, [event("3")], patience=PATIENCE)
            until(lambda: small.throttled("cloudevents") > before, "the client to be throttled", small.log)
        (answer,) = client.end(trying)
        assert answer["status"] == 202
        assert answer["tries"] >= 2
        small.deliver("orders")
    assert set(arrived(sandbox)) == {"1", "3"}


@contextmanager
def daemon_at(address: str, folder: Path, sandbox: Sandbox) -> Iterator[Daemon]:
    """A daemon with a disk queue, at an address that another one may have had."""
    admin = f"127.0.0.1:{free_port()}"
    config = folder / "forwarder.yaml"
    config.write_text(
        f"ingest: {{listen: '{address}'}}\nadmin: {{listen: '{admin}'}}\n"
        f"storage: {{path: '{folder / 'state'}'}}\nshutdown: {{input_grace: 0s, drain_timeout: 5s}}\n"
        f"targets: {{orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: '{sandbox.url}', "
        "queue: disk}}\n"
    )
    command: list[str | Path] = [*FRESH, "run", "-c", config]
    log = folder / "daemon.log"
    with running(command, f"http://{admin}/health/ready", log) as process:
        yield Daemon(f"http://{address}", f"http://{admin}", log, process)


@ONE_OF_EACH
def test_a_restart_in_the_middle_costs_an_sdk_that_tries_again_nothing(
    client: Client, sandbox: Sandbox, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    url, names = f"http://{address}{SEND}/orders", {f"event {n}" for n in range(EVENTS)}
    events = [event(name, data={"n": name}, datacontenttype=JSON) for name in sorted(names)]
    with daemon_at(address, tmp_path, sandbox) as first:
        pause = 0.1 if client.mode == "batch" else 0.01
        sending = client.begin(url, events, patience=PATIENCE, pause=pause)
        until(lambda: first.status("orders")["delivered"] >= EVENTS // 10, "some to be delivered", first.log)
    with daemon_at(address, tmp_path, sandbox) as second:
        answers = client.end(sending)
        assert {answer["status"] for answer in answers} == {202}
        second.deliver("orders")
    came = [json.loads(line["entry"]["Detail"])["id"] for line in sandbox.arrived("eventbridge")]
    assert set(came) == names
    assert any(answer["tries"] > 1 for answer in answers), "nothing was sent while nobody was there"
