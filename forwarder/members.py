"""Whether a library still has the undocumented members that we use, and still calls what we override.

Invariants:
- A member that was renamed, removed or given another form is found before it is used.
- So is a method that the library no longer calls. Overriding it would change nothing, and nobody would know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType
from typing import Any

Form = type | Callable[[Any], bool]


def missing(owner: object, members: Mapping[str, Form]) -> Iterator[str]:
    """What is wrong with these members of an object, in a sentence each. A form is a type, or a check."""
    name = type(owner).__name__
    for member, form in members.items():
        try:
            value = getattr(owner, member)
        except AttributeError:
            yield f"{name} has no {member}"
            continue
        fits = isinstance(value, form) if isinstance(form, type) else form(value)
        if not fits:
            yield f"{member} of {name} is not what is expected: {value!r:.100}"


def changed_methods(
    owner: type, methods: Mapping[str, tuple[str, ...]], callers: Iterable[type] = ()
) -> Iterator[str]:
    """What is wrong with these methods: they are gone, or have other parameters than the named ones.

    ``callers``: one of these classes must call each of the methods.
    """
    names = {name for caller in callers for name in _names_in(caller)}
    for method, parameters in methods.items():
        found = getattr(owner, method, None)
        if not callable(found):
            yield f"{owner.__name__} has no method {method}"
        elif (now := tuple(inspect.signature(found).parameters)) != ("self", *parameters):
            yield f"{method} of {owner.__name__} has other parameters: {', '.join(now)}"
        elif names and method not in names:
            yield f"{owner.__name__} no longer calls {method}"


def unread(owner: type, attributes: Iterable[str]) -> Iterator[str]:
    """Which of these attributes, that we set or read, no method of the class or its bases mentions."""
    names = {name for each in owner.__mro__ for name in _names_in(each)}
    for attribute in attributes:
        if attribute not in names:
            yield f"{owner.__name__} no longer has {attribute}"


def is_none_or(form: type) -> Callable[[Any], bool]:
    return lambda value: value is None or isinstance(value, form)


def _names_in(caller: type) -> Iterator[str]:
    """The names that the methods of a class use."""
    for each in vars(caller).values():
        code = getattr(inspect.unwrap(each) if callable(each) else each, "__code__", None)
        if isinstance(code, CodeType):
            yield from code.co_names
