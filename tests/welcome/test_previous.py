"""The release before this one: its configurations and its storage are taken over, and it may come back.

Invariants:
- The release before is its own code, from the history of this repository.
- What was accepted by one is delivered by the other, event by event; dead letters are there.
- A version that cannot use a storage ends with 78 and leaves it as it is, to the byte.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import MONITOR, PROJECT
from tests.e2e.processes import FRESH, Daemon, Sandbox, a_daemon, ask, surroundings, until
from tests.welcome.calls import name
from tests.welcome.conftest import Record
from tests.welcome.judge import Row, arrived, refused_by

PREVIOUS = "7472765"
"""The commit before the work that these tests came with: move it with each release."""

ROOT = Path(__file__).parents[2]
EXIT_CONFIG = 78
KINDS = {"orders": "eventbridge", "web": "rum", "flags": "evidently"}
HELD, BAD_ENTRY = {"fault": "credentials"}, {"fault": "entry", "code": "InvalidArgument"}
WAITING, DEAD = 40, 3
HERE = FRESH

Program = Sequence[str | Path]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the release before."""
    folder = tmp_path_factory.mktemp("previous")
    archive = folder / "tree.tar"
    command: list[str | Path] = [
        "git",
        "-C",
        ROOT,
        "archive",
        "-o",
        archive,
        PREVIOUS,
        "forwarder",
        "config",
        "deploy",
    ]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"the history does not have {PREVIOUS}: {made.stderr.strip()}")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def previous(tree: Path) -> Program:
    """What runs the release before, with the packages of this one."""
    program = ("env", f"PYTHONPATH={tree}", sys.executable, "-P", "-m", "forwarder")
    where = subprocess.run(
        [*program[:-2], "-c", "import forwarder; print(forwarder.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tree)), where.stdout
    return program


def targets(sandbox: Sandbox) -> str:
    return "".join(
        f"  {target}: {{kind: {kind}, region: eu-west-1, queue: disk, endpoint_url: '{sandbox.url}', "
        f"hold: {{probe: 200ms, probe_cap: 200ms}}}}\n"
        for target, kind in KINDS.items()
    )


def event(kind: str, name: str) -> dict[str, object]:
    events: dict[str, dict[str, object]] = {
        "eventbridge": {"Source": "welcome", "DetailType": "a", "Detail": {"name": name}},
        "rum": {"type": "welcome", "details": {"name": name}, "AppMonitorId": MONITOR},
        "evidently": {"type": "aws.evidently.custom", "data": {"name": name}, "project": PROJECT},
    }
    return events[kind]


def post(daemon: Daemon, target: str, count: int) -> list[str]:
    names = [name() for _ in range(count)]
    ask(f"{daemon.url}/v1/targets/{target}/events", [event(KINDS[target], each) for each in names], "POST")
    return names


@contextmanager
def a_forwarder(folder: Path, sandbox: Sandbox, program: Program) -> Iterator[Daemon]:
    with a_daemon(folder, targets(sandbox), program=program) as daemon:
        yield daemon


def filled(folder: Path, sandbox: Sandbox, program: Program) -> list[str]:
    """A storage with waiting events and dead letters; the names of what waits."""
    with a_forwarder(folder, sandbox, program) as daemon:
        sandbox.order({**BAD_ENTRY, "api": "eventbridge"})
        post(daemon, "orders", DEAD)
        until(lambda: dead_letters(daemon) == DEAD, "the dead letters", daemon.log)
        sandbox.mend()
        sandbox.order(HELD)
        return [each for target in KINDS for each in post(daemon, target, WAITING)]


def dead_letters(daemon: Daemon) -> int:
    lines = ask(f"{daemon.admin}/metrics").decode().splitlines()
    kept = [line for line in lines if line.startswith('forwarder_dead_letters_events{target="orders"}')]
    return int(float(kept[0].split()[-1])) if kept else 0


def takes_over(folder: Path, sandbox: Sandbox, program: Program, waiting: Sequence[str]) -> int:
    """It delivers what waits, accepts more, and has the dead letters; how many were sent in all."""
    sandbox.mend()
    with a_forwarder(folder, sandbox, program) as daemon:
        more = [each for target in KINDS for each in post(daemon, target, 5)]
        for target in KINDS:
            daemon.deliver(target)
        assert arrived(sandbox, KINDS.values()) == sorted([*waiting, *more])
        assert dead_letters(daemon) == DEAD
        assert not refused_by(daemon)
    return len(waiting) + len(more)


def files_of(storage: Path) -> dict[str, bytes]:
    """What the storage holds. The lock, which says nothing of it, may change."""
    return {
        str(path.relative_to(storage)): path.read_bytes()
        for path in storage.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".sock")
    }


def ended(folder: Path, program: Program) -> tuple[int, str]:
    """How a daemon ends that is not to become ready."""
    ran = subprocess.run(
        [*program, "run", "-c", folder / "forwarder.yaml"],
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ran.returncode, ran.stderr


def test_what_the_release_before_accepted_is_delivered(
    previous: Program, sandbox: Sandbox, tmp_path: Path, record: Record
) -> None:
    waiting = filled(tmp_path, sandbox, previous)
    sent = takes_over(tmp_path, sandbox, HERE, waiting)
    record(Row("storage of the release before", "none", "this release", sent, 0))


def test_the_release_before_takes_the_storage_back_or_leaves_it_as_it_is(
    previous: Program, sandbox: Sandbox, tmp_path: Path, record: Record
) -> None:
    waiting = filled(tmp_path, sandbox, HERE)
    before = files_of(tmp_path / "state")
    try:
        sent = takes_over(tmp_path, sandbox, previous, waiting)
    except AssertionError as problem:
        if "it ended by itself" not in str(problem):
            raise
        code, said = ended(tmp_path, previous)
        assert code == EXIT_CONFIG, said
        assert files_of(tmp_path / "state") == before
        sent = takes_over(tmp_path, sandbox, HERE, waiting)
    record(Row("storage of this release", "none", "the release before", sent, 0))


@pytest.mark.parametrize("whose", ["this", "the one before"])
def test_a_storage_of_a_newer_format_is_left_as_it_is(
    whose: str, previous: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    waiting = filled(tmp_path, sandbox, HERE)
    file = tmp_path / "state" / "data" / "forwarder.db"
    ours = file.read_bytes()
    newer = bytearray(ours)
    newer[60:64] = (int.from_bytes(ours[60:64], "big") + 1).to_bytes(4, "big")
    file.write_bytes(newer)
    before = files_of(tmp_path / "state")
    code, said = ended(tmp_path, HERE if whose == "this" else previous)
    assert code == EXIT_CONFIG, said
    assert "format" in said
    assert files_of(tmp_path / "state") == before
    file.write_bytes(ours)
    takes_over(tmp_path, sandbox, HERE, waiting)


def test_every_configuration_of_the_release_before_is_taken(tree: Path, tmp_path: Path) -> None:
    import yaml

    found = {path.name: path.read_text() for path in (tree / "config").glob("*.yaml")}
    for path in (tree / "deploy").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document.get("kind") == "ConfigMap":
                found[path.name] = document["data"]["forwarder.yaml"]
            elif "configs" in document:
                found[path.name] = document["configs"]["forwarder"]["content"]
    assert len(found) >= 6
    for file, text in found.items():
        (tmp_path / file).write_text(text)
        for program in (HERE, ("env", f"PYTHONPATH={tree}", sys.executable, "-P", "-m", "forwarder")):
            ran = subprocess.run(
                # The files that its settings name are not on this host.
                [*program, "check", *(["--no-files"] if program is HERE else []), "-c", tmp_path / file],
                capture_output=True,
                text=True,
                env={**surroundings(), "INSTANCE": "1"},
            )
            assert ran.returncode == 0, f"{file}: {ran.stdout}{ran.stderr}"


def test_the_configuration_check_reads_what_it_is_given(tmp_path: Path) -> None:
    """So that silence about the others means something."""
    (tmp_path / "bad.yaml").write_text(json.dumps({"targets": {"a": {"kind": "eventbridge", "regio": "x"}}}))
    ran = subprocess.run([*HERE, "check", "-c", tmp_path / "bad.yaml"], capture_output=True)
    assert ran.returncode == EXIT_CONFIG
