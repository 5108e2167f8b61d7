"""The kinds of text a setting may hold beside plain text: a duration or a size.

Invariants:
- A duration is float seconds, a size is int bytes, from here on; nothing else parses a unit.
- A number without a unit is never a duration, but for 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s?(B|KiB|MiB|GiB)", re.ASCII)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Duration(float):
    """Seconds, written with a unit: ``100ms``, ``2s``, ``1h30m``."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        if isinstance(value, str) and _DURATION.fullmatch(value):
            return cls(sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(value)))
        if value in (0, "0") and not isinstance(value, bool):
            return cls(0.0)
        forms = "100ms, 2s, 5m, 1h or 14d"
        raise ValueError(f"must be a duration with a unit, such as {forms}, got {_got(value, _meant_time)}")

    @property
    def text(self) -> str:
        """As it would be written: in the largest unit that needs no fraction."""
        for unit in ("d", "h", "m", "s"):
            if self >= _SECONDS[unit] and (self / _SECONDS[unit]).is_integer():
                return f"{self / _SECONDS[unit]:.0f}{unit}"
        return f"{self * 1000:.10g}ms" if self else "0"


class Bytes(int):
    """A size, written with a unit: ``64MiB``, ``512KiB``; a plain whole number is bytes."""

    @classmethod
    def parse(cls, value: object) -> Bytes:
        if isinstance(value, str) and (match := _BYTES.fullmatch(value)):
            size = float(match[1]) * _UNITS[match[2]]
            if size.is_integer():
                return cls(size)
        elif not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,18}", str(value)):
            return cls(str(value))
        forms = "512KiB, 64MiB or 1GiB"
        raise ValueError(f"must be a size, such as {forms}, got {_got(value, _meant_size)}")

    @property
    def text(self) -> str:
        """As it would be written: in the largest unit that needs no fraction."""
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _UNITS[unit] == 0:
                return f"{self // _UNITS[unit]}{unit}"
        return f"{self:d}"


def _got(value: object, meant: Callable[[str], str]) -> str:
    """The value, and the nearest right one where there is one."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    near = "" if isinstance(value, bool | None) else meant(str(value).strip())
    return f"{text}. Did you mean {near}?" if near else text


def _meant_time(text: str) -> str:
    match = _NUMBER_AND_WORD.fullmatch(text)
    if match is None:
        return ""
    number, word = match[1], match[2].lower()
    if word in ("w", "week", "weeks") and number.isdecimal():
        return f"{int(number) * 7}d"
    unit = _WORDS_OF_TIME.get(word)
    return f"{number}{unit}" if unit else ""


def _meant_size(text: str) -> str:
    match = _NUMBER_AND_WORD.fullmatch(text)
    if match is None or not match[2]:
        return ""
    letter, number = match[2].upper().removesuffix("BYTES").removesuffix("BYTE")[:1], match[1]
    if letter == "T" and number.isdecimal():
        return f"{int(number) * 1024}GiB"
    unit = {"": "B", "B": "B", "K": "KiB", "M": "MiB", "G": "GiB"}.get(letter)
    return f"{number}{unit}" if unit else ""


_NUMBER_AND_WORD = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_WORDS_OF_TIME = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
