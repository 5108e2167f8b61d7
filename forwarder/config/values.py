"""One value of a file to the type of its setting, or what is allowed there instead.

Invariants:
- A message says what the value must be, what it is, and the nearest right value where there is one.
- The value of a secret setting is in no message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from forwarder.addresses import Listens
from forwarder.config.files import absolute, absolute_listen, is_path
from forwarder.config.redaction import is_secret, without_queries, without_users
from forwarder.config.units import Bytes, Duration
from forwarder.nearest import did_you_mean

UNITS = (Duration, Bytes, Listens)
MAX_SHOWN = 80
_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list"}
_BOUNDS = (("ge", "at least"), ("gt", "greater than"), ("le", "at most"), ("lt", "less than"))


class Filled(str):
    """Text that came, at least in part, from the environment: the only text read as a number or a bool."""

    __slots__ = ()


def convert(value: object, type_: Any, base: Path) -> Any:
    """The value as its type. ``base``: what relative paths are relative to. Raises ValueError."""
    if isinstance(value, str) and is_path(type_):
        value = absolute(value, base)
    for unit in UNITS:
        if holds(type_, unit) and not (value is None and holds(type_, NoneType)):
            is_address = unit is Listens and isinstance(value, str)
            return unit.parse(absolute_listen(str(value), base) if is_address else value)
    try:
        text = str(value) if isinstance(value, Filled) else value
        return msgspec.convert(text, type_, strict=not isinstance(value, Filled))
    except msgspec.ValidationError:
        raise ValueError(wrong(value, type_)) from None


def holds(type_: Any, wanted: type) -> bool:
    """Whether a setting of this type may hold values of the wanted one."""
    return any(member is wanted for member in _members(type_))


def item_type(type_: Any) -> Any:
    """Of a list; None for what is no list."""
    for each in _members(type_):
        if get_origin(each) is list:
            return get_args(each)[0]
    return None


def wrong(value: object, type_: Any) -> str:
    """Why the value is none of this type."""
    choices = [
        each for member in _members(type_) if get_origin(member) is Literal for each in get_args(member)
    ]
    if choices:
        near = did_you_mean(value, map(str, choices)) if isinstance(value, str) else ""
        return f"must be {one_of(choices)}, got {shown_value(value)}.{near}".removesuffix(".")
    plain, bounds = _plain(type_), list(_bounds(type_))
    got = type(value).__name__ if is_secret(type_) else shown_value(value)
    if bounds and isinstance(value, int if plain is int else int | float) and not isinstance(value, bool):
        return f"must be {' and '.join(bounds)}, got {got}"
    allowed = ", ".join([_NAMES.get(plain, "of another type"), *bounds])
    return f"must be {allowed}, got {got}{_meant(value, plain)}"


def one_of(choices: Sequence[object]) -> str:
    """The choices as a sentence has them: "a", "b" or "c"."""
    words = [f'"{each}"' for each in choices]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shown_value(value: object) -> str:
    """The value as a message shows it: text in double quotes, without the users of URLs, and not too long."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        text = json.dumps(without_queries(without_users(value)), ensure_ascii=False)
        return text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}..."'
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _meant(value: object, plain: Any) -> str:
    """What was probably meant, to append."""
    if plain is str and not isinstance(value, dict | list | NoneType):
        return "; put it in quotes"
    if plain is list and not isinstance(value, dict | NoneType):
        return f". Did you mean [{value if not isinstance(value, str) else shown_value(value)}]?"
    if isinstance(value, str) and not isinstance(value, Filled):
        for type_ in (int, float) if plain in (int, float) else (bool,) if plain is bool else ():
            try:
                meant = msgspec.convert(value.strip().lower(), type_, strict=False)
            except msgspec.ValidationError:
                continue
            return f". Did you mean {shown_value(meant)}, without quotes?"
    return ""


def _plain(type_: Any) -> Any:
    """The type without its bounds and without null."""
    for member in _members(type_):
        if member is not NoneType:
            return get_origin(member) or member
    return type_


def _members(type_: Any) -> Iterator[Any]:
    """The types of a union, without what is annotated."""
    origin = get_origin(type_)
    if hasattr(type_, "__metadata__"):
        yield from _members(get_args(type_)[0])
    elif origin in (Union, UnionType):
        for each in get_args(type_):
            yield from _members(each)
    else:
        yield type_


def _bounds(type_: Any) -> Iterator[str]:
    for meta in getattr(type_, "__metadata__", ()):
        for name, words in _BOUNDS:
            if isinstance(meta, msgspec.Meta) and getattr(meta, name) is not None:
                yield f"{words} {getattr(meta, name)}"
    if not hasattr(type_, "__metadata__") and get_origin(type_) not in (Union, UnionType):
        return
    for part in get_args(type_):
        if hasattr(part, "__metadata__") or get_origin(part) in (Union, UnionType):
            yield from _bounds(part)
