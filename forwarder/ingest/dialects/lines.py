"""Bodies of one event per line, in blocks of whole lines.

Invariants:
- No list has more lines than a block has bytes, whatever the body is.
- A value may span several lines, and a line may hold several values, so pretty-printed JSON is accepted, also
  where a string has half of a surrogate pair.
- A value that is no JSON costs no other: it ends where its brackets close, else with its line (``values``).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence

import msgspec

from forwarder.apis import surrogates
from forwarder.apis.scan import count_signs, signs
from forwarder.ingest.dialects import values

BLOCK = 32 * 1024
TURN = 256
"""Values of a long line that are found in one step."""
SPACE = b" \t\r\n"

_value = msgspec.json.Decoder(msgspec.Raw)
_decode_all = _value.decode_lines
_behind = re.compile(r"trailing characters \(byte (\d+)\)").search
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Part = msgspec.Raw | bytes | values.Inseparable


def parts(body: bytes, most: int, most_signs: int) -> Iterator[Sequence[Part] | None]:
    """The values of each block, at most ``most`` and one more. None where nothing is to be had yet. A block
    with more brackets and commas than ``most_signs`` is not decoded, and its lines stand for its values."""
    start = 0
    while start < len(body):
        end = _line_end(body, start + BLOCK)
        block = body[start:end]
        yield None
        if not (yield from _is_blank(block)):
            if (yield from count_signs(block, most_signs)) > most_signs:
                found: Sequence[Part] = yield from _split(block, most)
            else:
                found, end = yield from _values(body, start, end, most, most_signs)
            yield found
        start = end


def goes_on(body: bytes) -> Generator[None, None, bool]:
    """Whether lines follow the one in which the first value of a body ends, as far as blocks show it."""
    end = yield from _end_of_value(body, 0, _line_end(body, BLOCK))
    return not (yield from _is_blank(memoryview(body)[end:]))


def numbers(body: bytes, places: Sequence[int], count: int) -> Generator[None, None, dict[int, int] | None]:
    """The numbers, from 1, of the lines that hold something and are at these places among such lines.

    None when there are not ``count`` of them: then values and lines are not the same.
    """
    found: dict[int, int] = dict.fromkeys(places, 0)
    number = seen = start = 0
    while start < len(body):
        yield
        end = _line_end(body, start + BLOCK)
        block, start = body[start:end], end
        if (yield from _is_blank(block)):
            number += block.count(b"\n")
            continue
        for line in block.removesuffix(b"\n").split(b"\n"):
            number += 1
            if line.strip():
                if seen in found:
                    found[seen] = number
                seen += 1
        if seen > count:
            return None
    return found if seen == count else None


def _line_end(body: bytes, start: int) -> int:
    return body.find(b"\n", start) + 1 or len(body)


def _is_blank(data: bytes | memoryview) -> Generator[None, None, bool]:
    """Whether nothing but space is there: a line, and so a block, can be as long as a body."""
    for start in range(0, len(data), BLOCK):
        if start:
            yield
        if bytes(data[start : start + BLOCK]).strip(SPACE):
            return False
    return True


def _decoded(block: bytes, most: int) -> Generator[None, None, list[msgspec.Raw] | None]:
    if len(block) > 2 * BLOCK:
        return (yield from _one_by_one(block, most))
    try:
        return _decode_all(block)
    except msgspec.DecodeError:
        pass
    except _BROKEN:
        return None
    try:
        return (yield from surrogates.lines_again(_decode_all, block))
    except _BROKEN:
        return None


def _one_by_one(block: bytes, most: int) -> Generator[None, None, list[msgspec.Raw] | None]:
    """The values of a block with a long line: most often one, but nobody has counted them.

    The decoder stops behind the first value and says where that is.
    """
    found: list[msgspec.Raw] = []
    rest = memoryview(block)
    while len(found) <= most:
        try:
            found.append(
                _value.decode(rest) if found else (yield from surrogates.decode_steps(_value, block))
            )
            break
        except _BROKEN as problem:
            behind = _behind(str(problem))
        if behind is None:
            return None
        end = int(behind[1]) - 1  # the byte that it looked at is behind the value
        found.append(msgspec.Raw(bytes(rest[:end]).rstrip()))
        rest = rest[end:]
        if len(found) % TURN == 0:
            yield
    return found


def _end_of_value(body: bytes, start: int, end: int) -> Generator[None, None, int]:
    """Where the value ends that is open at the end of a block; the body's end if it never does."""
    depth = 0
    while True:
        for found in signs(body[start:end]):
            depth += found.count(b"[") - found.count(b"]")
            yield
        if depth <= 0 or end >= len(body):
            return end
        start, end = end, _line_end(body, end)


def _values(
    body: bytes, start: int, end: int, most: int, most_signs: int
) -> Generator[None, None, tuple[Sequence[Part], int]]:
    """The values that begin in this block, and where the last of them ends."""
    found = yield from _decoded(body[start:end], most)
    if found is None and (ended := (yield from _end_of_value(body, start, end))) != end:
        end, block = ended, body[start:ended]
        if (yield from count_signs(block, most_signs)) <= most_signs:
            found = yield from _decoded(block, most)
        yield
    if found is None:
        return (yield from values.apart(body, start, end, most))
    return found, end


def _split(block: bytes, most: int) -> Generator[None, None, list[bytes]]:
    lines: list[bytes] = []
    start = 0
    while start < len(block) and len(lines) <= most:
        yield
        end = _line_end(block, start + BLOCK)
        lines += [line for line in block[start:end].split(b"\n") if line.strip()]
        start = end
    return lines
