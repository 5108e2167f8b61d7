"""The sandbox's part of an API that needs no part of its own: see ``WireApi``.

Invariants:
- Every name exists, and events are judged one by one, by the API's own checks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from forwarder.apis.api import Api, WireApi
from forwarder.model import Refusal
from forwarder.sandbox import markers
from forwarder.sandbox.calls import SERIALIZATION, Call, Item, digest, encode, unreadable


class AnyApi:
    """The calls of any such API. What is recorded of an event is JSON, whatever its encoding was."""

    def __init__(self, api: type[WireApi]) -> None:
        self.api: type[Api] = api
        self._wire = api
        self._instance = api()

    def render(self, results: Sequence[str | Refusal]) -> bytes:
        return self._instance.render_results(results)

    def read(self, name: str, body: bytes, wall: float) -> Call:
        try:
            call = self._wire.read_call(name, body)
        except ValueError as problem:
            call = Refusal(SERIALIZATION, f"{problem}")
        if isinstance(call, Refusal):
            return unreadable(name, call)
        items = [self._item(event, call.name, wall) for event in call.events]
        return Call((call.name,), items, encode({"name": call.name}))

    def _item(self, event: msgspec.Struct, name: str, wall: float) -> Item:
        word = markers.word(self._wire.content(event))
        item = Item(name, encode(event), digest(name, event), word)
        admitted = self._instance.admit(event, name, wall)
        if isinstance(admitted, Refusal):
            item.refusal = admitted
        return item
