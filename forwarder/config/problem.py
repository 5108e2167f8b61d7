"""What is wrong with a configuration: each problem with its setting, and where it stands in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One of them. ``path``: the full path of the setting, "" for the file as a whole.

    ``line``: where it stands, from 1. ``about``: other settings that the message judges as well. A problem is
    left out if one of those could not be read, because it may vanish with that error.
    """

    path: str
    message: str
    line: int | None = None
    about: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message

    def below(self, path: str) -> Problem:
        """The same problem of a group that stands at ``path``."""
        return msgspec.structs.replace(
            self, path=join(path, self.path), about=tuple(join(path, each) for each in self.about)
        )


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems

    def lines(self, file: str | Path) -> Iterator[str]:
        """For people: a line for each, which begins with the file and the line as compilers write it."""
        return (located(file, problem) for problem in self.problems)


def located(file: str | Path, problem: Problem) -> str:
    """The problem in one line, after its place."""
    place = f"{file}:{problem.line}" if problem.line else str(file)
    return f"{place}: {problem}"


@runtime_checkable
class Checked(Protocol):
    """Settings that must fit together. Paths are those of the fields, without the group's own path."""

    def problems(self) -> Iterable[Problem]: ...


def join(path: str, key: object) -> str:
    return f"{path}.{key}" if path and str(key) else path or str(key)
