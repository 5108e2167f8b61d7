"""A YAML document: its values, keys that are given twice, and the line of each setting.

Invariants:
- A key that is given twice is a problem and never a silent choice; everything else is read all the same.
- Nothing but YAML's own plain types is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from forwarder.config.problem import ConfigError, Problem, join


class Document:
    """What a file holds. ``value``: as plain values. ``problems``: keys given twice."""

    def __init__(self, text: str) -> None:
        """Raises ConfigError for text that is not YAML."""
        try:
            loader = yaml.SafeLoader(text)
            self._root: Any = loader.get_single_node()
            self.problems = list(_given_twice(self._root, "", set()))
            self.value: Any = None if self._root is None else loader.construct_document(self._root)
        except yaml.YAMLError as error:
            raise ConfigError([_yaml_problem(error)]) from error
        except (RecursionError, ValueError) as error:  # nested without end; a date like 2024-99-99
            raise ConfigError([Problem("", f"is not valid YAML: {error}")]) from error

    def line(self, path: str) -> int | None:
        """The line of a setting, or of the innermost group around it that the file has."""
        node, line = self._root, None
        while path and (step := _step(node, path)) is not None:
            node, line, path = step
        return line


def _step(node: Any, path: str) -> tuple[Any, int, str] | None:
    """The node below that the path leads through, its line, and the rest of the path.

    A key may have dots in it, so the longest one that fits is taken.
    """
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    keys = [(str(key.value), key, value) for key, value in pairs if isinstance(key, yaml.ScalarNode)]
    fitting = [each for each in keys if path == each[0] or path.startswith((f"{each[0]}.", f"{each[0]}["))]
    if fitting:
        name, key, value = max(reversed(fitting), key=lambda each: len(each[0]))  # the last one counts
        return value, key.start_mark.line + 1, path[len(name) :].removeprefix(".")
    index, bracket, rest = path.removeprefix("[").partition("]")
    items = node.value if isinstance(node, yaml.SequenceNode) else ()
    if path.startswith("[") and bracket and int(index) < len(items):
        item = items[int(index)]
        return item, item.start_mark.line + 1, rest.removeprefix(".")
    return None


def _given_twice(node: Any, path: str, seen: set[int]) -> Iterator[Problem]:
    """``seen``: nodes that were looked at, since an alias may lead to one again."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    first: dict[str, int] = {}
    for number, each in enumerate(node.value):
        if isinstance(node, yaml.SequenceNode):
            yield from _given_twice(each, f"{path}[{number}]", seen)
            continue
        key, value = each
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        line = key.start_mark.line + 1
        if name in first and name != "<<":
            message = f"is set twice; it is already set on line {first[name]}"
            yield Problem(join(path, name), message, line)
        first.setdefault(name, line)
        yield from _given_twice(value, join(path, name), seen)


def _yaml_problem(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    if "\\t" in what:
        what += ". Indent with spaces"
    place = f"column {mark.column + 1}: " if mark else ""
    return Problem("", f"{place}is not valid YAML: {what}", mark.line + 1 if mark else None)
