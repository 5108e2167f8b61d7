"""The project's own files agree with each other: what is locked, what is packed, what is deployed."""

from __future__ import annotations

import re
import shutil
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flit_core import buildapi

from forwarder import __version__
from forwarder.config import parse
from forwarder.targets import option_types

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """Package to version, as the lock file pins it."""
    return dict(re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def required(requirements: list[str]) -> set[str]:
    names = (re.match(r"[\w.-]+", requirement) for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for name in names if name}


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_of_a_lock_file_has_a_hash_and_none_names_an_index(name: str) -> None:
    text = (ROOT / name).read_text()
    pins = re.split(r"^(?=[\w.-]+(?:\[.*?\])?==)", text, flags=re.MULTILINE)[1:]
    assert pins
    assert [pin.split()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert "://" not in text
    assert not re.search(r"^\s*-", re.sub(r"^ +--hash=.*", "", text, flags=re.MULTILINE), re.MULTILINE)


def test_everything_the_project_asks_for_is_locked() -> None:
    asked, build = project()["project"], project()["build-system"]
    assert required(asked["dependencies"]) <= locked("requirements.lock").keys()
    assert required(asked["optional-dependencies"]["dev"]) <= locked("requirements-dev.lock").keys()
    assert required(build["requires"]) <= locked("requirements-build.lock").keys()


def test_the_tests_run_with_the_versions_that_are_deployed() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_the_wheel_carries_the_models_the_page_and_the_typing_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "forwarder", source / "forwarder")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    monkeypatch.chdir(source)
    wheel = buildapi.build_wheel(str(tmp_path))
    assert wheel == f"event_forwarder-{__version__}-py3-none-any.whl"
    packed = set(zipfile.ZipFile(tmp_path / wheel).namelist())
    kinds = ("*.json", "*.html", "*.js", "*.css")
    data = [path for kind in kinds for path in (ROOT / "forwarder").rglob(kind)]
    assert len(data) >= 6
    assert {path.relative_to(ROOT).as_posix() for path in data} <= packed
    assert "forwarder/py.typed" in packed
    assert not any(name.endswith(".pyc") for name in packed)


def test_the_guide_to_scaling_shows_configurations_that_are_good() -> None:
    blocks = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "scaling.md").read_text(), re.DOTALL | re.MULTILINE
    )
    for text in blocks:
        parse(text, option_types(), {})
    (_, instance) = (ROOT / "config" / "instance.yaml").read_text().split("\n", 1)
    assert instance in blocks


def test_instances_differ_in_what_they_cannot_share() -> None:
    text = (ROOT / "config" / "instance.yaml").read_text()
    first, second = (parse(text, option_types(), {"INSTANCE": number}) for number in "12")
    assert first.ingest == second.ingest
    assert first.ingest.reuse_port
    assert first.admin.listen != second.admin.listen
    assert first.storage.path != second.storage.path


def test_every_test_that_the_table_of_peers_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "peers.md").read_text())
    assert len(named) > 30
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_the_table_of_peers_leaves_no_number_out_unsaid() -> None:
    table = (ROOT / "docs" / "peers.md").read_text()
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert numbers == [number for number in range(1, numbers[-1] + 1) if number != 23]
