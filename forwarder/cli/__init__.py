"""The commands, thin: they read arguments, call one function, and turn what it says into an exit code.

Invariants:
- What a command needs is imported when it runs: ``--version`` and ``--help`` load no library.
- Results go to stdout, everything else to stderr.
- Exit codes are those of ``exit_codes``, and of no other place.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from forwarder import __version__
from forwarder.cli import checking, control, doctor, health, letters, place, queues, sending
from forwarder.cli.common import Arguments, CommandError, add_config, needed_config
from forwarder.cli.terminal import Parser, finish, is_of_output, lost_output, prepare
from forwarder.exit_codes import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE

__all__ = ["main"]

SANDBOX = "127.0.0.1:2790"
WATCH_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    prepare()
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.command(arguments)
        return finish(code)
    except CommandError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # | head
        return finish(EXIT_OK)
    except OSError as error:
        if not is_of_output(error):
            raise
        return lost_output(error)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="forwarder",
        description="Takes events from programs on a host and delivers them to AWS.",
    )
    parser.add_argument("--version", action="version", version=f"forwarder {__version__}")
    commands: argparse._SubParsersAction[argparse.ArgumentParser] = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=Parser
    )
    _add_run(commands)
    checking.add(commands)
    sending.add(commands)
    _add_status(commands)
    health.add(commands)
    doctor.add(commands)
    _add_token(commands)
    _add_sandbox(commands)
    control.add(commands)
    letters.add(commands)
    queues.add(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run the daemon")
    add_config(parser)
    parser.set_defaults(command=_run)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("status", help="show what a running daemon is doing")
    place.add(parser, "admin")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="as JSON")
    how.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"refresh every SECONDS (default {WATCH_SECONDS:g}), with 15-minute plots; q or Ctrl-C quits",
    )
    parser.set_defaults(command=_status)


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds greater than 0, got {text!r}")
    return seconds


def _add_token(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "token", help="make a bearer token, and the line for the file of ingest.auth.tokens"
    )
    parser.add_argument("name", help="the sender's name, for metrics")
    parser.set_defaults(command=_token)


def _token(arguments: Arguments) -> int:
    from forwarder.ingest.auth import tokens

    if not tokens.NAME.fullmatch(arguments.name):
        print(f"NAME must be 1 to 64 letters, digits or _.@-, got {arguments.name!r}", file=sys.stderr)
        return EXIT_USAGE
    token, line = tokens.make(arguments.name)
    print(
        "the token (shown only now), and the line to add to the file of ingest.auth.tokens:",
        file=sys.stderr,
    )
    print(f"{token}\n{line}")
    return EXIT_OK


def _add_sandbox(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sandbox", help="run a local stand-in for AWS that records events and can inject faults"
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help=f"host:port, :port for all addresses, or unix:/path; repeatable (default {SANDBOX})",
    )
    parser.add_argument(
        "--upstream", metavar="URL", help="pass calls without an injected fault on to this EventBridge"
    )
    parser.add_argument("--require-auth", action="store_true", help="refuse unsigned calls")
    parser.add_argument("--no-keep", action="store_true", help="count events without keeping them")
    for option, noun in (("--bus", "event bus"), ("--app-monitor", "app monitor"), ("--project", "project")):
        parser.add_argument(
            option,
            action="append",
            default=[],
            metavar="NAME",
            help=f"name of an existing {noun}; repeatable",
        )
    parser.set_defaults(command=_sandbox)


def _sandbox(arguments: Arguments) -> int:
    import asyncio

    from forwarder.sandbox import SandboxSettings, serve
    from forwarder.targets import known_apis

    try:
        settings = SandboxSettings(
            listen=tuple(arguments.listen or [SANDBOX]),
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
        print(f"the sandbox cannot listen on {', '.join(settings.listen)}: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK


def _run(arguments: Arguments) -> int:
    from forwarder import daemon

    return daemon.main(needed_config(arguments))


def _status(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    url = place.url(arguments, "admin")
    if arguments.watch is not None:
        return asyncio.run(client.watch(url, arguments.watch))
    return asyncio.run(client.status(url, arguments.json))
