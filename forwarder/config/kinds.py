"""Settings with a choice of kinds, where each kind has its own options: ``disk``, or ``{kind: disk}``.

Invariants:
- No kind is known here: a setting's type says where the table of its kinds is, which is read at every use.
- In a file the word of a kind alone means the kind with its defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Types = Mapping[str, type[msgspec.Struct]]
"""Each kind to the type of its options, a Struct whose tag is the kind."""

KIND = "kind"


def of_kinds(types: Callable[[], Types], description: str) -> msgspec.Meta:
    """For the type of a setting: it is of one of these kinds."""
    return msgspec.Meta(description=description, extra={"kinds": types})


def kinds_of(type_: Any) -> Types | None:
    """The kinds that a setting of this type may be of; None for a setting without kinds."""
    for meta in getattr(type_, "__metadata__", ()):
        if types := (getattr(meta, "extra", None) or {}).get("kinds"):
            return dict(types())
    return None


def description_of(type_: Any) -> str:
    """What a setting of this type is for."""
    return next((meta.description for meta in type_.__metadata__ if meta.description), "")


def must_be_mapping(options: type[msgspec.Struct]) -> bool:
    """Whether the word of a kind alone is not enough: some of its options have no default."""
    return any(field.required for field in msgspec.structs.fields(options))
