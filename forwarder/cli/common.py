"""What several commands share: the error that ends a command, and the daemon's configuration."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from forwarder.exit_codes import EXIT_IO, EXIT_USAGE

if TYPE_CHECKING:
    from forwarder.config import StorageConfig


FORWARDER_CONFIG = "FORWARDER_CONFIG"
"""Of the environment: the path of the daemon's configuration, for commands without -c."""

Arguments = argparse.Namespace


class CommandError(Exception):
    """Ends the command with ``code``, after its lines are printed on stderr."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


def config_file(arguments: Arguments) -> str:
    """The configuration of the command line, else of the environment; "" for none."""
    given: str | None = arguments.config
    return given if given is not None else os.path.expanduser(os.environ.get(FORWARDER_CONFIG, ""))


def needed_config(arguments: Arguments) -> str:
    """The same, for commands that do nothing without one. Raises CommandError."""
    if not (file := config_file(arguments)):
        raise CommandError(
            EXIT_USAGE,
            "no configuration given: use -c FILE, or set FORWARDER_CONFIG to the path of the file",
        )
    return file


def add_config(parser: argparse.ArgumentParser | argparse._MutuallyExclusiveGroup) -> None:
    """The option of commands that need the configuration itself."""
    parser.add_argument(
        "-c", "--config", metavar="FILE", help=f"the daemon's configuration (default: ${FORWARDER_CONFIG})"
    )


def with_storage(arguments: Arguments, where: StorageConfig, action: Callable[[Path, Arguments], int]) -> int:
    """Do it in the storage's directory; the exit code when there is none that can be used."""
    from forwarder.storage import StorageError

    try:
        return action(_where_it_is(where), arguments)
    except StorageError as error:
        hint = "; name the storage with -c FILE or --path DIRECTORY" if error.reason == "missing" else ""
        print(f"{error}{hint}", file=sys.stderr)
        return EXIT_IO


def _where_it_is(where: StorageConfig) -> Path:
    """The daemon's own directory; or the one that was named, where a file or a copy is in that itself."""
    from forwarder.storage import holds_storage

    own, named = where.directory(), where.parent()
    return named if not os.path.exists(own) and (os.path.isfile(named) or holds_storage(named)) else own
