"""``forwarder status``: what a running daemon is doing, once or on a screen that refreshes."""

from __future__ import annotations

import argparse

from forwarder.cli import place
from forwarder.cli.common import Arguments

WATCH_SECONDS = 2.0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _status(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    url = place.url(arguments, "admin")
    if arguments.watch is not None:
        return asyncio.run(client.watch(url, arguments.watch))
    return asyncio.run(client.status(url, arguments.json))
