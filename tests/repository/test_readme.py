"""The README and its guides are true: blocks run, tables match the code, bad inputs get those answers.

Invariants:
- Every ``sh`` and ``python`` block runs, in order, in one shell; ``yaml`` blocks are configurations; a
  ``json`` block is the answer of the ``sh`` block before it. ``console`` blocks need what a test has not.
- The guides use the daemon and the sandbox that the README starts, so their blocks run before it stops them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import html
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from forwarder import cli, exit_codes
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.config import ConfigError, json_schema, parse
from forwarder.metrics import FAMILIES
from forwarder.metrics.families import PREFIX
from forwarder.sandbox.faults import FaultKind
from forwarder.sandbox.markers import Word
from forwarder.targets import TARGETS, option_types
from tests.support.ingest import MONITOR, Answer, Ingest, Routes, request, serving

ROOT = Path(__file__).parents[2]
ARRIVED, STOP = "### What arrived\n", "### Stop\n"
"""Guides run before these headings of the README: what they send arrives, and nothing runs after the stop."""


def in_the_order_of_a_reader() -> str:
    """The README and the guides whose blocks are run or parsed, as one text."""
    readme = (ROOT / "README.md").read_text()
    begin, arrived, stop = re.split(f"^{ARRIVED}|^{STOP}", readme, flags=re.MULTILINE)
    sending = [guide(name) for name in ("browsers", "cloudevents")]
    running = [guide(name) for name in ("guarantees", "operation", "commands", "sandbox")]
    others = [guide(name) for name in ("authentication", "deployment", "errors", "development")]
    return "\n".join((begin, *sending, arrived, *running, *others, stop))


def guide(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


TEXT = in_the_order_of_a_reader()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
NEEDS_MORE = ("make ", ". .venv/", "docker ", "systemctl ")
"""What begins a line of a ``console`` block."""

_BARS = re.compile(r"(?<!\\)\|")
SETTLED = (
    "sleep 1.1; until curl -s http://127.0.0.1:2781/status | grep -q '\"only_in_memory\":0,'; "
    "do sleep 0.05; done"
)
"""What runs in place of a ``sleep``, so that a busy machine changes nothing."""

PORTS = ("2780", "2781", "2790")
SECONDS = 60.0


def rows(heading: str, text: str = TEXT) -> list[list[str]]:
    """The cells of all tables whose first line begins with this."""
    tables = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert tables, heading
    lines = "".join(tables).splitlines()
    return [
        [html.unescape(cell.strip()).replace("\\|", "|") for cell in _BARS.split(line)[1:-1]]
        for line in lines
    ]


def plain(cell: str) -> str:
    return cell.strip("`")


# --- blocks


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "yaml", "json", "console", "text"}
    for kind, text in BLOCKS:
        commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
        assert kind == "console" or not commands
        assert all(command.startswith(NEEDS_MORE) for command in commands)


def test_every_configuration_is_good() -> None:
    for text in (text for kind, text in BLOCKS if kind == "yaml"):
        parse(text, option_types(), {})


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "config").glob("*.yaml")))
def test_every_file_in_config_is_good(name: str) -> None:
    config = parse((ROOT / "config" / name).read_text(), option_types(), {})
    for target, options in config.targets.items():
        TARGETS[options.kind].build(target, options)


def test_the_shown_configurations_are_those_in_config() -> None:
    shown = [text for kind, text in BLOCKS if kind == "yaml"]
    for name in ("minimal.yaml", "sidecar.yaml"):
        lines = (ROOT / "config" / name).read_text().splitlines(keepends=True)
        assert "".join(line for line in lines if not line.startswith("#")) in shown


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def script(folder: Path, ports: Mapping[str, int]) -> str:
    """All of it as one shell script; the output of block N goes to ``N.out``."""
    parts = ["set -euo pipefail"]
    for number, (kind, text) in enumerate(BLOCKS):
        text = re.sub(r"^sleep \d+$", SETTLED, text, flags=re.MULTILINE)
        for port, other in ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{other}")
        if kind == "sh":
            parts.append(f"{{\n{text}}} > {number}.out 2> {number}.err")
        elif kind == "python":
            (folder / f"{number}.py").write_text(text)
            parts.append(f"python {number}.py > {number}.out 2> {number}.err")
        elif kind == "yaml" and (name := re.match(r"# (\S+\.yaml)\n", text)):
            listeners = f"ingest: {{listen: 127.0.0.1:{ports['2780']}}}\n"
            listeners += f"admin: {{listen: 127.0.0.1:{ports['2781']}}}\n"
            (folder / name[1]).write_text(text + listeners)
    return "\n".join(parts)


def command(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """An environment in which ``forwarder`` is this tree's, with other ports as its own."""
    urls = f"ingest='http://127.0.0.1:{ports['2780']}', admin='http://127.0.0.1:{ports['2781']}'"
    code = (
        f"import forwarder.cli as c; c.place.PORTS.update({urls}); "
        f"c.sandbox.SANDBOX = '127.0.0.1:{ports['2790']}'; c.sys.exit(c.main())"
    )
    shims = folder / "bin"
    shims.mkdir()
    for name, arguments in (("forwarder", f'-c "{code}"'), ("python", "")):
        shim = shims / name
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        shim.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return {**kept, "PATH": f"{shims}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def without_ids(text: str) -> Any:
    return json.loads(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "an id", text))


