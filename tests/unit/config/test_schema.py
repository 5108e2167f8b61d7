"""The JSON Schema, judged by a validator that is not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from forwarder.cli import main
from forwarder.config import json_schema
from forwarder.targets import option_types

CONFIGS = Path(__file__).parents[3] / "config"
SCHEMA: dict[str, Any] = json_schema(option_types())
MINIMAL = "targets: {a: {kind: eventbridge, region: eu-west-1}}\n"


def is_valid(text: str) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text)))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_in_the_repository_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--schema"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == SCHEMA
    assert (CONFIGS / "schema.json").read_text() == printed, "forwarder check --schema > config/schema.json"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid_by_the_schema(path: Path) -> None:
    assert is_valid(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        MINIMAL + "ingest: {listen: 'unix:/run/a.sock', max_connections: '${N:-5}', max_body: 1000}",
        MINIMAL + "log: {level: '${LEVEL:-info}'}",
    ],
)
def test_what_is_read_is_valid_by_the_schema(text: str) -> None:
    assert is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "targets: {}",
        "ingest: {}",
        "targets: {a: {kind: unknown, region: eu-west-1}}",
        "targets: {A: {kind: eventbridge, region: eu-west-1}}",
        "targets: {a: {kind: eventbridge, regin: eu-west-1}}",
        MINIMAL + "ingest: {max_connections: many}",
        MINIMAL + "log: {level: loud}",
        MINIMAL + "shutdown: {drain_timeout: 20}",
        MINIMAL + "more: {}",
    ],
)
def test_what_is_refused_is_not_valid_by_the_schema(text: str) -> None:
    assert not is_valid(text)
