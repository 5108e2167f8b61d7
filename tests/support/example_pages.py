"""Pages of the documentation that add something to the forwarder: their blocks as modules, for a while."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_FILES = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^```python line\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@contextmanager
def executed(page: str, place: ModuleType, table: dict[str, Any]) -> Iterator[dict[str, ModuleType]]:
    """The modules of a page by their names, as if they were files, and its line run in ``place``, where it
    adds to the ``table``."""
    text = (Path(__file__).resolve().parents[2] / "docs" / page).read_text()
    modules: dict[str, ModuleType] = {}
    known = dict(table)
    try:
        for path, source in _FILES.findall(text):
            name = path.removesuffix(".py").replace("/", ".")
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = path
            modules[name.rpartition(".")[2]] = module
            exec(compile(source, path, "exec"), module.__dict__)
        (line,) = _LINE.findall(text)
        exec(line, {**vars(place), **modules})
        yield modules
    finally:
        for module in modules.values():
            del sys.modules[module.__name__]
        table.clear()
        table.update(known)
