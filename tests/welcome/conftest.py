"""What the tests of honest clients share: the daemons, the proxies in front of them, and the table.

Invariants:
- A case records one row; after it every refusal counter of its daemon is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.processes import Sandbox, a_sandbox
from tests.welcome.judge import ROW, Row, arrived, table
from tests.welcome.stage import Place, guarded_daemon, in_front, open_daemon

Record = Callable[[Row], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def a_running_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with a_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(a_running_sandbox: Sandbox) -> Sandbox:
    """A sandbox without faults, in which nothing has arrived."""
    a_running_sandbox.reset()
    return a_running_sandbox


@pytest.fixture(scope="session")
def places(
    a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Place]]:
    """A daemon that asks nobody who sends, ``open``, and one that asks everybody, ``guarded``."""
    folders = [tmp_path_factory.mktemp(name) for name in ("open", "guarded", "proxies")]
    for folder in folders:
        folder.chmod(0o755)
    with (
        open_daemon(folders[0], a_running_sandbox) as everybody,
        guarded_daemon(folders[1], a_running_sandbox) as proven,
        in_front(folders[2], {"open": everybody, "guarded": proven}) as places,
    ):
        yield places


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Note a row for the table, and judge it: nothing was refused."""

    def note(row: Row) -> None:
        record_property(ROW, list(row))

    return note


@pytest.fixture
def judge(sandbox: Sandbox, record: Record) -> Callable[..., None]:
    """Wait until all is delivered; then what was sent arrived, once each, and nothing was refused."""

    def judged(
        place: Place,
        who: tuple[str, str, str],
        sent: Sequence[str],
        apis: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        for target in targets:
            place.daemon.deliver(target)
        came = arrived(sandbox, apis)
        refused = place.refused()
        record(Row(*who, len(sent), len(set(sent) - set(came)) or int(sum(refused.values()))))
        assert not refused, f"{who}: refused: {refused}"
        assert came == sorted(sent), f"{who}: {len(came)} events arrived of {len(sent)}"

    return judged


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, ())]
    rows = [Row(*value) for each in reports for name, value in each.user_properties if name == ROW]
    if rows:
        terminalreporter.section("every client")
        for line in table(sorted(rows)):
            terminalreporter.write_line(line)
