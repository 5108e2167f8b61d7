"""Everything that can be known to be wrong with a configuration before a daemon starts with it.

``check``, ``run`` and ``doctor`` all judge by this.

Invariants:
- Every problem is found in one round: in the text, between settings, and in the files that settings name.
- No network is used, nothing is written and no address is tried: whether a port is free shows at run time.
- What a missing file, profile or region costs decides what it is: a problem where the daemon cannot start, a
  warning where it starts and holds a target.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from forwarder.config import Config, ConfigError, IngestConfig, Problem, load, placed
from forwarder.config import warnings as between_settings
from forwarder.files import is_other_than_directory, nearest_existing
from forwarder.ingest.auth.configured import configured
from forwarder.ingest.auth.files import read_text
from forwarder.targets import TARGETS, option_types
from forwarder.targets.surroundings import unknown_profiles, unknown_regions


class Validated(msgspec.Struct, frozen=True):
    """A configuration that a daemon can start with, and what is probably not meant in it."""

    config: Config
    warnings: list[Problem]


def validate(path: str | Path, environ: Mapping[str, str] = os.environ, *, files: bool = True) -> Validated:
    """Read and judge a file. Without ``files`` those that it names need not be on this host.

    Raises ConfigError.
    """
    config = load(path, option_types(), environ, in_files if files else None)
    _build(path, config)
    targets = config.targets
    found = [*between_settings(config), *unknown_regions(targets), *unknown_profiles(targets)]
    if files:
        found += readable_by_others(config.ingest)
    return Validated(config, placed(path, found))


def in_files(config: Config) -> Iterator[Problem]:
    """What is wrong with the files and directories that settings name."""
    yield from _senders(config.ingest)
    yield from _storage(config)
    for name in ("ingest", "admin"):
        for setting, each in getattr(config, name).listen.places(f"{name}.listen"):
            if each.socket_path is not None:
                yield from _socket(setting, Path(each.socket_path))


def _senders(ingest: IngestConfig) -> Iterator[Problem]:
    named: Iterable[tuple[str, str | None]] = (
        ("auth.tokens", ingest.auth.tokens),
        ("auth.access_keys", ingest.auth.access_keys),
        *(
            (f"tls.{field}", getattr(ingest.tls, field, None))
            for field in ("certificate", "key", "client_ca")
        ),
    )
    tls = ingest.tls
    unreadable = {"ingest.tls"} if tls is not None and not (tls.certificate and tls.key) else set()
    for field, path in named:
        try:
            if path:
                read_text(path)
        except (OSError, ValueError) as error:
            unreadable.add("ingest.tls" if field.startswith("tls.") else f"ingest.{field}")
            yield Problem(f"ingest.{field}", f"{path} cannot be read: {_reason(error)}")
    for file in configured(ingest):
        if file is not None and file.setting not in unreadable:
            reading = file.look(anyway=True)
            if reading is not None and reading.problem:
                yield Problem(file.setting, reading.problem.removeprefix(f"{file.setting}: "))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def readable_by_others(ingest: IngestConfig) -> Iterator[Problem]:
    """A warning for each file of secrets that other users can read."""
    for file in configured(ingest):
        reading = None if file is None else file.look(anyway=True)
        if file is not None and reading is not None and reading.warning:
            yield Problem(file.setting, reading.warning.removeprefix(f"{file.setting}: "))


def _storage(config: Config) -> Iterator[Problem]:
    try:
        there = nearest_existing(config.storage.directory().absolute())
    except RuntimeError:  # no home, which is a problem of the setting already
        return
    if is_other_than_directory(there):
        yield Problem("storage.path", f"must be a directory, but {there} is {_what(there)}")


def _socket(setting: str, path: Path) -> Iterator[Problem]:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            yield Problem(setting, f"must be free for a socket, but {path} is {_what(path)}")
    except NotADirectoryError:
        yield Problem(setting, f"must be in a directory, but {path.parent} is not one")
    except OSError:
        pass  # nothing is there, or the daemon's user sees more than this one


def _what(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a symbolic link to nothing"
    return "a file" if path.is_file() else "a directory" if path.is_dir() else "not a directory"


def _build(path: str | Path, config: Config) -> None:
    problems = []
    for name, options in config.targets.items():
        try:
            TARGETS[options.kind].build(name, options)
        except ValueError as error:
            problems.append(Problem(f"targets.{name}", str(error)))
    if problems:
        raise ConfigError(placed(path, problems))
