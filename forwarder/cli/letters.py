"""``forwarder dead-letters``: reading them with or without a daemon, putting them back, deleting them."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwarder.cli.common import (
    EXIT_CONFIG,
    EXIT_NOT_FOUND,
    EXIT_OK,
    EXIT_STORAGE,
    EXIT_USAGE,
    Arguments,
    add_storage,
    storage,
    with_storage,
)
from forwarder.cli.control import add_socket, socket_of
from forwarder.cli.terminal import json_for_terminal

if TYPE_CHECKING:
    from forwarder.dead_letters import Wanted


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("dead-letters", help="the events that were given up on")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, sentence in (
        ("list", _list, "one line each, oldest first"),
        ("export", _export, "as JSON lines, oldest first"),
    ):
        action = actions.add_parser(name, help=sentence)
        _add_filters(action)
        add_storage(action)
        action.set_defaults(command=_read, action=function)
    show = actions.add_parser("show", help="one of them, by its id")
    show.add_argument("id")
    add_storage(show)
    show.set_defaults(command=_read, action=_show)
    replay = actions.add_parser("replay", help="put them back into the queues of a running daemon")
    _add_filters(replay)
    replay.add_argument("--rate", type=_rate, metavar="N", help="at most N events a second")
    add_socket(replay)
    replay.set_defaults(command=_replay)
    purge = actions.add_parser("purge", help="delete them")
    _add_filters(purge)
    purge.add_argument("--all", action="store_true", help="every one: needed where nothing else says which")
    purge.add_argument("--yes", action="store_true", help="do it; without, only say how many there are")
    add_storage(purge)
    purge.set_defaults(command=_purge)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target")
    parser.add_argument("--reason", choices=("rejected", "expired", "purged"))
    parser.add_argument("--code", help="AWS's error code")
    moment = "a time like 2026-11-21T08:00:00Z, or an age like 2h"
    parser.add_argument("--since", type=_moment, metavar="TIME", help=f"given up on since then: {moment}")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="given up on before then")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N")


def _moment(text: str) -> float:
    """Seconds since 1970 for a time (UTC unless it says otherwise), or for an age."""
    from forwarder.config import Duration

    try:
        return time.time() - Duration.parse(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"expected a time like 2026-11-21T08:00:00Z or an age like 90s, 2h or 7d, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _filters(arguments: Arguments) -> dict[str, Any]:
    """The filters that were given."""
    names = ("target", "reason", "code", "since", "until", "limit")
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _wanted(arguments: Arguments) -> Wanted:
    from forwarder.dead_letters import Wanted

    return Wanted(**_filters(arguments))


def _read(arguments: Arguments) -> int:
    return with_storage(arguments, arguments.action)


def _list(directory: Path, arguments: Arguments) -> int:
    from forwarder.dead_letters import list_
    from forwarder.logs import one_line

    found = False
    for letter in list_(directory, _wanted(arguments)):
        found = True
        print(letter.id, letter.target, letter.reason, letter.code, one_line(letter.message), sep="\t")
    _say_what_there_is(directory, found)
    return EXIT_OK


def _export(directory: Path, arguments: Arguments) -> int:
    from forwarder.dead_letters import export

    found, on_terminal = False, sys.stdout.isatty()
    for line in export(directory, _wanted(arguments)):
        found = True
        if on_terminal:
            line = json_for_terminal(line.decode("utf-8", "replace")).encode()
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    _say_what_there_is(directory, found)
    return EXIT_OK


def _say_what_there_is(directory: Path, found: bool) -> None:
    """On stderr, to who found nothing: a name that was mistyped finds nothing too."""
    from forwarder.dead_letters import counts

    if not found:
        there = ", ".join(f"{target}: {count}" for target, count in counts(directory).items())
        print(f"no dead letter matches; there are {there}" if there else "there are none", file=sys.stderr)


def _show(directory: Path, arguments: Arguments) -> int:
    import msgspec

    from forwarder.dead_letters import as_json, show

    letter = show(directory, arguments.id)
    if letter is None:
        print(f"there is no dead letter {arguments.id} in {directory}", file=sys.stderr)
        return EXIT_NOT_FOUND
    text = msgspec.json.format(as_json(letter), indent=2).decode()
    print(json_for_terminal(text) if sys.stdout.isatty() else text)
    return EXIT_OK


def _replay(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    socket = socket_of(arguments)
    if socket is None:
        return EXIT_CONFIG
    return asyncio.run(client.replay(socket, _filters(arguments), arguments.rate))


def _purge(arguments: Arguments) -> int:
    if not _filters(arguments) and not arguments.all:
        print(
            "which? give --target, --reason, --code, --since, --until or --limit, or --all", file=sys.stderr
        )
        return EXIT_USAGE
    return with_storage(arguments, _purge_in)


def _purge_in(directory: Path, arguments: Arguments) -> int:
    import asyncio

    from forwarder import client
    from forwarder.dead_letters import counts, purge

    if not arguments.yes:
        count = sum(counts(directory, _wanted(arguments)).values())
        print(f"{count} dead letters would be deleted; add --yes to delete them")
        return EXIT_OK
    where = storage(arguments)
    assert where is not None  # it named the directory
    try:
        purged = asyncio.run(client.purge(where.control_socket(), _filters(arguments)))
    except client.Unreachable:  # no daemon runs: its lock says so, or refuses
        counts(directory)  # a directory without a storage gets none by this
        purged = asyncio.run(purge(directory, _wanted(arguments)))
    except (client.Later, client.Refused) as problem:
        print(problem, file=sys.stderr)
        return EXIT_STORAGE
    print(f"{purged} dead letters deleted")
    return EXIT_OK
