"""A sandbox for each test, and its control endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from forwarder.sandbox import Sandbox, running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running() as made:
        yield made


@pytest.fixture
async def control(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=sandbox.url) as session:
        yield session
