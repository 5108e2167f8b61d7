"""Every integration test has a sandbox of its own, and nothing of this machine's AWS configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.events import KINDS
from tests.support.fake_aws import aws_environment
from tests.support.harness import World, world

__all__ = ["aws_environment"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def place(tmp_path: Path, aws_environment: None) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made
