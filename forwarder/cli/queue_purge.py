"""``forwarder queue purge``: moves waiting events to the dead letters, or deletes them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwarder.cli import place
from forwarder.cli.common import Arguments, with_storage
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_IO, EXIT_OK, EXIT_USAGE
from forwarder.nearest import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from forwarder.dead_letters import DeadLetters
    from forwarder.queues.queue import Bury, Chosen, NameOf

ROOM = (
    "nothing was moved: as dead letters, {events} need {bytes} bytes, and only {room} bytes are free. Export "
    "and purge dead letters, raise storage.dead_letters.max_bytes, choose fewer events, or delete the "
    "events with --delete --yes"
)


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("purge", help="move queued events to the dead letters, or delete them")
    parser.add_argument("--target", required=True, help="the target whose queue to purge")
    parser.add_argument("--name", help="only events for this bus, app monitor or project")
    parser.add_argument(
        "--bus", dest="name", type=_bus, metavar="NAME", help="the same as --name, for an event bus"
    )
    for option in ("--app-monitor", "--project"):
        parser.add_argument(option, dest="name", metavar="NAME", help="the same as --name")
    parser.add_argument(
        "--older-than",
        type=_seconds,
        metavar="AGE",
        help="only events older than this, such as 90s or 1h",
    )
    parser.add_argument("--delete", action="store_true", help="delete the events instead of keeping them")
    parser.add_argument(
        "--yes", action="store_true", help="with --delete: delete; without --yes, events are only counted"
    )
    place.add(parser, "control")
    parser.set_defaults(command=_purge)


def _bus(text: str) -> str:
    return "" if text == "default" else text


def _seconds(text: str) -> float:
    from forwarder.config import Duration

    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _purge(arguments: Arguments) -> int:
    if arguments.yes and not arguments.delete:
        print("--yes can only be used with --delete", file=sys.stderr)
        return EXIT_USAGE
    return with_storage(arguments, place.storage(arguments), _purge_in)


def _purge_in(directory: Path, arguments: Arguments) -> int:
    import asyncio

    from forwarder import client
    from forwarder.queues.offline import UnknownTargetError

    try:
        try:
            return asyncio.run(_running(arguments))
        except client.Unreachable:  # no daemon runs: its lock says so, or refuses
            return asyncio.run(_stopped(directory, arguments))
    except UnknownTargetError as error:
        print(f"{arguments.target}: no such target in this storage; it has: {error}", file=sys.stderr)
        return EXIT_INCOMPLETE
    except client.Refused as problem:
        print(problem, file=sys.stderr)
        return EXIT_INCOMPLETE
    except client.Later as problem:
        print(problem, file=sys.stderr)
        return EXIT_IO


async def _running(arguments: Arguments) -> int:
    """Through the control socket; Unreachable when there is none."""
    from forwarder import client

    socket, chosen = place.socket(arguments), _chosen(arguments)
    count = await client.count_queue(socket, arguments.target, chosen)
    code = _may(arguments, **count)
    if code is not None:
        return code
    return _done(arguments, await client.purge_queue(socket, arguments.target, chosen))


async def _stopped(directory: Path, arguments: Arguments) -> int:
    """In the storage's file, with its lock."""
    from forwarder import logs
    from forwarder.clock import this_boot
    from forwarder.control.rescues import RESCUES
    from forwarder.dead_letters import ROW_OVERHEAD_BYTES, DeadLetters, LettersFull
    from forwarder.dead_letters import counts as letters_of
    from forwarder.queues.offline import Offline, purge
    from forwarder.storage import Storage

    logs.configure("warning")
    letters_of(directory)  # a directory without a storage gets none by this
    where = place.storage(arguments)
    file = Storage(directory, rescues=RESCUES)
    await file.open()
    try:
        letters = DeadLetters(
            file, max_bytes=where.dead_letters_bytes, max_age=float(where.dead_letters.max_age)
        )
        await letters.open()
        message = "purged from the queue by an operator"
        moment = time.time(), time.monotonic(), this_boot()
        bury = None if arguments.delete else _burial(letters, arguments.target, message)
        chosen, offline = _as_chosen(arguments), Offline(_name_of, bury, *moment)
        events, size = await purge(file, arguments.target, chosen, offline, dry=True)
        needed = size + events * (ROW_OVERHEAD_BYTES + len(message))
        code = _may(arguments, events, needed, letters.room)
        if code is not None:
            return code
        purged, _ = await purge(file, arguments.target, chosen, offline)
    except LettersFull as problem:
        print(problem, file=sys.stderr)
        return EXIT_INCOMPLETE
    finally:
        await file.close()
    return _done(arguments, purged)


def _may(arguments: Arguments, events: int, bytes: int, room: int) -> int | None:
    """The exit code if there is nothing to do, after the reason is printed."""
    if arguments.delete and not arguments.yes:
        print(f"{plural(events, 'event')} would be deleted; add --yes to delete them")
        return EXIT_OK
    if not arguments.delete and bytes > room:
        print(ROOM.format(events=plural(events, "event"), bytes=bytes, room=room), file=sys.stderr)
        return EXIT_INCOMPLETE
    return None


def _done(arguments: Arguments, purged: int) -> int:
    print(f"{plural(purged, 'event')} {'deleted' if arguments.delete else 'moved to the dead letters'}")
    return EXIT_OK


def _chosen(arguments: Arguments) -> dict[str, Any]:
    given = {"name": arguments.name, "older_than": arguments.older_than}
    return {name: value for name, value in given.items() if value is not None} | {"delete": arguments.delete}


def _as_chosen(arguments: Arguments) -> Chosen:
    from forwarder.queues.queue import Chosen

    return Chosen(**_chosen(arguments))


def _name_of(kind: str) -> NameOf:
    """How the events of a kind are named; of a kind that is not known none has a name."""
    from forwarder.targets import api_of

    api = api_of(kind)
    return (lambda body, key: "") if api is None else api().name_of


def _burial(letters: DeadLetters, target: str, message: str) -> Callable[[str], Bury]:
    """By the kind of the target: what keeps its events as dead letters."""
    from forwarder.model import STORED_JSON
    from forwarder.targets import api_of

    def bury(kind: str) -> Bury:
        api = api_of(kind)
        codec = STORED_JSON if api is None else api.codec.stored
        return letters.burial(target, "purged", "operator", message, codec)

    return bury
