"""Paths of files as the configuration has them: absolute from here on.

Invariants:
- ``~`` and ``~user`` are home directories, as in a shell.
- A relative path is relative to the directory of the configuration file: the daemon and every command that
  reads the file mean the same one, wherever they are started.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec

FilePath = Annotated[str, msgspec.Meta(extra={"path": True})]
"""The type of a setting that names a file or a directory."""

_UNEXPANDED = re.compile(r"\$(\w+)")
UNIX = "unix:"


def is_path(type_: Any) -> bool:
    """Whether a setting of this type names a file."""
    metas = getattr(type_, "__metadata__", ())
    return any((getattr(meta, "extra", None) or {}).get("path") for meta in metas) or any(
        is_path(part) for part in get_args(type_)
    )


def absolute(text: str, base: Path) -> str:
    """The path, absolute. Raises ValueError with a sentence."""
    if not text:
        return text
    if "\0" in text:
        raise ValueError(f"must not contain a NUL character, got {text!r}")
    if (variable := _UNEXPANDED.match(text)) is not None:
        right = f"${{{variable[1]}}}{text[variable.end() :]}"
        raise ValueError(f'must be a path, got "{text}". Did you mean "{right}"?')
    if not text.startswith("~"):
        return str(base / text)
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = text[1:].partition("/")[0]
        why = f'there is no user "{user}" on this host' if user else "this user has no home directory"
        raise ValueError(f'must be a path, got "{text}", and {why}: write an absolute path')
    return str(Path(expanded))


def absolute_listen(text: str, base: Path) -> str:
    """As ``absolute``, for the path of a unix socket to listen on; other text as it is."""
    path = text.removeprefix(UNIX)
    return f"{UNIX}{absolute(path, base)}" if text.startswith(UNIX) and path else text
