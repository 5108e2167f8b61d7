"""docs/clients.md is true: every block that can be run is run as it stands there, and its event arrives.

Invariants:
- A section's ``export`` lines, after those of the sections for all, are all that a block gets to know of AWS.
- A block that is not run stands in a section that says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.compiled import cargo_lock, cargo_program, java_class_path
from tests.e2e.environments import AWSCLI, BOTO3_1_44_5, BOTOCORE_1_42_50, CACHE, node_packages
from tests.e2e.processes import Daemon, Sandbox
from tests.e2e.programs import SOURCES
from tests.e2e.samples import TARGETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text()
ADDRESS = "http://127.0.0.1:2780"
NOT_TESTED = "*Not tested*"
FOR_ALL = ("Clients", "What holds for all of them")
CLOUDEVENTS_JS = '"cloudevents": "(.+?)"'
ONE_CLIENT = "Only the client that sends"
"""Of all exports its blocks get the keys and the region: they say themselves where the daemon is."""
_SECTION = re.compile(r"^##? ([^\n]+)\n(.*?)(?=^##? |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPORT = re.compile(r"\b([A-Z_]+)=(\S+)")


class Block(NamedTuple):
    """A block of the page: what is exported before it, and whether its section says that it is not run."""

    section: str
    number: int
    language: str
    text: str
    exports: dict[str, str]
    is_tested: bool

    def __str__(self) -> str:
        return f"{self.section} {self.number}"


def blocks() -> list[Block]:
    found: list[Block] = []
    for_all: dict[str, str] = {}
    keys = dict(_EXPORT.findall(next(line for line in PAGE.splitlines() if "AWS_ACCESS_KEY_ID=" in line)))
    for section, content in _SECTION.findall(PAGE):
        exports = dict(keys if section == ONE_CLIENT else for_all)
        for number, (language, text) in enumerate(_BLOCK.findall(content)):
            if language == "sh" and all(line.startswith("export ") for line in text.splitlines()):
                exports.update(_EXPORT.findall(text))
            else:
                is_tested = NOT_TESTED not in content
                found.append(Block(section, number, language, text, dict(exports), is_tested))
        if section in FOR_ALL:
            for_all = exports
    return found


BLOCKS = [block for block in blocks() if block.language != "text"]
RUN = [block for block in BLOCKS if block.is_tested]

Command = Sequence[str | Path]


def _shell(folder: Path, text: str) -> Command:
    return ["bash", "-euc", text]


def _python(folder: Path, text: str) -> Command:
    return [sys.executable, "-c", text]


def _javascript(folder: Path, text: str) -> Command:
    program = node_packages(SOURCES / "javascript") / "block.mjs"
    program.write_text(text)
    return ["node", program]


def _go(folder: Path, text: str) -> Command:
    for name in ("go.mod", "go.sum"):
        shutil.copy(SOURCES / "go" / name, folder)
    (folder / "main.go").write_text(text)
    return ["go", "run", "-mod=mod", "."]


def _java(folder: Path, text: str) -> Command:
    (folder / "Send.java").write_text(text)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", java_class_path(SOURCES / "java"), "Send.java"]


def _rust(folder: Path, text: str) -> Command:
    """A package of another name beside the client's, with what is compiled for that."""
    cargo_program(SOURCES / "rust")
    texts = {
        "Cargo.toml": (SOURCES / "rust/Cargo.toml").read_text(),
        "Cargo.lock": cargo_lock(SOURCES / "rust"),
    }
    for name, package in texts.items():
        (folder / name).write_text(package.replace('name = "client"', 'name = "block"'))
    (folder / "src").mkdir()
    (folder / "src" / "main.rs").write_text(text)
    return ["cargo", "run", "--quiet", "--locked", "--target-dir", CACHE / "rust"]


