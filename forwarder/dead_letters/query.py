"""Dead letters as they are read: which, how many, one by one; by the daemon, and by people without one.

Invariants:
- Readers need no daemon, and disturb none.
- A directory in which no daemon ever kept a letter has none.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from forwarder.model import STORED_JSON
from forwarder.storage import Connection, open_read_only

BatchOf = Callable[[bytes], str]
"""The name of the batch that events of this key must stay in, "" when there is none."""


class Letter(msgspec.Struct, frozen=True, gc=False):
    """One dead letter. Times are seconds since 1970; ``key`` and ``body`` are the Event's; ``codec``: how the
    body is encoded (``Codec.stored``). ``damaged``: it is not as it was written."""

    id: str
    target: str
    reason: str
    code: str
    message: str
    attempts: int
    received_at: float
    died_at: float
    size: int
    key: bytes
    body: bytes
    codec: int = STORED_JSON
    damaged: bool = False


_FIELDS = Letter.__struct_fields__[:-1]
COLUMNS = ", ".join(_FIELDS)
values_of = attrgetter(*_FIELDS)
"""What is in the columns."""

_encode = msgspec.msgpack.Encoder().encode

_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'dead_letters'"
_HAS = "SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = ?"


PAGE_BYTES = 4 << 20
"""Of letters that are read at once."""


class Page(NamedTuple):
    """Letters with their positions, oldest first. ``through``: the last position there was."""

    letters: list[tuple[int, Letter]]
    through: int


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which letters: those that match every member given. Times are seconds since 1970, of their death;
    ``after`` and ``through`` are positions."""

    target: str | None = None
    reason: str | None = None
    code: str | None = None
    since: float | None = None
    until: float | None = None
    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    after: int | None = None
    through: int | None = None


def checksum_of(letter: Letter) -> int:
    return zlib.crc32(_encode(values_of(letter)))


def _letter(values: Sequence[Any], crc: int | None) -> Letter:
    """As it was read; an earlier version wrote no checksum."""
    letter = Letter(*values)
    is_sound = crc is None or crc == checksum_of(letter)
    return letter if is_sound else msgspec.structs.replace(letter, damaged=True)


def columns_with(codec: bool, checksum: bool) -> str:
    """All that is read of a letter: its fields and its checksum.

    A table of an earlier version has no encoding, which then is JSON, or no checksum.
    """
    fields = COLUMNS if codec else f"{COLUMNS.removesuffix('codec')}{STORED_JSON}"
    return f"{fields}, {'crc' if checksum else 'NULL'}"


def _columns(connection: Connection) -> str:
    codec, checksum = (connection.execute(_HAS, [name]).fetchone() is not None for name in ("codec", "crc"))
    return columns_with(codec, checksum)


def condition_of(wanted: Wanted) -> tuple[str, list[Any]]:
    tests = {
        "target = ?": wanted.target,
        "reason = ?": wanted.reason,
        "code = ?": wanted.code,
        "died_at >= ?": wanted.since,
        "died_at < ?": wanted.until,
        "position > ?": wanted.after,
        "position <= ?": wanted.through,
    }
    given = {test: value for test, value in tests.items() if value is not None}
    where = f"WHERE {' AND '.join(given)} " if given else ""
    limit = -1 if wanted.limit is None else wanted.limit
    return f"{where}ORDER BY position LIMIT ?", [*given.values(), limit]


def page_of(connection: Connection, wanted: Wanted, max_bytes: int, batch_of: BatchOf) -> Page:
    (last,) = connection.execute("SELECT coalesce(max(position), 0) FROM dead_letters").fetchone()
    condition, values = condition_of(msgspec.structs.replace(wanted, limit=None))
    letters: list[tuple[int, Letter]] = []
    columns = _columns(connection)
    rows = connection.execute(f"SELECT position, {columns} FROM dead_letters {condition}", values)
    for position, *row, crc in rows:
        letter = _letter(row, crc)
        max_bytes -= len(letter.body)
        is_full = len(letters) == wanted.limit or (letters and max_bytes < 0)
        if is_full and not (letters and letter.key == letters[-1][1].key and batch_of(letter.key)):
            break
        letters.append((position, letter))
    return Page(letters, last if wanted.through is None else wanted.through)


def counts_of(connection: Connection, wanted: Wanted) -> dict[str, int]:
    condition, values = condition_of(wanted)
    if not connection.execute(_TABLE).fetchone():
        return {}
    chosen = f"SELECT target FROM dead_letters {condition}"
    counts = f"SELECT target, count(*) FROM ({chosen}) GROUP BY target ORDER BY target"
    return dict(connection.execute(counts, values))


def list_(directory: Path, wanted: Wanted | None = None) -> Iterator[Letter]:
    """The letters, oldest first; StorageError when there is no file, or none that can be read."""
    wanted = wanted or Wanted()
    with open_read_only(directory) as connection:
        while letters := _some(connection, wanted):
            yield from (letter for _, letter in letters)
            limit = None if wanted.limit is None else wanted.limit - len(letters)
            wanted = msgspec.structs.replace(wanted, after=letters[-1][0], limit=limit)


def _some(connection: Connection, wanted: Wanted) -> list[tuple[int, Letter]]:
    """The first letters that are wanted, in one short transaction: a reader that takes its time must not
    keep a running daemon's log from being cut."""
    if wanted.limit == 0 or not connection.execute(_TABLE).fetchone():
        return []
    return page_of(connection, wanted, PAGE_BYTES, lambda key: "").letters


def counts(directory: Path, wanted: Wanted | None = None) -> dict[str, int]:
    """How many letters are wanted, by target."""
    with open_read_only(directory) as connection:
        return counts_of(connection, wanted or Wanted())


def show(directory: Path, id_: str) -> Letter | None:
    """One letter by its event's id."""
    with open_read_only(directory) as connection:
        for *row, crc in _select(connection, "WHERE id = ?", [id_]):
            return _letter(row, crc)
    return None


def export(directory: Path, wanted: Wanted | None = None) -> Iterator[bytes]:
    """The letters as JSON lines, oldest first."""
    for letter in list_(directory, wanted):
        yield as_json(letter) + b"\n"


def as_json(letter: Letter) -> bytes:
    """One letter as a JSON object on one line: ``event`` is what AWS was to get, ``key`` its envelope. A body
    that is not JSON is in Base64, and ``codec`` says so."""
    is_json = letter.codec == STORED_JSON
    mark = {"damaged": True} if letter.damaged else {}
    return msgspec.json.encode(
        {
            **mark,
            "id": letter.id,
            "target": letter.target,
            "reason": letter.reason,
            "code": letter.code,
            "message": letter.message,
            "attempts": letter.attempts,
            "received_at": _iso(letter.received_at),
            "died_at": _iso(letter.died_at),
            "size": letter.size,
            "key": _readable(letter.key),
            "event": _readable(letter.body) if is_json else letter.body,
            **({} if is_json else {"codec": letter.codec}),
        }
    )


def _select(connection: Connection, condition: str, values: list[Any]) -> Iterator[tuple[Any, ...]]:
    if connection.execute(_TABLE).fetchone():  # a daemon that never got to open them has left no table
        yield from connection.execute(f"SELECT {_columns(connection)} FROM dead_letters {condition}", values)


def _readable(data: bytes) -> msgspec.Raw | str:
    """A JSON object as it is, anything else as text; always fit for one line."""
    try:
        if data.startswith(b"{") and b"\n" not in data:
            return msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        pass
    return data.decode("utf-8", "replace")


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
