"""``forwarder queue``: what waits on the disk, read from outside, with or without a running daemon."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from forwarder.cli import place, queue_purge
from forwarder.cli.common import Arguments, config_file, with_storage
from forwarder.cli.terminal import for_terminal
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_OK
from forwarder.nearest import plural

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from forwarder.queues.offline import Damage, Lost

_DASH = "-"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "queue", help="read or purge the queues of a storage directory; needs no daemon"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, function, sentence in (
        ("check", _check, "check the file and every row for damage"),
        ("stats", _stats, "count queued events, by target"),
        ("dump", _dump, "print queued events, as lines for forwarder send"),
    ):
        action = actions.add_parser(name, help=sentence)
        place.add(action, "control").add_argument(
            "directory",
            nargs="?",
            help="the storage directory (same as --path), or a `.damaged-` file that the daemon kept",
        )
        if function is _dump:
            action.add_argument("--target", help="only the events of this target")
        action.set_defaults(command=_read, action=function)
    queue_purge.add(actions)


def _read(arguments: Arguments) -> int:
    arguments.path = arguments.path or arguments.directory
    return with_storage(arguments, place.storage(arguments), arguments.action)


def _check(directory: Path, arguments: Arguments) -> int:
    from forwarder.queues.offline import check
    from forwarder.storage import StorageError

    problems = 0
    try:
        for problem in check(directory):
            problems += 1
            print(problem)
    except StorageError as error:
        if error.reason != "damaged":
            raise
        problems += 1
        print(error)
    print(
        f"{plural(problems, 'problem')} in {directory}" if problems else f"no damage found in {directory}",
        file=sys.stderr,
    )
    return EXIT_INCOMPLETE if problems else EXIT_OK


def _stats(where: Path, arguments: Arguments) -> int:
    from forwarder.dead_letters import rescue as rescue_letters
    from forwarder.queues.salvage import rescue as rescue_queues
    from forwarder.storage import StorageError, salvaged

    try:
        _print_stats(where, arguments)
    except StorageError as error:
        if error.reason != "damaged":
            raise
        with salvaged(where, (rescue_queues, rescue_letters)) as (copy, saved):
            print(f"{error}; {saved}", file=sys.stderr)
            _print_stats(copy, arguments)
        return EXIT_INCOMPLETE
    return EXIT_OK


def _print_stats(where: Path, arguments: Arguments) -> None:
    from forwarder.client.status import as_table, span
    from forwarder.dead_letters import counts
    from forwarder.queues.offline import Depth, depths

    letters = counts(where)
    depth_of = {each.target: each for each in depths(where)}
    on_disk = _configured(arguments)
    rows: list[tuple[str, ...]] = [("TARGET", "EVENTS", "BYTES", "OLDEST", "STRANDED", "DEAD LETTERS")]
    for name in dict.fromkeys((*depth_of, *letters)):
        depth = depth_of.get(name, Depth(name, 0, 0, None))
        oldest = _DASH if depth.oldest is None else span(max(0.0, time.time() - depth.oldest))
        stranded = _DASH if on_disk is None else "yes" if depth.events and name not in on_disk else "no"
        numbers = (str(depth.events), str(depth.bytes), oldest, stranded, str(letters.get(name, 0)))
        rows.append((name, *numbers))
    print("\n".join(as_table(rows)))


def _configured(arguments: Arguments) -> set[str] | None:
    """The targets with disk queues; None when no configuration says which those are."""
    from forwarder.config import ConfigError, load
    from forwarder.targets import option_types

    if arguments.path is not None or arguments.url is not None or not (file := config_file(arguments)):
        return None
    try:
        config = load(file, option_types())
    except ConfigError as error:
        print(*error.lines(file), sep="\n", file=sys.stderr)
        return None
    return {name for name, options in config.targets.items() if options.queue.in_storage}


def _dump(where: Path, arguments: Arguments) -> int:
    from forwarder.queues.offline import UnknownTargetError, dump
    from forwarder.targets import as_native

    try:
        code = _write(dump(where, as_native, arguments.target))
    except UnknownTargetError as error:
        print(f"{arguments.target}: no such target in this storage; it has: {error}", file=sys.stderr)
        code = EXIT_INCOMPLETE
    sys.stdout.buffer.flush()
    return code


def _write(lines: Iterable[bytes | Lost | Damage]) -> int:
    code, on_terminal = EXIT_OK, sys.stdout.isatty()
    for line in lines:
        if isinstance(line, bytes):
            sys.stdout.buffer.write(for_terminal(line) if on_terminal else line)
            continue
        print(line, file=sys.stderr)
        code = EXIT_INCOMPLETE
    return code
