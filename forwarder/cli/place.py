"""Where the daemon is: the options that every command shares, and what each command makes of them.

Invariants:
- One precedence for all: an option of the command line, then the file that FORWARDER_CONFIG names, then the
  daemon's defaults.
- Of the configuration only what is needed is read, so that a variable of the daemon's environment which this
  command does not have spoils nothing.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from forwarder.cli.common import Arguments, CommandError, add_config, config_file
from forwarder.exit_codes import EXIT_CONFIG, EXIT_UNAVAILABLE, EXIT_USAGE
from forwarder.sockets import url_of

if TYPE_CHECKING:
    from forwarder.config import StorageConfig

PORTS = {"ingest": "http://localhost:2780", "admin": "http://localhost:2781"}
"""The defaults of both listeners."""

_URLS = {
    "ingest": f"the daemon's ingest.listen: http://host:port or unix:/path (default {PORTS['ingest']})",
    "admin": f"the daemon's admin.listen: http://host:port or unix:/path (default {PORTS['admin']})",
    "control": "the daemon's control socket: unix:/path",
}


def add(parser: argparse.ArgumentParser, listener: str) -> argparse._MutuallyExclusiveGroup:
    """The options that say where the daemon is. ``listener``: whom the command talks to: ``ingest``,
    ``admin`` or ``control``. Others may be added."""
    where = parser.add_mutually_exclusive_group()
    add_config(where)
    where.add_argument("--path", metavar="DIRECTORY", help="the daemon's storage.path")
    where.add_argument("--url", metavar="URL", help=_URLS[listener])
    return where


def add_socket(parser: argparse.ArgumentParser) -> None:
    """The same, for what changes the state of a daemon; ``--socket`` is a plain path for ``--url``."""
    add(parser, "control").add_argument("--socket", metavar="PATH", help="the same as --url unix:PATH")


def storage(arguments: Arguments) -> StorageConfig:
    """The daemon's storage. Raises CommandError."""
    from forwarder.config import ConfigError, StorageConfig, storage_of
    from forwarder.config.settings import OWN_DIRECTORY

    if (given := _given_socket(arguments)) is not None:
        directory = given.parent.parent if given.parent.name == OWN_DIRECTORY else given.parent
        return StorageConfig(path=str(directory))
    if arguments.path is not None:
        if not arguments.path:
            raise CommandError(EXIT_USAGE, "--path: must not be empty")
        return StorageConfig(path=os.path.abspath(os.path.expanduser(arguments.path)))
    if not (file := config_file(arguments)):
        found = StorageConfig()
        for problem in found.problems():
            raise CommandError(EXIT_USAGE, f"--path: {problem.message}")
        return found
    try:
        return storage_of(file)
    except ConfigError as error:
        raise CommandError(EXIT_CONFIG, *error.lines(file)) from None


def socket(arguments: Arguments) -> Path:
    """The daemon's control socket. Raises CommandError."""
    return _given_socket(arguments) or storage(arguments).control_socket()


def url(arguments: Arguments, listener: str) -> str:
    """Where a listener of the daemon is, or the first of several. Raises CommandError."""
    return urls(arguments, listener)[0]


def urls(arguments: Arguments, listener: str) -> list[str]:
    """Everywhere that a listener of the daemon is. Raises CommandError."""
    if arguments.url is not None:
        return [checked(arguments.url)]
    if arguments.path is not None:
        return [_told_by_daemon(socket(arguments), listener)]
    if not (file := config_file(arguments)):
        return [PORTS[listener]]
    from forwarder.config import ConfigError, urls_from

    try:
        return urls_from(file, listener)
    except ConfigError as error:
        raise CommandError(EXIT_CONFIG, *error.lines(file)) from None


def checked(given: str) -> str:
    """A URL that can be asked; a port alone is this machine's. Raises CommandError."""
    from urllib.parse import urlsplit

    if given.startswith("unix:"):
        path = given.removeprefix("unix:")
        if path.startswith(("/", "~", ".")):
            return f"unix:{os.path.abspath(os.path.expanduser(path))}"
        raise _not_a_url(given, f"unix:{os.path.abspath(path)}" if path else "")
    if given.startswith("/"):
        raise _not_a_url(given, f"unix:{given}")
    place = url_of(given)
    try:
        parts = urlsplit(place)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        good = None
    if not good or any(character.isspace() for character in given):
        raise _not_a_url(given, "")
    return place


def _not_a_url(given: str, meant: str) -> CommandError:
    near = f' Did you mean "{meant}"?' if meant else ""
    return CommandError(
        EXIT_USAGE, f'--url: must be http://host:port, host:port, :port or unix:/path, got "{given}".{near}'
    )


def _told_by_daemon(control: Path, listener: str) -> str:
    import asyncio

    from forwarder import client

    try:
        return asyncio.run(client.listener(control, listener))
    except client.Unreachable as problem:
        raise CommandError(EXIT_UNAVAILABLE, str(problem)) from None


def _given_socket(arguments: Arguments) -> Path | None:
    """The socket that ``--socket`` or ``--url`` names, where the command is for the control socket."""
    if (given := getattr(arguments, "socket", None)) is not None:
        return Path(given).expanduser().absolute()
    if (given := arguments.url) is None:
        return None
    if not given.startswith("unix:"):
        raise CommandError(
            EXIT_USAGE,
            f'--url: must be the control socket, unix:/path, got "{given}": this command does not go over '
            "HTTP. Use --path with the storage.path, or -c with the configuration",
        )
    return Path(checked(given).removeprefix("unix:"))
