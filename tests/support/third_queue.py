"""The queue of docs/adding-a-queue.md, made from the blocks of that page and registered for a while."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import ModuleType

from forwarder.queues import kinds
from tests.support.example_pages import executed


def registered() -> AbstractContextManager[dict[str, ModuleType]]:
    """The modules of the page by their names, and the kind in QUEUES."""
    return executed("adding-a-queue.md", kinds, kinds.QUEUES)
