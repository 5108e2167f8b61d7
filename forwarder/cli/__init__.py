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
from forwarder.cli import (
    check,
    control,
    dead_letters,
    doctor,
    health,
    queue,
    run,
    sandbox,
    send,
    status,
    token,
)
from forwarder.cli.common import CommandError
from forwarder.cli.terminal import Parser, finish, is_of_output, lost_output, prepare
from forwarder.exit_codes import EXIT_INTERRUPTED, EXIT_OK

__all__ = ["main"]


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
    run.add(commands)
    check.add(commands)
    send.add(commands)
    status.add(commands)
    health.add(commands)
    doctor.add(commands)
    token.add(commands)
    sandbox.add(commands)
    control.add(commands)
    dead_letters.add(commands)
    queue.add(commands)
    return parser
