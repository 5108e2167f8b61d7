"""A call as the sandbox sees it, whichever the API, and what the APIs have in common in reading one.

Invariants:
- An Item's ``entry`` is what came over the wire, byte for byte, so that what is read back judges the sender
  and not our own encoding. Its ``digest`` is the same however the entry's JSON is spaced and escaped.
- Reading never fails: what AWS would refuse whole is a Call with a ``refusal``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec

from forwarder.apis.api import Api
from forwarder.model import Refusal
from forwarder.sandbox.markers import Word

T = TypeVar("T")

SERIALIZATION = "SerializationException"
VALIDATION = "ValidationException"
NOT_FOUND = "ResourceNotFoundException"

encode = msgspec.json.Encoder().encode


class Item(msgspec.Struct, gc=False, eq=False):
    """One event of a call. ``name``: its bus, app monitor or project. ``refusal``: why AWS fails it by
    itself; ``dropped``: AWS takes it and forgets it."""

    name: str
    entry: bytes
    digest: bytes
    word: Word | None = None
    refusal: Refusal | None = None
    dropped: bool = False


class Call(msgspec.Struct, gc=False, eq=False):
    """A call that carries events. ``refusal`` (answered with ``status``): why AWS refuses it as a whole."""

    names: Sequence[str]
    items: list[Item]
    envelope: bytes = b"{}"
    refusal: Refusal | None = None
    status: int = 400


class Service(Protocol):
    """One of the APIs, from the server's side."""

    api: type[Api]

    def read(self, name: str, body: bytes, wall: float) -> Call:
        """The call in a request's body; ``name`` is the app monitor or project of its path."""

    def render(self, results: Sequence[str | Refusal]) -> bytes:
        """The body of an answered call: an id, or an error, per event."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T | Refusal:
    """A typed body, or what AWS says of one that it cannot read."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        return Refusal(SERIALIZATION, f"{problem}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal(SERIALIZATION, "The request is not valid JSON.")


def unreadable(name: str, refusal: Refusal) -> Call:
    return Call((name,), [], refusal=refusal)


def not_found(name: str, kind: str) -> Call:
    return Call((name,), [], refusal=Refusal(NOT_FOUND, f"{kind} {name} does not exist."), status=404)


def digest(name: str, entry: object) -> bytes:
    """What makes two entries the same event: where they go and what they say."""
    state = blake2b(encode(entry), digest_size=16)
    state.update(name.encode())
    return state.digest()
