"""The commands, thin: they read arguments, call one function, and turn what it says into an exit code.

Invariants:
- What a command needs is imported when it runs: ``--version`` and ``--help`` load no library.
- Results go to stdout, everything else to stderr.
- Exit codes: 0 done, 1 events were refused or a letter is not there, 2 wrong arguments, 3 stopped with
  losses, 69 nobody answers, 70 internal, 74 the storage cannot be read, 75 cannot start now, 78 bad
  configuration.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forwarder import __version__

if TYPE_CHECKING:
    from forwarder.config import Config
    from forwarder.dead_letters import Wanted

EXIT_OK, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_STORAGE, EXIT_CONFIG = 0, 1, 2, 74, 78
EXIT_INTERRUPTED = 130

INGEST = "http://127.0.0.1:2780"
ADMIN = "http://127.0.0.1:2781"
SANDBOX = "127.0.0.1:2790"

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # | head
        sys.stderr.close()
        return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="forwarder",
        description="Takes events from programs on a host and gets every one of them into AWS.",
    )
    parser.add_argument("--version", action="version", version=f"forwarder {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_check(commands)
    _add_send(commands)
    _add_status(commands)
    _add_sandbox(commands)
    _add_dead_letters(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run the daemon")
    parser.add_argument("-c", "--config", required=True, metavar="FILE")
    parser.set_defaults(command=_run)


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("check", help="check a configuration, or print its schema")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("-c", "--config", metavar="FILE")
    what.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration")
    parser.set_defaults(command=_check)


def _add_send(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("send", help="send events, one JSON object per line, to a running daemon")
    parser.add_argument("target", help="the name of one of the daemon's targets")
    parser.add_argument("file", nargs="?", default="-", help="default: standard input")
    parser.add_argument("--url", default=INGEST, help=f"http://host:port or unix:/path (default {INGEST})")
    parser.set_defaults(command=_send)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("status", help="show what a running daemon is doing")
    parser.add_argument("--url", default=ADMIN, help=f"the admin listener (default {ADMIN})")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_status)


def _add_dead_letters(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("dead-letters", help="read the events that were given up on")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, sentence in (
        ("list", _list_letters, "one line each, oldest first"),
        ("export", _export_letters, "as JSON lines, oldest first"),
    ):
        action = actions.add_parser(name, help=sentence)
        action.add_argument("--target")
        action.add_argument("--reason", choices=("rejected", "expired"))
        action.add_argument("--code", help="AWS's error code")
        action.add_argument("--limit", type=int, metavar="N", help="at most N")
        _add_storage(action)
        action.set_defaults(command=_letters, action=function)
    show = actions.add_parser("show", help="one of them, by its id")
    show.add_argument("id")
    _add_storage(show)
    show.set_defaults(command=_letters, action=_show_letter)


def _add_storage(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the daemon's configuration")
    where.add_argument("--path", metavar="DIRECTORY", help="the daemon's storage.path")


def _add_sandbox(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sandbox", help="run a local AWS that records what arrives, with faults on order"
    )
    parser.add_argument("--listen", default=SANDBOX, metavar="HOST:PORT", help=f"default {SANDBOX}")
    parser.add_argument("--upstream", metavar="URL", help="another EventBridge, for calls that no fault hits")
    parser.add_argument("--require-auth", action="store_true", help="refuse calls without Authorization")
    parser.add_argument("--no-keep", action="store_true", help="only count what arrives")
    for option, noun in (("--bus", "event bus"), ("--app-monitor", "app monitor"), ("--project", "project")):
        parser.add_argument(
            option, action="append", default=[], metavar="NAME", help=f"this {noun} exists; repeatable"
        )
    parser.set_defaults(command=_sandbox)


def _sandbox(arguments: Arguments) -> int:
    import asyncio

    from forwarder.sandbox import SandboxSettings, serve

    settings = SandboxSettings(
        listen=arguments.listen,
        upstream=arguments.upstream,
        require_auth=arguments.require_auth,
        keep=not arguments.no_keep,
        buses=tuple(arguments.bus),
        app_monitors=tuple(arguments.app_monitor),
        projects=tuple(arguments.project),
    )
    try:
        asyncio.run(serve(settings))
    except (OSError, ValueError) as error:
        print(f"the sandbox cannot listen on {settings.listen}: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK


def _run(arguments: Arguments) -> int:
    from forwarder import daemon

    return daemon.main(arguments.config)


def _check(arguments: Arguments) -> int:
    if arguments.schema:
        return _print_schema()
    config = _load(arguments.config)
    if config is None:
        return EXIT_CONFIG
    print(f"{arguments.config} is good: {len(config.targets)} targets ({', '.join(config.targets)})")
    return EXIT_OK


def _load(path: str) -> Config | None:
    """The configuration; None when it is bad, and every problem was said."""
    from forwarder.config import ConfigError, load
    from forwarder.targets import TARGETS, option_types

    try:
        config = load(path, option_types())
        problems = []
        for name, options in config.targets.items():
            try:
                TARGETS[options.kind].build(name, options)
            except ValueError as error:
                problems.append(f"targets.{name}: {error}")
        if problems:
            raise ConfigError(problems)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{path}: {problem}", file=sys.stderr)
        return None
    return config


def _print_schema() -> int:
    import msgspec

    from forwarder.config import json_schema
    from forwarder.targets import option_types

    print(msgspec.json.format(msgspec.json.encode(json_schema(option_types())), indent=2).decode())
    return EXIT_OK


def _send(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    try:
        source = _open(arguments.file)
    except OSError as error:
        print(f"{arguments.file} cannot be read: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    with source:
        return asyncio.run(client.send(arguments.url, arguments.target, source))


def _open(name: str) -> io.BufferedReader:
    """A file, or standard input for ``-``."""
    file = sys.stdin.fileno() if name == "-" else name
    return open(file, "rb", closefd=name != "-")


def _status(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    return asyncio.run(client.status(arguments.url, arguments.json))


def _directory(arguments: Arguments) -> Path | None:
    """Where the letters are; None when the configuration that should say so is bad."""
    from forwarder.config import StorageConfig

    if arguments.config is None:
        return StorageConfig(path=arguments.path).directory()
    config = _load(arguments.config)
    return None if config is None else config.storage.directory()


def _wanted(arguments: Arguments) -> Wanted:
    from forwarder.dead_letters import Wanted

    return Wanted(
        target=arguments.target, reason=arguments.reason, code=arguments.code, limit=arguments.limit
    )


def _letters(arguments: Arguments) -> int:
    from forwarder.storage import StorageError

    directory = _directory(arguments)
    if directory is None:
        return EXIT_CONFIG
    try:
        code: int = arguments.action(directory, arguments)
        return code
    except StorageError as error:
        print(error, file=sys.stderr)
        return EXIT_STORAGE


def _list_letters(directory: Path, arguments: Arguments) -> int:
    from forwarder.dead_letters import list_
    from forwarder.logs import one_line

    for letter in list_(directory, _wanted(arguments)):
        print(letter.id, letter.target, letter.reason, letter.code, one_line(letter.message), sep="\t")
    return EXIT_OK


def _export_letters(directory: Path, arguments: Arguments) -> int:
    from forwarder.dead_letters import export

    for line in export(directory, _wanted(arguments)):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return EXIT_OK


def _show_letter(directory: Path, arguments: Arguments) -> int:
    import msgspec

    from forwarder.dead_letters import as_json, show

    letter = show(directory, arguments.id)
    if letter is None:
        print(f"there is no dead letter {arguments.id} in {directory}", file=sys.stderr)
        return EXIT_NOT_FOUND
    print(msgspec.json.format(as_json(letter), indent=2).decode())
    return EXIT_OK
