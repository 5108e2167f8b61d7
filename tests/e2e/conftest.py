"""What the end-to-end tests share: one sandbox and one daemon in front of it, the clients, and the mark."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.environments import AWSCLI, BOTO3_1_44_5, BOTOCORE_1_42_50, environment
from tests.e2e.processes import Daemon, Sandbox, Sdk, a_daemon, a_sandbox

MONITOR = "00000000-0000-4000-8000-0000000000aa"
PROJECT = "shop"
TARGETS = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}"}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{url}"}}
  flags: {{kind: evidently, region: eu-west-1, endpoint_url: "{url}"}}
"""


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
def daemon(a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with targets ``orders``, ``web`` and ``flags``, each the default of its kind."""
    targets = TARGETS.format(url=a_running_sandbox.url)
    with a_daemon(tmp_path_factory.mktemp("daemon"), targets) as running:
        yield running


@pytest.fixture(scope="session")
def new_boto3() -> Path:
    """A Python with boto3 1.44.5, which is newer than ours: it tries again in another way and knows more."""
    return environment(BOTO3_1_44_5) / "python"


@pytest.fixture(scope="session", params=["our boto3", "boto3 1.44.5"])
def boto3(request: pytest.FixtureRequest, new_boto3: Path) -> str | Path:
    """The Python of a program that uses boto3."""
    return sys.executable if request.param == "our boto3" else new_boto3


@pytest.fixture(scope="session")
def boto3_put_events(boto3: str | Path) -> Sdk:
    return Sdk(boto3, "events", "put_events", {})


@pytest.fixture(scope="session")
def boto3_put_rum_events(boto3: str | Path) -> Sdk:
    return Sdk(boto3, "rum", "put_rum_events", {"inject_host_prefix": False})


@pytest.fixture(scope="session")
def old_botocore_put_project_events() -> Sdk:
    """botocore 1.42.50, the last one that has Evidently."""
    python = environment(BOTOCORE_1_42_50) / "python"
    return Sdk(python, "evidently", "put_project_events", {"inject_host_prefix": False})


@pytest.fixture(scope="session")
def aws() -> Path:
    """The AWS CLI."""
    return environment(AWSCLI) / "aws"
