"""Tests of connections run on the daemon's event loop and on Python's: each has transports of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_BOTH = ("test_connections.py", "test_tls.py")

LoopFactories = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(item: pytest.Item) -> LoopFactories:
    pythons: LoopFactories = {"asyncio": asyncio.new_event_loop}
    return {**pythons, "uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH else pythons
