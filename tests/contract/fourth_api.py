"""The target of docs/adding-a-target.md, made from the blocks of that page and registered for a while."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from forwarder import targets

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-target.md"
_FILES = re.compile(r"^```python file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"^```python line\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@contextmanager
def registered() -> Iterator[dict[str, ModuleType]]:
    """The modules of the page by their names, as if they were files, and the kind in TARGETS."""
    text = PAGE.read_text()
    modules: dict[str, ModuleType] = {}
    known = dict(targets.TARGETS)
    try:
        for path, source in _FILES.findall(text):
            name = path.removesuffix(".py").replace("/", ".")
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = path
            modules[name.rpartition(".")[2]] = module
            exec(compile(source, path, "exec"), module.__dict__)
        (line,) = _LINE.findall(text)
        exec(line, {**vars(targets), **modules})
        yield modules
    finally:
        for module in modules.values():
            del sys.modules[module.__name__]
        targets.TARGETS.clear()
        targets.TARGETS.update(known)
