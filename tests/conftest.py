"""What holds for every test: where CI is set, a skip is a failure unless its test is listed;
with ``--any-aiobotocore`` the fast path is taken whatever the SDK's release."""

from __future__ import annotations

import hypothesis
import pytest

from tests.support.skips import pytest_runtest_makereport, pytest_terminal_summary

# How long something takes on a busy machine is no failure.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

__all__ = ["pytest_runtest_makereport", "pytest_terminal_summary"]


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