RUNNERS: dict[str, Callable[[Path, str], Command]] = {
    "sh": _shell,
    "python": _python,
    "js": _javascript,
    "go": _go,
    "java": _java,
    "rust": _rust,
}


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_runs_and_its_event_arrives(
    block: Block, sandbox: Sandbox, daemon: Daemon, aws: Path, tmp_path: Path
) -> None:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    surroundings |= {name: value.replace(ADDRESS, daemon.url) for name, value in block.exports.items()}
    surroundings["PATH"] = f"{aws.parent}:{surroundings['PATH']}"
    command = RUNNERS[block.language](tmp_path, block.text.replace(ADDRESS, daemon.url))
    ran = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    for target in TARGETS.values():
        daemon.deliver(target)
    assert sum(len(sandbox.arrived(api)) for api in TARGETS) == 1


def test_what_is_not_run_says_so() -> None:
    assert {block.section for block in BLOCKS if not block.is_tested} <= {".NET", "RUM web client"}
    assert {block.language for block in RUN} == set(RUNNERS)


def test_the_versions_are_those_of_the_tests() -> None:
    rows = re.findall(r"^\| ([^|]+) \|[^|]+\|[^|]+\| ([^|]+) \|$", PAGE, re.MULTILINE)
    told = {client: set(re.findall(r"\d+(?:\.\d+)+", tested)) for client, tested in rows[1:]}
    assert told == {
        "boto3": {pinned("requirements-dev.lock", "boto3==(.+?) "), BOTO3_1_44_5.removeprefix("boto3-")},
        "aiobotocore": {pinned("requirements-dev.lock", "aiobotocore==(.+?) ")},
        "AWS CLI": {pinned(f"tests/e2e/requirements-{AWSCLI}.txt", "awscli==(.+?) ")},
        "JavaScript v3": {client("javascript/package.json", '-eventbridge": "(.+?)"')},
        "JavaScript v2": {client("javascript2/package.json", '"aws-sdk": "(.+?)"')},
        "Go v1": {client("go1/go.mod", "aws-sdk-go v(.+)")},
        "Java v1": {client("java/pom.xml", "<aws.sdk.v1.version>(.+?)<")},
        "Go v2": {client("go/go.mod", "/eventbridge v(.+)")},
        "Java v2": {client("java/pom.xml", "<aws.sdk.version>(.+?)<")},
        "Rust": {client("rust/Cargo.toml", 'eventbridge = "=(.+?)"')},
        ".NET": set(),
    }
    assert "botocore " + BOTOCORE_1_42_50.removeprefix("botocore-") in PAGE
    assert "JavaScript " + client("javascript/package.json", '-evidently": "(.+?)"') in PAGE
    assert client("go/go.mod", "/evidently v(.+)") in PAGE
    assert "aws4fetch " + client("javascript2/package.json", 'aws4fetch": "(.+?)"') in PAGE
    assert "Bun " + client("runtimes/package.json", '"bun": "(.+?)"') in PAGE
    assert "Deno " + client("runtimes/package.json", '"deno": "(.+?)"') in PAGE
    assert "requests " + pinned("requirements-dev.lock", "^requests==(.+?) ") in PAGE
    assert "httpx " + pinned("tests/e2e/requirements-httpx.txt", "httpx==(.+?) ") in PAGE
    assert "RUM web client " + pinned("tests/e2e/browser/package.json", 'rum-web": "(.+?)"') in PAGE
    cloudevents = (
        f"Go {client('cloudevents-go/go.mod', '/sdk-go/v2 v(.+)')}, "
        f"Java {client('java/pom.xml', '<cloudevents.version>(.+?)<')}, "
        f"JavaScript {pinned('tests/e2e/cloudevents/package.json', CLOUDEVENTS_JS)}, Python"
    )
    assert (
        f"{cloudevents} {pinned('tests/e2e/requirements-cloudevents.txt', 'cloudevents==(.+?) ')}"
        in " ".join(PAGE.split())
    )
    assert "RUM web client " + pinned("tests/e2e/browser/package.json", 'rum-web@(.+?)"') in PAGE


def client(path: str, pattern: str) -> str:
    return pinned(f"tests/e2e/clients/{path}", pattern)


def pinned(path: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
    assert found is not None, path
    return found[1]
