"""What several commands share: exit codes, and where the daemon's configuration, storage and socket are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forwarder.config import Config, StorageConfig

EXIT_OK, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_STORAGE, EXIT_CONFIG = 0, 1, 2, 74, 78
EXIT_INTERRUPTED = 130

Arguments = argparse.Namespace


def load(path: str) -> Config | None:
    """The configuration; None when it is bad, and every problem was said."""
    from forwarder.config import ConfigError

    try:
        return read(path)
    except ConfigError as error:
        from forwarder import stderr

        for problem in error.problems:
            stderr.say(f"{path}: {problem}")
        return None


def read(path: str) -> Config:
    """The configuration, whose every target can be built; raises ConfigError."""
    from forwarder.config import ConfigError
    from forwarder.config import load as load_config
    from forwarder.targets import TARGETS, option_types

    config = load_config(path, option_types())
    problems = []
    for name, options in config.targets.items():
        try:
            TARGETS[options.kind].build(name, options)
        except ValueError as error:
            problems.append(f"targets.{name}: {error}")
    if problems:
        raise ConfigError(problems)
    return config


def add_storage(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """The ways to say where the storage is; more may be added."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the daemon's configuration")
    where.add_argument("--path", metavar="DIRECTORY", help="the daemon's storage.path")
    return where


def storage(arguments: Arguments) -> StorageConfig | None:
    """The storage that the arguments name; None when the configuration that should say so is bad."""
    from forwarder.config import StorageConfig

    if arguments.config is None:
        return StorageConfig(path=arguments.path)
    config = load(arguments.config)
    return None if config is None else config.storage


def with_storage(arguments: Arguments, action: Callable[[Path, Arguments], int]) -> int:
    """Do it in the storage's directory; the exit code when there is none that can be used."""
    from forwarder.storage import StorageError

    where = storage(arguments)
    if where is None:
        return EXIT_CONFIG
    try:
        return action(_where_it_is(where), arguments)
    except StorageError as error:
        print(error, file=sys.stderr)
        return EXIT_STORAGE


def _where_it_is(where: StorageConfig) -> Path:
    """The daemon's own directory; or the one that was named, where a file or a copy is in that itself."""
    from forwarder.storage import holds_storage

    own, named = where.directory(), where.parent()
    return named if not own.exists() and (named.is_file() or holds_storage(named)) else own
