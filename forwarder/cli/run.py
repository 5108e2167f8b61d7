"""``forwarder run``: the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwarder.cli.common import Arguments, add_config, needed_config

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run the daemon")
    add_config(parser)
    parser.set_defaults(command=_run)


def _run(arguments: Arguments) -> int:
    from forwarder import daemon

    return daemon.main(needed_config(arguments))
