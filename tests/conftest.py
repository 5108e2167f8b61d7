"""What holds for every test: where CI is set, a skip is a failure unless it is listed here;
with ``--any-aiobotocore`` the fast path is taken whatever the SDK's release."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

EXPECTED_SKIPS = frozenset(
    {
        # PutRumEvents answers 200 with an empty body, so it has no results to be missing or wrong.
        "this API answers success with nothing",
        # Some machines let nobody but root make a namespace; the same is tried with a disk that is told full.
        "a process may not mount a small disk of its own here",
        # The same hand-over is tried with a parent of the test's own.
        "there is no systemd-socket-activate here",
        # Only root may mount the few MiB that are to be really full.
        "no small file system can be mounted here",
    }
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--any-aiobotocore",
        action="store_true",
        help="let the fast path take releases it was not tested with",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--any-aiobotocore"):
        from forwarder.targets import fast_path

        fast_path.TESTED = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if reason.removeprefix("Skipped: ") not in EXPECTED_SKIPS:
            report.outcome = "failed"
            report.longrepr = f"{reason}\nA skip in CI is a failure: see EXPECTED_SKIPS in tests/conftest.py."
    return report