async def test_every_command_runs_and_answers_as_shown(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(3), strict=True))
    environment = command(tmp_path, ports)
    text = script(tmp_path, ports)
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", text),
        cwd=tmp_path,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(SECONDS):
            code = await shell.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)  # whatever the script left behind
        await shell.wait()
    said = {int(path.stem): path.read_text() for path in tmp_path.glob("*.out")}
    errors = "".join(path.read_text() for path in sorted(tmp_path.glob("*.err")))
    assert code == 0, errors
    compare_answers(said)
    check_what_arrived(said, tmp_path)
    assert '"message":"stopped, nothing lost"' in errors


def compare_answers(said: Mapping[int, str]) -> None:
    shown = [(i, text) for i, (kind, text) in enumerate(BLOCKS) if kind == "json"]
    assert shown
    for i, text in shown:
        assert without_ids(said[i - 1]) == without_ids(text)


def order_of(detail: Any) -> int:
    """The order's number; a CloudEvent has it in its data."""
    return int(detail.get("data", detail)["order"])


def check_what_arrived(said: Mapping[int, str], folder: Path) -> None:
    (number,) = (i for i, (kind, text) in enumerate(BLOCKS) if kind == "sh" and "/_sandbox/events" in text)
    lines = said[number].splitlines()
    arrived = [json.loads(line) for line in lines if line.startswith("{")]
    orders = sorted(order_of(json.loads(e["entry"]["Detail"])) for e in arrived if e["api"] == "eventbridge")
    assert orders == [1, 2, 2, 4, 4, 5, 5, 7, 8]  # the file went twice: by curl, and by send
    assert sorted(e["api"] for e in arrived if e["api"] != "eventbridge") == ["evidently", "rum"]
    assert "would be lost if killed now: 0 events" in lines
    (letter,) = (folder / "letters.ndjson").read_text().splitlines()
    assert json.loads(letter)["code"] == "InvalidArgument"


# --- tables


