"""What a setting is for, in a sentence: read from the docstrings of the types that the settings are.

Invariants:
- A docstring says of a setting ``name``: and then its sentence, up to the next of these or an empty line;
  what is before the first is what the group is for.
"""

from __future__ import annotations

import inspect
import re

_SETTING = re.compile(r"``(\w+)``:\s+(.+?)(?=\s*``\w+``:\s|\s*\n\s*\n|\s*\Z)", re.DOTALL)


def parse_setting_docs(type_: type) -> dict[str, str]:
    """Setting to its sentence; those of the types it inherits from too."""
    told: dict[str, str] = {}
    for each in reversed(type_.__mro__):
        for name, text in _SETTING.findall(each.__dict__.get("__doc__") or ""):
            told[name] = _sentence(text)
    return told


def told_purpose(type_: type) -> str:
    """The rest of the docstring."""
    return " ".join(_SETTING.sub("", inspect.cleandoc(type_.__doc__ or "")).split())


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace("``", "`").removesuffix(".")
    return f"{text[:1].upper()}{text[1:]}."
