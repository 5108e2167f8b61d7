"""The target of docs/adding-a-target.md, made from the blocks of that page and registered for a while."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import ModuleType

from forwarder import targets
from tests.support.example_pages import executed


def registered() -> AbstractContextManager[dict[str, ModuleType]]:
    """The modules of the page by their names, and the kind in TARGETS."""
    return executed("adding-a-target.md", targets, targets.TARGETS)
