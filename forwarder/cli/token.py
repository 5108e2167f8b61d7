"""``forwarder token``: a new bearer token for one sender.

Invariants:
- The token goes to stdout only, and is stored nowhere: the file of tokens has its SHA-256.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from forwarder.cli.common import Arguments
from forwarder.exit_codes import EXIT_OK, EXIT_USAGE

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "token",
        help="create a bearer token, and print the line to add to the tokens file (ingest.auth.tokens)",
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
