"""Text of unknown origin, made safe for a terminal.

Invariants:
- Only what goes to a terminal changes; a pipe or a file gets every byte as it is.
- JSON stays the same JSON: a character that could move the cursor, recolour, retitle, or reorder what a
  person reads is written as its escape.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]"
)
"""All controls (C0, C1) but tab and line feed, directional marks, and characters that are not seen."""


def json_for_terminal(text: str) -> str:
    """JSON text with every such character as ``\\uXXXX``. They occur only inside of its strings."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
