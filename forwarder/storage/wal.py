"""SQLite's write-ahead log, read without SQLite: is it damaged in its middle, and what is behind the damage.

SQLite reads a log up to the first frame with a wrong checksum, and ignores the rest in silence. That is right
for the torn end of a power cut: what was not synced was promised to nobody. Damage looks the same but for
what follows it (SQLite file format, section 4).

Invariants:
- A log is called damaged only where a commit behind the first bad frame is proven to have been synced: the
  log went on behind it, the shared memory file counts it, or the machine did not crash since.
- Frames of an earlier use of the log have other salts, and count as nothing. Nor do those that a transaction
  left which was rolled back: no commit of theirs is followed by a frame.
- Bounded memory: one frame at a time.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from forwarder.storage.connection import PAGE_BYTES

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
BIG, LITTLE = 0x377F0683, 0x377F0682
VERSION = 3007000

Sum = tuple[int, int]


class Frame(NamedTuple):
    """``pages``: of the file after a commit, 0 for a frame that ends no transaction. ``follows``: it has the
    right checksum for what the frame before it says."""

    number: int
    page: int
    pages: int
    follows: bool
    content: bytes


class Damage(NamedTuple):
    """``first``: the number of the first bad frame, from 1. ``last``: of the last commit behind it, or 0.
    ``salts``: of the frames that are of this use of the log."""

    first: int
    last: int
    salts: bytes = b""

    def __str__(self) -> str:
        if not self.last:
            return "the log is missing or not readable"
        behind = max(0, self.last - self.first)
        return f"the log is damaged at frame {self.first}, and {behind} frames are behind it"


def checksum(data: bytes, before: Sum, order: str) -> Sum:
    """Section 4.2: over pairs of 32-bit words."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = before
    values = iter(words)
    for one, two in zip(values, values, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second


class Log:
    """The header of an open log, as far as it can be read. ``shared``: as for ``damage_of``."""

    def __init__(self, file: BinaryIO, shared: bytes = b"") -> None:
        self._file = file
        header = file.read(HEADER_BYTES)
        self.order = "big" if header[:4] == BIG.to_bytes(4, "big") else "little"
        self.salts = header[16:24]
        self._sum: Sum = (0, 0)
        self.is_sound = False
        if len(header) == HEADER_BYTES:
            self._sum = struct.unpack(">II", header[24:32])
            sizes = struct.unpack(">II", header[4:12])
            known = header[:4] in (BIG.to_bytes(4, "big"), LITTLE.to_bytes(4, "big"))
            right = checksum(header[:24], (0, 0), self.order) == self._sum
            self.is_sound = known and right and sizes == (VERSION, PAGE_BYTES)
        if not self.is_sound:
            self.salts = shared[32:40] if _is_sound(shared) else self._salts_of_frames()

    def _salts_of_frames(self) -> bytes:
        """Those that two frames have, one behind the other."""
        before = b""
        self._file.seek(HEADER_BYTES)
        while len(data := self._file.read(FRAME_BYTES)) == FRAME_BYTES:
            if data[8:16] == before:
                break
            before = data[8:16]
        return before

    def frames(self) -> Iterator[Frame | None]:
        """In their order; None for what is no frame of this use of the log."""
        before, number = self._sum, 0
        self._file.seek(HEADER_BYTES)
        while len(data := self._file.read(FRAME_BYTES)) == FRAME_BYTES:
            number += 1
            page, pages, first, second = struct.unpack(">II8xII", data[:FRAME_HEADER_BYTES])
            if data[8:16] != self.salts or not page:
                before = first, second
                yield None
                continue
            found = checksum(data[FRAME_HEADER_BYTES:], checksum(data[:8], before, self.order), self.order)
            before = first, second
            yield Frame(number, page, pages, found == before, data[FRAME_HEADER_BYTES:])


def damage_of(log: BinaryIO, shared: bytes = b"", *, crashed: bool = True) -> Damage | None:
    """Whether commits of this log that were synced would be ignored. ``shared``: the beginning of the shared
    memory file. ``crashed``: the machine did, since the log was written; so its end may be torn."""
    read = Log(log, shared)
    first = valid = last = 0
    proven = False
    before: Frame | None = None
    for number, frame in enumerate(read.frames(), 1):
        sound = frame is not None and frame.follows and not (number == 1 and not read.is_sound)
        if not first and not sound:
            first = number
        if frame is not None and first:
            if frame.follows and before is not None and before.pages and before.number >= first:
                proven = True
            if frame.pages:
                last = number
                proven |= frame.follows and not crashed and number > first
        elif frame is not None and frame.pages:
            valid = number
        before = frame
    counted = _counted(shared, read)
    if counted > valid:
        return Damage(first or valid + 1, max(last, valid), read.salts)
    return Damage(first, last, read.salts) if proven else None


def _counted(shared: bytes, log: Log) -> int:
    """How many frames the shared memory file says were committed; 0 when it says nothing of this log.

    https://www.sqlite.org/walformat.html: two copies of a header in the machine's byte order.
    """
    if not _is_sound(shared) or shared[32:40] != log.salts:
        return 0
    return int(struct.unpack_from("=I", shared, 16)[0])


def _is_sound(shared: bytes) -> bool:
    one, two = shared[:48], shared[48:96]
    if len(two) < 48 or one != two:
        return False
    return checksum(one[:40], (0, 0), sys.byteorder) == struct.unpack("=II", one[40:48])


def damage_at(path: Path, *, crashed: bool) -> Damage | None:
    """Of the log beside the file at ``path``. Raises OSError."""
    shared = _shared(path)
    try:
        with Path(f"{path}-wal").open("rb") as log:
            if os.fstat(log.fileno()).st_size:
                return damage_of(log, shared, crashed=crashed)
    except FileNotFoundError:
        pass
    return Damage(1, 0) if _unfinished(shared) else None


def _unfinished(shared: bytes) -> bool:
    """Whether the shared memory file counts frames that are not in the file yet."""
    if len(shared) < 100 or not _is_sound(shared):
        return False
    committed, moved = struct.unpack_from("=I", shared, 16)[0], struct.unpack_from("=I", shared, 96)[0]
    return bool(committed > moved)


def _shared(path: Path) -> bytes:
    try:
        with Path(f"{path}-shm").open("rb") as shared:
            return shared.read(100)
    except OSError:
        return b""


def mend(damaged: Path, mended: Path, damage: Damage) -> None:
    """Write a log of all frames up to the last commit, with right checksums.

    A bad frame is among them, since most of its page may be right: rows have checksums. But of the first
    page, where the tables are found, only good ones are taken.
    """
    with damaged.open("rb") as source, mended.open("wb") as target:
        log = Log(source)
        log.salts = damage.salts
        header = struct.pack(">IIII", LITTLE, VERSION, PAGE_BYTES, 0) + log.salts
        total = checksum(header, (0, 0), "little")
        target.write(header + struct.pack(">II", *total))
        most = 0
        for frame in log.frames():
            if frame is None or frame.number > damage.last:
                continue
            most = max(most, frame.pages)
            if not frame.follows and (frame.page == 1 or frame.page > 2 * max(most, frame.number)):
                continue
            start = struct.pack(">II", frame.page, frame.pages)
            total = checksum(frame.content, checksum(start, total, "little"), "little")
            target.write(start + log.salts + struct.pack(">II", *total) + frame.content)
