"""Gzip bodies unpacked, in steps.

Invariants:
- At most ``max_size`` bytes come out, and a bomb costs one step beyond them; every byte is leased.
- A step reads and makes a bounded number of bytes, whatever is in them: many members cost as much as few.
- A truncated or invalid gzip body is a BadRequest, and never becomes an empty or a shorter body.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator

from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects.errors import MALFORMED, BadRequest, too_large

STEP = 256 * 1024
INPUT_STEP = 64 * 1024
MAX_MEMBERS = 10_000
"""The daemon's own bound; gzip has none. Parallel compressors make one member for 64 KiB or more, a log
shipper one for each of its chunks."""
MEMBERS_PER_STEP = 50


def gunzip(packed: bytes, lease: Lease, max_size: int) -> Generator[None, None, bytes]:
    """Unpack one or more gzip members. ``lease`` has what is unpacked when it ends."""
    parts: list[bytes] = []
    size = members = start = 0
    view = memoryview(packed)
    while start < len(packed):
        members += 1
        if members > MAX_MEMBERS:
            raise too_large(f"The gzip body has more than {MAX_MEMBERS} members; compress it as one.")
        if members % MEMBERS_PER_STEP == 0:
            yield
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            pending = stream.unconsumed_tail
            if not pending:
                pending = bytes(view[start : start + INPUT_STEP])
                start += len(pending)
            lease.take(STEP)
            part = _unpack(stream, pending)
            lease.keep(lease.held - STEP + len(part))
            size += len(part)
            if size > max_size:
                raise too_large(f"The body is larger than {max_size} bytes after gunzip (ingest.max_body).")
            if part:
                parts.append(part)
            elif not pending and not stream.eof:
                raise BadRequest(400, MALFORMED, "The gzip body is cut short.")
            if len(part) > STEP // 8:
                yield
        start -= len(stream.unused_data)
    yield
    return b"".join(parts)


def _unpack(stream: zlib._Decompress, packed: bytes) -> bytes:
    try:
        return stream.decompress(packed, STEP)
    except zlib.error as problem:
        raise BadRequest(400, MALFORMED, f"The body is not gzip: {problem}.") from None
