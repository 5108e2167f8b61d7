r"""Halves of surrogate pairs: legal in JSON text as an escape (``"\ud83d"``), but not a character.

JavaScript and Python cut strings inside of a pair and escape what is left. msgspec refuses the whole text,
with "Input data was truncated" among other messages. Here such a text is decoded all the same.

Invariants:
- Only a text that msgspec did not decode is looked at: a good one costs nothing.
- What keeps its JSON (``msgspec.Raw``) keeps it byte for byte. A string with a half is a ``HalfPair``;
  the name of a member of an object is not, and keeps it.
- Every step is one pass of C over the text, and the number of passes is bounded, whatever the text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar, cast

import msgspec

T = TypeVar("T")

LONGEST = (4 << 20) + 64 * 1024
"""Bytes of an event's JSON in which halves are looked for: more than the largest event has."""

_surrogates = re.compile(rb"\\u([dD][89a-fA-F])")
_DIGITS = (b"eE", b"fF", b"cC", b"bB", b"aA")
r"""First digits of escapes that stand for surrogates meanwhile; ``e`` is for private use, so mostly free."""
_OTHERS = {
    digits: re.compile(rb"\\u[%b][89a-fA-F]|[%b][\xa0-\xbf]" % (digits, bytes([0xE0 | int(digits[:1], 16)])))
    for digits in _DIGITS
}
_BACKSLASHES, _HELD = b"\\\\", b"\0\0"
_SLICE, _BEGINNING, _ESCAPE = 128 * 1024, 3, 6
"""Bytes that are looked at in a step; bytes of an escape that may lie in front of the next slice, and all of
its bytes."""

Steps = Generator[None, None, T]


class HalfPair(ValueError):
    """A string has half of a surrogate pair. ``where``: the name of its member."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where[:100]} has half of a surrogate pair (an escape such as \\ud83d without its other half), "
            "which is not a character: remove it"
        )


class _Masked:
    """A text in which escapes of other characters stand for those of surrogates, and the way back."""

    __slots__ = ("_digits", "_pairs", "data")

    def __init__(self, data: bytes, digits: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
        self.data = data
        self._digits = digits
        self._pairs = pairs

    def original(self, value: object, where: str = "") -> Steps[object]:
        """What a decoder made of the text, with surrogates in it as they were."""
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, msgspec.Raw):
            data = bytes(value)
            if b"\\u" not in data:
                return value
            return msgspec.Raw((yield from _exchange(data, [(new, old) for old, new in self._pairs])))
        if isinstance(value, list):
            texts = []
            for each in value:
                texts.append((yield from self.original(each, where)))
            return texts
        if isinstance(value, dict):
            members = {}
            for name, each in value.items():
                members[self._name(name)] = yield from self.original(each, name)
            return members
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                each = getattr(value, name)
                if each is not None and not (isinstance(each, str) and each.isascii()):
                    self._check_text(each, name)
                    setattr(value, name, (yield from self.original(each, name)))
        return value

    def _check_text(self, value: object, where: str) -> None:
        """HalfPair when what may be JSON or a text of JSON is a text, with a half that is no escape in it."""
        if isinstance(value, msgspec.Raw) and bytes(memoryview(value)[:1]) == b'"':
            self._text(msgspec.json.decode(value, type=str), where)

    def _text(self, text: str, where: str) -> str:
        if text.isascii():
            return text
        try:
            return self._units(text).decode("utf-16-le")
        except UnicodeDecodeError:
            raise HalfPair(where) from None

    def _name(self, name: str) -> str:
        """Of a member: with the half in it, which ``str`` can hold and UTF-8 cannot."""
        return name if name.isascii() else self._units(name).decode("utf-16-le", "surrogatepass")

    def _units(self, text: str) -> bytearray:
        """UTF-16, in which surrogates are what they were."""
        units = bytearray(text.encode("utf-16-le"))
        first = int(self._digits[:1], 16) << 4
        stand_ins, surrogates = bytes(range(first + 8, first + 16)), bytes(range(0xD8, 0xE0))
        units[1::2] = units[1::2].translate(bytes.maketrans(stand_ins, surrogates))
        return units


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """What the decoder makes of a text that may have halves. HalfPair: a string has one.

    Else what the decoder raises.
    """
    steps = decode_steps(decoder, data)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(T, end.value)


def decode_steps(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> Steps[T]:
    """The same in steps."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mask = yield from _masked(bytes(data))
        if mask is None:
            raise
    value = decoder.decode(mask.data)
    yield
    return cast(T, (yield from mask.original(value)))


def lines_again(values: Callable[[bytes], list[msgspec.Raw]], data: bytes) -> Steps[list[msgspec.Raw] | None]:
    """The values of a text of many, which could not be told apart; None when halves are not the reason."""
    mask = yield from _masked(data)
    if mask is None:
        return None
    found = values(mask.data)
    for i, value in enumerate(found):
        found[i] = cast(msgspec.Raw, (yield from mask.original(value)))
    return found


def _masked(data: bytes) -> Steps[_Masked | None]:
    """None: there is nothing to mask, or nothing to mask it with."""
    if len(data) > LONGEST or b"\0" in data:  # which is in no JSON, and stands for backslashes here
        return None
    found: set[bytes] = set()
    for start in range(0, len(data), _SLICE):
        found.update(_surrogates.findall(data, start, start + _SLICE + _BEGINNING))
        yield
    for digits in _DIGITS if found else ():
        if (yield from _is_free(digits, data)):
            lower, upper = digits[:1], digits[1:]
            pairs = [(old, (lower if old[:1] == b"d" else upper) + old[1:]) for old in found]
            return _Masked((yield from _exchange(data, pairs)), digits, pairs)
    return None


def _is_free(digits: bytes, data: bytes) -> Steps[bool]:
    """Whether no character of the text is one of those that these digits stand for."""
    for start in range(0, len(data), _SLICE):
        if _OTHERS[digits].search(data, start, start + _SLICE + _BEGINNING):
            return False
        yield
    return True


def _exchange(data: bytes, pairs: list[tuple[bytes, bytes]]) -> Steps[bytes]:
    """Escapes that begin with one of these digits begin with the others."""
    exchanged = []
    start = 0
    while start < len(data):
        part = data[start : _end_of_slice(data, start)]
        start += len(part)
        held = _BACKSLASHES in part
        if held:
            part = part.replace(_BACKSLASHES, _HELD)
        for old, new in pairs:
            part = part.replace(b"\\u" + old, b"\\u" + new)
        exchanged.append(part.replace(_HELD, _BACKSLASHES) if held else part)
        yield
    return b"".join(exchanged)


def _end_of_slice(data: bytes, start: int) -> int:
    """The end of a slice that begins at ``start``, behind an escape and never inside of one."""
    end = start + _SLICE
    last = data.rfind(b"\\", end - _ESCAPE, end)
    if end >= len(data) or last < start:
        return end
    before = data[start : last + 1]
    if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:  # it is escaped itself
        return end
    return last + (_ESCAPE if data[last + 1 : last + 2] == b"u" else 2)
