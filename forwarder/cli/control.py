"""``forwarder pause``, ``resume`` and ``flush``: what an operator tells a running daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forwarder.cli.common import EXIT_CONFIG, Arguments, add_storage, storage

if TYPE_CHECKING:
    import argparse

_SENTENCES = {
    "pause": "hold a target: what comes for it waits, until resume or a restart",
    "resume": "end a pause",
    "flush": "try what waits now, whatever it waits for",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, sentence in _SENTENCES.items():
        parser = commands.add_parser(name, help=sentence)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("target", nargs="?", help="the name of one of the daemon's targets")
        which.add_argument("--all", action="store_true", help="every target")
        add_socket(parser)
        parser.set_defaults(command=_operate, operation=name)


def add_socket(parser: argparse.ArgumentParser) -> None:
    """The ways to say where the control socket is."""
    add_storage(parser).add_argument("--socket", metavar="PATH", help="the daemon's control socket")


def socket_of(arguments: Arguments) -> Path | None:
    """The control socket; None when the configuration that should say so is bad."""
    if arguments.socket is not None:
        return Path(arguments.socket)
    where = storage(arguments)
    return None if where is None else where.control_socket()


def _operate(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    socket = socket_of(arguments)
    if socket is None:
        return EXIT_CONFIG
    return asyncio.run(client.operate(socket, arguments.operation, arguments.target))
