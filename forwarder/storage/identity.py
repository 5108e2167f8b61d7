"""Whether the paths of the storage still lead to the files that are open.

They do not after a deletion (``rm -r``, a cleaner of temporary files), a move, or a mount over the directory.
SQLite then goes on writing to files without a name, and every commit succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from forwarder.files import identity


class OpenFiles:
    """Files as they are at their paths when this is made, which is right after they were opened."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: found for path in paths if (found := identity(path)) is not None}

    def is_there(self, path: Path) -> bool:
        """Whether the open file is at its path."""
        return self._known.get(path) == identity(path)

    def missing(self) -> list[Path]:
        """The paths that lead nowhere, or to another file. Raises OSError."""
        return [path for path, known in self._known.items() if identity(path) != known]