def defaults(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting of a schema with its default as the reference has it; ``none`` for none."""
    for name, form in schema["properties"].items():
        if "properties" in form:
            yield from defaults(form, f"{prefix}{name}.")
        else:
            default = form.get("default")
            text = default if isinstance(default, str) else json.dumps(default)
            yield prefix + name, "none" if default in (None, []) else text.removesuffix(".0")


def shown(cell: str) -> str:
    """A default of the reference: a setting that only its own group requires has none."""
    return "none" if cell.startswith("required with") else plain(cell)


SCHEMA = json_schema(option_types())
OF_DAEMON, OF_TARGETS = guide("configuration").split("\n## `targets`\n")


def test_the_settings_of_the_daemon_have_these_defaults() -> None:
    real = dict(defaults({"properties": {k: v for k, v in SCHEMA["properties"].items() if k != "targets"}}))
    assert {plain(row[0]): shown(row[2]) for row in rows("setting", OF_DAEMON)} == real


def test_the_settings_of_targets_have_these_defaults() -> None:
    forms = SCHEMA["properties"]["targets"]["additionalProperties"]["oneOf"]
    real = {form["properties"].pop("kind")["const"]: dict(defaults(form)) for form in forms}
    for number, kind in enumerate(("eventbridge", "rum", "evidently"), 2):
        told = {plain(row[0]): shown(row[number]) for row in rows("setting", OF_TARGETS) if row[number]}
        assert told == real[kind], kind


def test_an_evidently_target_needs_an_endpoint() -> None:
    with pytest.raises(ConfigError, match="endpoint_url"):
        parse("targets: {a: {kind: evidently}}", option_types(), {})


def test_the_exit_codes_are_those_of_the_code() -> None:
    real = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}
    assert {int(row[0]) for row in rows("exit code")} == real


def test_the_commands_exist() -> None:
    told = [plain(row[0]) for row in rows("command")]
    assert {command.split()[0] for command in told} == {"forwarder", "make"}
    for command in (command for command in told if command.startswith("forwarder ")):
        words = re.sub(r"\[.*?\]|[A-Z]{2,}|-c", "", command).split()[1:]
        with pytest.raises(SystemExit) as stopped:
            cli.main(words if words == ["--version"] else [*words, "--help"])
        assert stopped.value.code == 0
    targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {command.split()[1] for command in told if command.startswith("make ")} <= set(targets)


def test_the_core_metrics_are_those_of_the_table_and_no_other_name_is_told() -> None:
    core = rows("metric", guide("metrics").split("\n## Further\n")[0])
    told = [(plain(name), re.findall(r"(?:^|; )(\w+)", labels), text) for name, _, labels, text in core]
    assert told == [(PREFIX + f.name, list(f.labels), f.help) for f in FAMILIES if f.core]
    names = set(re.findall(r"\bforwarder_[a-z_]+", TEXT + guide("performance") + guide("scaling"))) - {
        "forwarder_"
    }
    assert names <= {PREFIX + family.name for family in FAMILIES}


def test_the_faults_and_markers_of_the_sandbox_are_told() -> None:
    assert {plain(row[0]) for row in rows("fault")} == set(get_args(FaultKind))
    assert {plain(row[0]) for row in rows("marker")} == set(get_args(Word))


# --- bad input

NATIVE = "/v1/targets/orders/events"
AWS = {"X-Amz-Target": "AWSEvents.PutEvents"}
EVENT = {"Source": "my.app", "DetailType": "Hello", "Detail": {"n": 1}}
ENTRY = {"Source": "my.app", "DetailType": "Hello", "Detail": "{}"}
LINES = {"Content-Type": "application/x-ndjson"}
RUM_EVENT = {"type": "page_view", "details": {"page": "/"}}
RUM_ENTRY: dict[str, Any] = {"id": MONITOR, "timestamp": 1, "type": "page_view", "details": "{}"}
RUM: dict[str, Any] = {
    "BatchId": MONITOR,
    "AppMonitorDetails": {},
    "UserDetails": {},
    "RumEvents": [RUM_ENTRY],
}
CUSTOM = {"type": "aws.evidently.custom", "data": {}}
ELSEWHERE = {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20261121/us-east-1/events/aws4_request"}
BOMB_PACKED_BYTES = 9 << 20


@dataclass(frozen=True)
class Bad:
    """A request that is refused, in whole or in part; ``before`` is taken first, by the target ``small``, or
    ``first``, as this one but for the body."""

    path: str = NATIVE
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    before: Any = None
    first: Any = None


def put(*entries: Any, **headers: str) -> Bad:
    return Bad("/", {"Entries": list(entries)}, {**AWS, **headers})


def native(event: Any, target: str = "orders") -> Bad:
    return Bad(f"/v1/targets/{target}/events", event)


def gzipped_zeros() -> bytes:
    return gzip.compress(bytes(BOMB_PACKED_BYTES), 1)


ROWS_NATIVE: dict[str, Bad] = {
    "not JSON": Bad(body=b'{"Source":'),
    "nothing, or `[]`": native([]),
    "a field that the target does not know": native({**EVENT, "source": "x"}),
    "a field of the wrong type": native({**EVENT, "Source": 7}),
    "`Source`, `DetailType` or `Detail` is missing": native({"Source": "my.app", "Detail": {}}),
    "`Detail` is not an object": native({**EVENT, "Detail": [1]}),
    "`Source` begins with `aws.`": native({**EVENT, "Source": "aws.ec2"}),
    "`DetailType` is too long": native({**EVENT, "DetailType": "x" * 129}),
    "`Time` is no time": native({**EVENT, "Time": "yesterday"}),
    "one bad event among good ones": native([EVENT, {**EVENT, "Detail": 1}]),
    "one bad line among good ones": Bad(body=json.dumps(EVENT).encode() + b'\n{"Source"\n', headers=LINES),
    "an event that no call could carry": native({**EVENT, "Detail": {"x": "x" * 1_048_560}}),
    "RUM: `details` is not an object": native({**RUM_EVENT, "details": "text"}, "web"),
    "RUM: an id that is no UUID": native({**RUM_EVENT, "AppMonitorId": "web"}, "web"),
    "Evidently: an unknown type": native({**CUSTOM, "type": "custom"}, "features"),
    "Evidently: `data` is missing": native({"type": "aws.evidently.custom"}, "features"),
    "the queue is full": Bad("/v1/targets/small/events", EVENT, before=EVENT),
    "more events than the queue can ever hold": native([EVENT, EVENT], "small"),
    "a key that was used before with another body": Bad(
        body={**EVENT, "Source": "b"}, headers={"Idempotency-Key": "a"}, first=EVENT
    ),
    "an unknown target": native(EVENT, "nowhere"),
    "an unknown path": Bad("/v1/events", EVENT),
    "not POST": Bad(method="GET"),
    "a content type that is not JSON": Bad(body=b"<a/>", headers={"Content-Type": "text/xml"}),
    "another encoding": Bad(body=b"x", headers={"Content-Encoding": "br"}),
    "gzip that is not gzip": Bad(body=b"x" * 20, headers={"Content-Encoding": "gzip"}),
    "a body over `ingest.max_body`": Bad(headers={"Content-Length": "8388609"}),
    "the same after it is unpacked": Bad(body=gzipped_zeros(), headers={"Content-Encoding": "gzip"}),
    "headers over `ingest.max_header_bytes`": Bad(headers={"X-Long": "x" * 17_000}),
}

ROWS_AWS: dict[str, Bad] = {
    "`PutEvents`: not JSON": Bad("/", b"{", AWS),
    "`PutEvents`: a member of the wrong type": put({**ENTRY, "Detail": {}}),
    "`PutEvents`: no entries": put(),
    "`PutEvents`: more than 10 entries": put(*[ENTRY] * 11),
    "`PutEvents`: too many bytes": put({**ENTRY, "Detail": json.dumps("x" * 1_048_576)}),
    "`PutEvents`: a required member is missing": put({"Source": "my.app"}),
    "`PutEvents`: `Detail` is not an object": put({**ENTRY, "Detail": "[]"}),
    "`PutEvents`: a source of AWS's": put({**ENTRY, "Source": "aws.ec2"}),
    "`PutEvents`: `EventBusName` is no name": put({**ENTRY, "EventBusName": "a b"}),
    "`PutEvents`: the target of some entries is full": Bad(
        "/",
        {"Entries": [{**ENTRY, "EventBusName": "small"}, ENTRY]},
        AWS,
        before=EVENT,
    ),
    "`PutEvents`: the targets of all entries are full": Bad(
        "/", {"Entries": [{**ENTRY, "EventBusName": "small"}]}, AWS, before=EVENT
    ),
    "`PutEvents`: signed for another region": put(ENTRY, **ELSEWHERE),
    "an `amz-sdk-invocation-id` that was used before with another body": Bad(
        "/", {"Entries": [ENTRY] * 2}, {**AWS, "amz-sdk-invocation-id": "a"}, first={"Entries": [ENTRY]}
    ),
    "another operation at `/`": Bad("/", {}, {"X-Amz-Target": "AWSEvents.PutRule"}),
    "`PutRumEvents`: `BatchId` is missing": Bad(
        f"/appmonitors/{MONITOR}/", {k: v for k, v in RUM.items() if k != "BatchId"}
    ),
    "`PutRumEvents`: one bad event (none is taken)": Bad(
        f"/appmonitors/{MONITOR}/",
        {**RUM, "RumEvents": [{**RUM_ENTRY, "details": "text"}]},
    ),
    "`PutRumEvents`: an app monitor bound to no target": Bad(
        "/appmonitors/00000000-0000-4000-8000-0000000000bb/", RUM
    ),
    "`PutProjectEvents`: one bad event": Bad(
        "/events/projects/shop", {"events": [{"timestamp": 1, "type": "custom", "data": "{}"}]}
    ),
    "`PutProjectEvents`: more than 50 events": Bad("/events/projects/shop", {"events": [{}] * 51}),
    "`PutProjectEvents`: a project bound to no target": Bad("/events/projects/other", {"events": []}),
    "not POST": Bad("/events/projects/shop", method="PUT"),
    "nothing that is known": Bad("/nowhere", {}),
}


CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "OrderPlaced"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
CE_HEADERS = {f"ce-{name}": value for name, value in CLOUD_EVENT.items()}


def cloud(body: Any, target: str = "orders", headers: Mapping[str, str] = STRUCTURED, **more: Any) -> Bad:
    return Bad(f"/v1/cloudevents/{target}", body, headers, **more)


ROWS_CLOUD: dict[str, Bad] = {
    "no CloudEvent": cloud(CLOUD_EVENT, headers={}),
    "a format other than JSON": cloud(b"", headers={"Content-Type": "application/cloudevents+avro"}),
    "an attribute is missing": cloud({"specversion": "1.0", "id": "1"}),
    "another `specversion`": cloud({**CLOUD_EVENT, "specversion": "0.3"}),
    "`source` is no text": cloud({**CLOUD_EVENT, "source": 7}),
    "`type` is too long": cloud({**CLOUD_EVENT, "type": "x" * 129}),
    "`data` and `data_base64`": cloud({**CLOUD_EVENT, "data": 1, "data_base64": "AA=="}),
    "a header that is not UTF-8": cloud(b"", headers={**CE_HEADERS, "ce-type": "%C0%A0"}),
    "one bad event in a batch": cloud([CLOUD_EVENT, {**CLOUD_EVENT, "id": None}], headers=BATCH),
    "a batch that is no array": cloud(CLOUD_EVENT, headers=BATCH),
    "a target of another kind": cloud(CLOUD_EVENT, "web"),
    "an unknown target": cloud(CLOUD_EVENT, "nowhere"),
    "the queue is full": cloud(CLOUD_EVENT, "small", before=EVENT),
    "neither POST nor OPTIONS": cloud(b"", method="GET"),
}


def routes() -> Routes:
    made = Routes().add("orders", PutEvents(), default=True)
    made.add("web", PutRumEvents(app_monitors=(MONITOR,)), names=(MONITOR,))
    made.add("features", PutProjectEvents(projects=("shop",)), names=("shop",))
    return made.add("small", PutEvents(), names=("small",), max_events=1)


def problems(said: Any) -> Iterator[tuple[str, str]]:
    """Code and message of whatever an answer refuses, in any dialect."""
    if isinstance(error := said.get("error"), dict):
        yield error["code"], error["message"]
    elif "__type" in said:
        yield said["__type"], said["message"]
    for entry in (*said.get("results", ()), *said.get("Entries", ()), *said.get("eventResults", ())):
        code = entry.get("code") or entry.get("ErrorCode") or entry.get("errorCode")
        if code:
            yield code, entry.get("message") or entry.get("ErrorMessage") or entry.get("errorMessage")


def told(answer: Answer) -> list[str]:
    code, message = next(problems(answer.json))
    return [str(answer.status), code, message]


async def answer_to(bad: Bad, ingest: Ingest) -> Answer:
    if bad.before is not None:
        assert (await ingest.post("/v1/targets/small/events", bad.before)).status == 202
    if bad.first is not None:
        assert (await ingest.post(bad.path, bad.first, bad.headers)).status in (200, 202)
    return await ingest.post(bad.path, bad.body, bad.headers, bad.method)


def table(heading: str) -> dict[str, list[str]]:
    return {row[0]: [row[1], plain(row[2]), row[3]] for row in rows(heading)}


@pytest.mark.parametrize(
    ("heading", "name", "bad"),
    [("native request", *each) for each in ROWS_NATIVE.items()]
    + [("AWS request", *each) for each in ROWS_AWS.items()]
    + [("CloudEvents request", *each) for each in ROWS_CLOUD.items()],
)
async def test_bad_input_gets_the_answer_in_the_table(heading: str, name: str, bad: Bad) -> None:
    async with serving(routes()) as ingest:
        assert told(await answer_to(bad, ingest)) == table(heading)[name]


def test_every_row_of_bad_input_is_tried() -> None:
    assert list(table("native request")) == [*ROWS_NATIVE, *SLOW]
    assert list(table("AWS request")) == list(ROWS_AWS)
    assert list(table("CloudEvents request")) == list(ROWS_CLOUD)


SLOW = ("headers that take longer than `ingest.read_timeout`", "a body that does", "one connection too many")


async def test_who_is_slow_or_one_too_many_is_told_so() -> None:
    said = []
    async with serving(routes(), read_timeout=0.1) as ingest:
        for start in (b"POST / HTTP/1.1\r\n", request(NATIVE, b"", {"Content-Length": "5"})):
            peer = await ingest.peer()
            await peer.send(start)
            said.append(told(await peer.answer()))
            await peer.close()
    async with serving(routes(), max_connections=1) as ingest:
        first = await ingest.peer()
        await first.send(b"POST")
        second = await ingest.peer()
        await second.send(request(NATIVE, EVENT))
        said.append(told(await second.answer()))
        await second.close()
        await first.close()
    for name, answer in zip(SLOW, said, strict=True):
        answer[2] = answer[2].replace("0.1 seconds", "30 seconds")
        assert answer == table("native request")[name]
