"""Packed bodies (gzip, deflate) unpacked, in steps.

Invariants:
- At most ``max_size`` bytes come out, and a bomb costs one step beyond them; every byte is leased.
- A step reads and makes a bounded number of bytes, whatever is in them: many members cost as much as few.
- What comes out is everything that was packed: a body that is cut inside its data is a BadRequest, and never
  becomes an empty or a shorter body. Only the checksum behind the data may be cut, and zeros may follow it:
  old .NET programs send both (a stream that was not closed, and a buffer longer than its contents).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator

from forwarder.ingest.budget import Lease
from forwarder.ingest.errors import MALFORMED, BadRequest, too_large

STEP = 256 * 1024
INPUT_STEP = 64 * 1024
MAX_MEMBERS = 10_000
"""The daemon's own bound; gzip has none. Parallel compressors make one member for 64 KiB or more, a log
shipper one for each of its chunks."""
MEMBERS_PER_STEP = 50

GZIP, DEFLATE = "gzip", "deflate"
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
_CHECKSUMS: dict[int, tuple[Callable[[bytes, int], int], int]] = {
    _GZIP_BITS: (zlib.crc32, 0),
    _ZLIB_BITS: (zlib.adler32, 1),
}
"""What stands behind the data, by window bits: how it is counted, and from where."""

Unpacking = Generator[None, None, bytes]


def unpack(coding: str, packed: bytes, lease: Lease, max_size: int) -> Unpacking:
    """Unpack gzip, of one or more members, or deflate. ``lease`` has what is unpacked when it ends."""
    bits = _GZIP_BITS if coding == GZIP else _deflate_bits(packed)
    return _Unpacker(coding, bits, packed, lease, max_size).run()


def _deflate_bits(packed: bytes) -> int:
    """``deflate`` means zlib's format (RFC 9110, 8.4.1.2); some send what is inside of it, raw (RFC 1951).

    The two are told apart by zlib's header. A raw block that begins with the same bits would be one without
    compression, and those have zeros there.
    """
    if len(packed) >= 2:
        is_zlib = (
            packed[0] & 0x0F == 8 and packed[0] >> 4 <= 7 and int.from_bytes(packed[:2], "big") % 31 == 0
        )
        return _ZLIB_BITS if is_zlib else _RAW_BITS
    return _RAW_BITS


class _Unpacker:
    """One body, while it is unpacked."""

    __slots__ = (
        "_bits",
        "_checksum",
        "_coding",
        "_lease",
        "_length",
        "_max_size",
        "_packed",
        "_parts",
        "_size",
    )

    def __init__(self, coding: str, bits: int, packed: bytes, lease: Lease, max_size: int) -> None:
        self._coding = coding
        self._bits = bits
        self._packed = packed
        self._lease = lease
        self._max_size = max_size
        self._parts: list[bytes] = []
        self._size = 0
        self._checksum = self._length = 0  # of this member

    def run(self) -> Unpacking:
        packed, members, start = self._packed, 0, 0
        while start < len(packed):
            members += 1
            if members > MAX_MEMBERS:
                raise too_large(f"The gzip body has more than {MAX_MEMBERS} members; compress it as one.")
            if members % MEMBERS_PER_STEP == 0:
                yield
            start = yield from self._member(start)
            if start < len(packed) and (self._bits != _GZIP_BITS or packed[start] == 0):
                yield from self._check_padding(start)
                break
        yield
        return b"".join(self._parts)

    def _member(self, start: int) -> Generator[None, None, int]:
        """Unpack the member that starts here; where it ends."""
        view = memoryview(self._packed)
        stream = zlib.decompressobj(wbits=self._bits)
        count, self._checksum = _CHECKSUMS.get(self._bits, (None, 0))
        self._length = 0
        while not stream.eof:
            pending = stream.unconsumed_tail
            if not pending:
                pending = bytes(view[start : start + INPUT_STEP])
                start += len(pending)
            self._lease.take(STEP)
            part = self._unpack(stream, pending)
            self._lease.keep(self._lease.held - STEP + len(part))
            self._add(part)
            if count is not None:
                self._checksum = count(part, self._checksum)
            if not part and not pending and not stream.eof:
                if not self._lacks_only_checksum(stream):
                    raise BadRequest(400, MALFORMED, f"The {self._coding} body is cut short.")
                return start
            if len(part) > STEP // 8:
                yield
        return start - len(stream.unused_data)

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        self._length += len(part)
        if self._size > self._max_size:
            raise too_large(
                f"The body is larger than {self._max_size} bytes after it is unpacked (ingest.max_body)."
            )
        if part:
            self._parts.append(part)

    def _lacks_only_checksum(self, stream: zlib._Decompress) -> bool:
        """Whether all of the data is there, and only the checksum behind it is missing or cut.

        Then what is missing of the right one completes the stream, and nothing more comes out of it.
        """
        if self._bits == _GZIP_BITS:
            right = self._checksum.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little")
        elif self._bits == _ZLIB_BITS:
            right = self._checksum.to_bytes(4, "big")
        else:
            return False
        for there in range(len(right)):
            copy = stream.copy()
            try:
                more = copy.decompress(right[there:], STEP)
            except zlib.error:
                continue
            if copy.eof and not more and not copy.unused_data:
                return True
        return False

    def _check_padding(self, start: int) -> Unpacking:
        """BadRequest unless nothing but zeros follows."""
        for at in range(start, len(self._packed), STEP):
            if self._packed[at : at + STEP].strip(b"\0"):
                raise BadRequest(400, MALFORMED, f"The {self._coding} body is followed by other bytes.")
            yield
        return b""

    def _unpack(self, stream: zlib._Decompress, packed: bytes) -> bytes:
        try:
            return stream.decompress(packed, STEP)
        except zlib.error as problem:
            raise BadRequest(400, MALFORMED, self._not_packed(problem)) from None

    def _not_packed(self, problem: zlib.error) -> str:
        if self._size:
            return f"The {self._coding} body is damaged after {self._size} bytes: {problem}."
        if self._bits == _GZIP_BITS and self._packed.startswith(GZIP_MAGIC):
            return f"The {self._coding} body is damaged: {problem}. Send it again."
        begins = self._packed[:4].hex(" ")
        return (
            f"The body is not {self._coding}, as Content-Encoding says: it begins with the bytes {begins} "
            f"({problem}). Pack it with {self._coding}, or leave out the header."
        )
