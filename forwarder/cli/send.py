"""``forwarder send``: lines of events from a file or standard input into a running daemon.

Invariants:
- A file in the place of the target is never taken for the name of one, and what is read is said where a
  person could wait for it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

from forwarder.cli import place
from forwarder.cli.common import Arguments, CommandError
from forwarder.exit_codes import EXIT_USAGE

if TYPE_CHECKING:
    import argparse

STDIN = "-"
_is_target = re.compile(r"[a-z0-9_-]{1,64}").fullmatch


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("send", help="send events, one JSON object per line, to a running daemon")
    parser.add_argument(
        "target", nargs="?", help="the name of a target; default: the target in each line of a dump"
    )
    parser.add_argument("file", nargs="?", default=STDIN, help="default: standard input")
    place.add(parser, "ingest")
    parser.set_defaults(command=_send)


def _send(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    target, file = arguments.target, arguments.file
    _judge(target, file)
    meant = _with_a_target(target) if file == STDIN and target and os.path.isfile(target) else ""
    with _open(file) as source:
        return asyncio.run(client.send(place.url(arguments, "ingest"), target, source, meant))


def _judge(target: str | None, file: str) -> None:
    """Raise CommandError for arguments that cannot be meant; say it where the terminal is read."""
    reads_terminal = file == STDIN and sys.stdin is not None and sys.stdin.isatty()
    if target is None:
        if reads_terminal:
            usage = "forwarder send TARGET FILE, or forwarder send < FILE for the lines of a dump"
            raise CommandError(EXIT_USAGE, f"no target given, and standard input is a terminal. Use: {usage}")
        return
    if target == STDIN or not _is_target(target):
        raise CommandError(EXIT_USAGE, f'"{target}" is not the name of a target. {_meant(target, file)}')
    if reads_terminal and os.path.isfile(target):
        raise CommandError(
            EXIT_USAGE,
            f'"{target}" is a file, and no target is given. Did you mean: '
            f"{_with_a_target(target)}? To type events for a target of that name: "
            f"forwarder send {target} /dev/stdin",
        )
    if reads_terminal:
        print("reading events from the terminal, one JSON object per line; Ctrl-D ends", file=sys.stderr)


def _meant(target: str, file: str) -> str:
    if file != STDIN and _is_target(file):
        return f"Did you mean: forwarder send {file} {shlex.quote(target)}?"
    if target == STDIN or os.path.exists(target) or "/" in target or "." in target:
        return f"Did you mean: {_with_a_target(target)}?"
    return "It must be 1 to 64 of a-z, 0-9, _ and -"


def _with_a_target(file: str) -> str:
    return f"forwarder send TARGET {shlex.quote(file)}"


def _open(name: str) -> io.BufferedReader:
    """A file, or standard input for ``-``. Raises CommandError."""
    try:
        if name != STDIN:
            return open(name, "rb")
        if sys.stdin is None:
            raise CommandError(EXIT_USAGE, "standard input is closed: give a FILE, or pipe events in")
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(EXIT_USAGE, f"{name} cannot be read: {reason}") from None
