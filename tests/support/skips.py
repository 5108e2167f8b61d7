"""Where CI is set, a skip is a failure unless the test's name stands in ``tests/allowed_skips.txt``.

Invariants:
- A line of the list is the name of a test, without parameters, and why it may be skipped.
- A test in the list that ran is told at the end of the run: on such a machine its line is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

LIST = Path("tests/allowed_skips.txt")


def allowed_skips(root: Path) -> dict[str, str]:
    """The names of tests in the list, each with its reason."""
    lines = [line for line in (root / LIST).read_text().splitlines() if line and not line.startswith("#")]
    listed = {name: reason.strip() for name, _, reason in (line.partition(" ") for line in lines)}
    without = [name for name, reason in listed.items() if not reason]
    if without or len(listed) < len(lines):
        raise pytest.UsageError(f"{LIST}: every test stands there once, with a reason: {without or lines}")
    return listed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        name = report.nodeid.partition("[")[0]
        if name not in allowed_skips(item.config.rootpath):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            report.outcome = "failed"
            report.longrepr = f"{reason}\nA skip in CI is a failure: {name} is not in {LIST}."
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not os.environ.get("CI"):
        return
    ran = {report.nodeid.partition("[")[0] for report in terminalreporter.stats.get("passed", ())}
    for name in sorted(ran & allowed_skips(config.rootpath).keys()):
        terminalreporter.write_line(f"{LIST}: {name} was not skipped here")
