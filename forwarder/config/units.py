"""The kinds of text a setting may hold beside plain text: a duration or a size.

Invariants:
- A duration is float seconds, a size is int bytes, from here on; nothing else parses a unit.
- A number without a unit is never a duration, but for 0.
"""

from __future__ import annotations

import re

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
        raise ValueError(f"expected a duration with its unit, like 100ms, 2s, 5m, 1h or 14d, got {value!r}")

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
        raise ValueError(f"expected a size, like 512KiB, 64MiB or 1GiB, got {value!r}")

    @property
    def text(self) -> str:
        """As it would be written: in the largest unit that needs no fraction."""
        for unit in ("GiB", "MiB", "KiB"):
            if self and self % _UNITS[unit] == 0:
                return f"{self // _UNITS[unit]}{unit}"
        return f"{self:d}"
