"""The commands, thin: they read arguments, call one function, and turn what it says into an exit code.

Invariants:
- What a command needs is imported when it runs: ``--version`` and ``--help`` load no library.
- Results go to stdout, everything else to stderr.
- Exit codes: 0 done, 1 not all of it could be done (events refused, letters or a target not there, damage
  found, not well), 2 wrong arguments, 3 stopped with losses, 69 nobody answers, 70 internal, 74 the storage
  cannot be read, 75 cannot start now, 78 bad configuration.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from forwarder import __version__
from forwarder.cli import control, doctor, health, letters, queues
from forwarder.cli.common import (
    EXIT_CONFIG,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_STORAGE,
    EXIT_USAGE,
    Arguments,
    load,
)

__all__ = [
    "EXIT_CONFIG",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_FOUND",
    "EXIT_OK",
    "EXIT_STORAGE",
    "EXIT_USAGE",
    "main",
]

INGEST = "http://127.0.0.1:2780"
ADMIN = "http://127.0.0.1:2781"
SANDBOX = "127.0.0.1:2790"
WATCH_SECONDS = 2.0


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
    health.add(commands, ADMIN)
    doctor.add(commands)
    _add_token(commands)
    _add_sandbox(commands)
    control.add(commands)
    letters.add(commands)
    queues.add(commands)
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
    parser.add_argument(
        "target", nargs="?", help="one of the daemon's targets; default: the one that each dumped line names"
    )
    parser.add_argument("file", nargs="?", default="-", help="default: standard input")
    parser.add_argument("--url", default=INGEST, help=f"http://host:port or unix:/path (default {INGEST})")
    parser.set_defaults(command=_send)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("status", help="show what a running daemon is doing")
    parser.add_argument("--url", default=ADMIN, help=f"the admin listener (default {ADMIN})")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="as JSON")
    how.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"again and again, with the last 15 minutes, until q or Ctrl-C (default {WATCH_SECONDS:g})",
    )
    parser.set_defaults(command=_status)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0 seconds")
    return seconds


def _add_token(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("token", help="make a bearer token, and its line for ingest.auth.tokens")
    parser.add_argument("name", help="of the sender that will have it, as metrics show it")
    parser.set_defaults(command=_token)


def _token(arguments: Arguments) -> int:
    from forwarder.ingest.auth import tokens

    if not tokens.NAME.fullmatch(arguments.name):
        print("a sender's name has 1 to 64 letters, digits, or _.@-", file=sys.stderr)
        return EXIT_USAGE
    token, line = tokens.make(arguments.name)
    print(
        "the token, which is shown this once, then its line for the file of ingest.auth.tokens:",
        file=sys.stderr,
    )
    print(f"{token}\n{line}")
    return EXIT_OK


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
    from forwarder.targets import known_apis

    try:
        settings = SandboxSettings(
            listen=arguments.listen,
            upstream=arguments.upstream,
            require_auth=arguments.require_auth,
            keep=not arguments.no_keep,
            buses=tuple(arguments.bus),
            app_monitors=tuple(arguments.app_monitor),
            projects=tuple(arguments.project),
            apis=known_apis(),
        )
    except ValueError as error:
        print(f"the sandbox cannot start: {error}", file=sys.stderr)
        return EXIT_USAGE
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
    config = load(arguments.config)
    if config is None:
        return EXIT_CONFIG
    from forwarder.config import tokens_in_clear

    if warning := tokens_in_clear(config.ingest):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{arguments.config} is good: {len(config.targets)} targets ({', '.join(config.targets)})")
    return EXIT_OK


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

    if arguments.watch is not None:
        return asyncio.run(client.watch(arguments.url, arguments.watch))
    return asyncio.run(client.status(arguments.url, arguments.json))
