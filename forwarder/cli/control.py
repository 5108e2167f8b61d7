"""``forwarder pause``, ``resume`` and ``flush``: what an operator tells a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.cli import place
from forwarder.cli.common import Arguments

if TYPE_CHECKING:
    import argparse

_SENTENCES = {
    "pause": "hold a target: its events wait until resume or a restart",
    "resume": "end a pause",
    "flush": "retry everything queued now, ignoring back-off",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, sentence in _SENTENCES.items():
        parser = commands.add_parser(name, help=sentence)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("target", nargs="?", help="the name of a target")
        which.add_argument("--all", action="store_true", help="every target")
        place.add_socket(parser)
        parser.set_defaults(command=_operate, operation=name)


def _operate(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    socket = place.socket(arguments)
    return asyncio.run(client.operate(socket, arguments.operation, arguments.target))
