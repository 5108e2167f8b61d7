"""``forwarder dead-letters``: reading them with or without a daemon, putting them back, deleting them."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwarder.cli import place
from forwarder.cli.common import Arguments, with_storage
from forwarder.cli.terminal import for_terminal, json_for_terminal
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_IO, EXIT_OK, EXIT_USAGE
from forwarder.nearest import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forwarder.dead_letters import Letter, Wanted


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "dead-letters", help="list, show, export, replay or delete events that AWS rejected or that expired"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, sentence in (
        ("list", _list, "list dead letters, oldest first"),
        ("export", _export, "print dead letters as JSON lines, oldest first"),
    ):
        action = actions.add_parser(name, help=sentence)
        _add_filters(action)
        place.add(action, "control")
        action.set_defaults(command=_read, action=function)
    show = actions.add_parser("show", help="show one dead letter, by its id")
    show.add_argument("id")
    place.add(show, "control")
    show.set_defaults(command=_read, action=_show)
    replay = actions.add_parser("replay", help="put dead letters back into the queues of a running daemon")
    _add_filters(replay)
    replay.add_argument("--rate", type=_rate, metavar="N", help="at most N events a second")
    place.add_socket(replay)
    replay.set_defaults(command=_replay)
    purge = actions.add_parser("purge", help="delete dead letters")
    _add_filters(purge)
    purge.add_argument(
        "--all", action="store_true", help="delete every dead letter; required if no filter is given"
    )
    purge.add_argument(
        "--yes", action="store_true", help="delete; without --yes, dead letters are only counted"
    )
    place.add(purge, "control")
    purge.set_defaults(command=_purge)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target")
    parser.add_argument("--reason", choices=("rejected", "expired", "purged"))
    parser.add_argument("--code", help="AWS's error code")
    moment = "a time like 2026-11-21T08:00:00Z, or an age like 2h"
    parser.add_argument("--since", type=_moment, metavar="TIME", help=f"only dead letters since {moment}")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="only dead letters before TIME")
    parser.add_argument("--limit", type=_count, metavar="N", help="at most N dead letters")


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
    return with_storage(arguments, place.storage(arguments), _read_in)


def _read_in(where: Path, arguments: Arguments) -> int:
    """Read the letters there; of a damaged file what can be read, and say so."""
    from forwarder.dead_letters import rescue
    from forwarder.storage import StorageError, salvaged

    done: dict[str, bool] = {}
    try:
        code = int(arguments.action(where, arguments, done))
    except StorageError as error:
        if error.reason != "damaged":
            raise
        with salvaged(where, (rescue,)) as (copy, saved):
            print(f"{error}; {saved}", file=sys.stderr)
            arguments.action(copy, arguments, done)
        code = EXIT_INCOMPLETE
    if damaged := sum(done.values()):
        print(f"damaged dead letters (checksums do not match): {damaged}", file=sys.stderr)
        code = EXIT_INCOMPLETE
    return code


def _letters(where: Path, arguments: Arguments, done: dict[str, bool]) -> Iterator[Letter]:
    """Those that are wanted and not ``done``, which they are when the next is asked for; and whether they are
    damaged."""
    from forwarder.dead_letters import list_

    for letter in list_(where, _wanted(arguments)):
        if letter.id not in done:
            yield letter
            done[letter.id] = letter.damaged


def _list(where: Path, arguments: Arguments, done: dict[str, bool]) -> int:
    from forwarder.logs import one_line

    for letter in _letters(where, arguments, done):
        print(letter.id, letter.target, letter.reason, letter.code, one_line(letter.message), sep="\t")
    _say_what_there_is(where, bool(done))
    return EXIT_OK


def _export(where: Path, arguments: Arguments, done: dict[str, bool]) -> int:
    from forwarder.dead_letters import as_json

    on_terminal = sys.stdout.isatty()
    for letter in _letters(where, arguments, done):
        line = as_json(letter)
        sys.stdout.buffer.write((for_terminal(line) if on_terminal else line) + b"\n")
    sys.stdout.buffer.flush()
    _say_what_there_is(where, bool(done))
    return EXIT_OK


def _say_what_there_is(directory: Path, found: bool) -> None:
    """On stderr, to who found nothing: a name that was mistyped finds nothing too."""
    from forwarder.dead_letters import counts

    if not found:
        there = ", ".join(f"{target}: {count}" for target, count in counts(directory).items())
        print(
            f"no dead letter matches; stored: {there}" if there else "there are no dead letters",
            file=sys.stderr,
        )


def _show(directory: Path, arguments: Arguments, done: dict[str, bool]) -> int:
    import msgspec

    from forwarder.dead_letters import as_json, show

    letter = show(directory, arguments.id)
    if letter is None:
        print(f"there is no dead letter {arguments.id} in {directory}", file=sys.stderr)
        return EXIT_INCOMPLETE
    text = msgspec.json.format(as_json(letter), indent=2).decode()
    print(json_for_terminal(text) if sys.stdout.isatty() else text)
    return EXIT_OK


def _replay(arguments: Arguments) -> int:
    import asyncio

    from forwarder import client

    socket = place.socket(arguments)
    return asyncio.run(client.replay(socket, _filters(arguments), arguments.rate))


def _purge(arguments: Arguments) -> int:
    if not _filters(arguments) and not arguments.all:
        print(
            "choose dead letters with --target, --reason, --code, --since, --until or --limit, or --all",
            file=sys.stderr,
        )
        return EXIT_USAGE
    return with_storage(arguments, place.storage(arguments), _purge_in)


async def _purge_stopped(directory: Path, wanted: Wanted) -> int:
    from forwarder.control.rescues import RESCUES
    from forwarder.dead_letters import purge

    return await purge(directory, wanted, RESCUES)


def _purge_in(directory: Path, arguments: Arguments) -> int:
    import asyncio

    from forwarder import client, logs
    from forwarder.dead_letters import counts

    if not arguments.yes:
        count = sum(counts(directory, _wanted(arguments)).values())
        print(f"{plural(count, 'dead letter')} would be deleted; add --yes to delete them")
        return EXIT_OK
    try:
        purged = asyncio.run(client.purge(place.socket(arguments), _filters(arguments)))
    except client.Unreachable:  # no daemon runs: its lock says so, or refuses
        logs.configure("warning")
        counts(directory)  # a directory without a storage gets none by this
        purged = asyncio.run(_purge_stopped(directory, _wanted(arguments)))
    except (client.Later, client.Refused) as problem:
        print(problem, file=sys.stderr)
        return EXIT_IO
    print(f"{plural(purged, 'dead letter')} deleted")
    return EXIT_OK
