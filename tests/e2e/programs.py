"""The same small program in every language that has an AWS SDK, and how a test talks with it.

A program is told the API: ``eventbridge``, ``rum`` or ``evidently``. For each line of its standard input it
makes one call of that API's put operation: the line has the call's parameters in JSON, times as RFC 3339. It
prints a line for each: ``{"answer": ...}``, or ``{"error": {"code", "message"}}`` when its SDK gave up. Where
AWS is and how often to try comes from the environment, as in any program.

Invariants:
- A program knows nothing of the forwarder. What it sets in code is what docs/clients.md tells to set.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.compiled import cargo_program, go_program, java_class_path
from tests.e2e.environments import (
    AWSCLI,
    BOTO3_1_44_5,
    BOTOCORE_1_42_50,
    debian_program,
    environment,
    node_packages,
)
from tests.e2e.processes import PATIENCE, REGION, surroundings

SOURCES = Path(__file__).parent / "clients"
PYTHON = SOURCES / "python"
ENDPOINTS = {
    "eventbridge": "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "rum": "AWS_ENDPOINT_URL_RUM",
    "evidently": "AWS_ENDPOINT_URL_EVIDENTLY",
}

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Client:
    """An SDK: what it speaks, how its program is made and run, and whether its times have fractions."""

    name: str
    apis: tuple[str, ...]
    command: Callable[[], Command]
    fractions: bool = True


class Kind(NamedTuple):
    """A client and one of its APIs: one row of the tests."""

    client: Client
    api: str

    def __str__(self) -> str:
        return f"{self.client.name} {self.api}"


def _javascript(sources: str = "javascript", program: str = "client.mjs") -> Command:
    node = debian_program("node", "nodejs", "npm")
    return [node, node_packages(SOURCES / sources) / program]


def _runtime(name: str, *options: str) -> Command:
    """The program of JavaScript's SDK v3, run by another runtime than Node."""
    runtimes = node_packages(SOURCES / "runtimes") / "node_modules/.bin"
    return [runtimes / name, "run", *options, node_packages(SOURCES / "javascript") / "client.mjs"]


def _aws_cli_2() -> Command:
    """Debian's, which is older than AWS's variables for endpoints."""
    aws = debian_program("/usr/bin/aws", "awscli")
    return [sys.executable, PYTHON / "cli.py", aws, "--endpoint-url"]


def _java(main: str = "Client") -> Command:
    class_path = java_class_path(SOURCES / "java")
    return [
        debian_program("java", "default-jre-headless"),
        "-XX:TieredStopAtLevel=1",
        "-cp",
        class_path,
        main,
    ]


ALL = ("eventbridge", "rum", "evidently")
CLIENTS = (
    Client("boto3", ALL[:2], lambda: [sys.executable, PYTHON / "client.py"]),
    Client("boto3-1.44.5", ALL[:2], lambda: [environment(BOTO3_1_44_5) / "python", PYTHON / "client.py"]),
    Client(
        "botocore-1.42.50",
        ALL[2:],
        lambda: [environment(BOTOCORE_1_42_50) / "python", PYTHON / "client.py"],
        fractions=False,
    ),
    Client("aiobotocore", ALL[:2], lambda: [sys.executable, PYTHON / "async_client.py"]),
    Client(
        "aws-cli",
        ALL[:2],
        lambda: [sys.executable, PYTHON / "cli.py", environment(AWSCLI) / "aws"],
        fractions=False,
    ),
    Client("javascript", ALL, _javascript),
    Client("go", ALL, lambda: [go_program(SOURCES / "go")]),
    Client("java", ALL[:2], _java),
    Client("rust", ALL[:1], lambda: [cargo_program(SOURCES / "rust")]),
)
OLDER = (
    Client("javascript-2", ALL, lambda: _javascript("javascript2")),
    Client("aws4fetch", ALL[:2], lambda: _javascript("javascript2", "aws4fetch.mjs")),
    Client("go-1", ALL, lambda: [go_program(SOURCES / "go1")]),
    Client("java-1", ALL[:2], lambda: _java("Client1")),
    Client("bun", ALL[:2], lambda: _runtime("bun")),
    Client("deno", ALL[:2], lambda: _runtime("deno", "--allow-all")),
    Client("aws-cli-2", ALL[:1], _aws_cli_2, fractions=False),
)
"""Older releases, a signer without an SDK, and other runtimes of JavaScript: `make welcome` runs these, and
`make e2e` only makes them."""

KINDS = tuple(Kind(client, api) for client in CLIENTS for api in client.apis)
OLDER_KINDS = tuple(Kind(client, api) for client in OLDER for api in client.apis)


def _java_cloudevents() -> Command:
    """Headers in UTF-8, as by default since Java 18; before, the locale decides."""
    java, *options = _java("CloudEvents")
    return [java, "-Dfile.encoding=UTF-8", *options]


CLOUDEVENTS: dict[str, Callable[[], Command]] = {
    "go": lambda: [go_program(SOURCES / "cloudevents-go")],
    "java": _java_cloudevents,
    "javascript": lambda: [debian_program("node", "nodejs", "npm"), _cloudevents("send.mjs")],
    "python": lambda: [environment("cloudevents") / "python", _cloudevents("send.py")],
}
"""The programs with CloudEvents SDKs. Each reads one order, which cloudevents/send.py describes."""


def _cloudevents(program: str) -> Path:
    sources = SOURCES.parent / "cloudevents"
    return (node_packages(sources) if program.endswith(".mjs") else sources) / program


class Said(NamedTuple):
    """What came of one call: an answer, or an error's code and message."""

    answer: dict[str, Any] | None = None
    error: dict[str, str] | None = None


@dataclass
class Program:
    """A running program."""

    process: subprocess.Popen[str]

    def put(self, params: Mapping[str, Any]) -> None:
        """Have it make a call; ``said`` waits for what comes of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(params) + "\n")
        self.process.stdin.flush()

    def said(self) -> Said:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}"
        return Said(**plain(json.loads(line)))

    def __call__(self, params: Mapping[str, Any]) -> Said:
        self.put(params)
        return self.said()


def plain(value: Any) -> Any:
    """An answer in one form: SDKs have their own ways with capitals and with what is not there."""
    match value:
        case dict():
            kept = {k: v for k, v in value.items() if v is not None and k != "ResultMetadata"}
            return {name[0].lower() + name[1:]: plain(member) for name, member in kept.items()}
        case list():
            return [plain(each) for each in value]
    return value


@contextlib.contextmanager
def a_program(kind: Kind, url: str, attempts: int = 3, **environ: str) -> Iterator[Program]:
    """The client's program, pointed at ``url`` by nothing but its environment."""
    more = {ENDPOINTS[kind.api]: url, "AWS_MAX_ATTEMPTS": str(attempts), "AWS_REGION": REGION}
    if kind.api != "eventbridge":
        more["AWS_DISABLE_HOST_PREFIX_INJECTION"] = "true"
    process = subprocess.Popen(
        [*kind.client.command(), kind.api],
        env=surroundings(**{**more, **environ}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Program(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
