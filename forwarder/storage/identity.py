"""Whether the paths of the storage still lead to the files that are open.

They do not after a deletion (``rm -r``, a cleaner of temporary files), a move, or a mount over the directory.
SQLite then goes on writing to files without a name, and every commit succeeds. A file that somebody emptied
is the same file at the same path, but shorter than its only writer left it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from forwarder.files import identity, size


class OpenFiles:
    """Files as they are at their paths when this is made, which is right after they were opened."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: found for path in paths if (found := identity(path)) is not None}
        self._sizes = {path: size(path) for path in self._known}

    def is_there(self, path: Path) -> bool:
        """Whether the open file is at its path."""
        return self._known.get(path) == identity(path)

    def missing(self) -> list[Path]:
        """The paths that lead nowhere, or to another file. Raises OSError."""
        return [path for path, known in self._known.items() if identity(path) != known]

    def note_sizes(self) -> None:
        """Only this process writes, and is done with it for now."""
        self._sizes = {path: size(path) for path in self._known}

    def shorter(self) -> list[Path]:
        """The open files at their paths that are shorter than when their sizes were noted."""
        return [path for path, before in self._sizes.items() if size(path) < before and self.is_there(path)]
