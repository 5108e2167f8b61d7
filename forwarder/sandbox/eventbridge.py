"""The sandbox's EventBridge: PutEvents on the buses that exist.

Invariants:
- What AWS takes and drops in silence (a bus that does not exist, a DetailType over 128 characters) is
  answered with an EventId, and is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from forwarder.apis.api import Api
from forwarder.apis.put_events import MAX_DETAIL_TYPE, Entry, PutEvents, Request, check_call, check_endpoint
from forwarder.model import Refusal
from forwarder.sandbox import markers
from forwarder.sandbox.calls import Call, Item, decode, digest, encode, unreadable
from forwarder.sandbox.settings import SandboxSettings

DEFAULT_BUS = "default"


class _Raws(msgspec.Struct):
    Entries: list[msgspec.Raw] = []


class _Envelope(msgspec.Struct, omit_defaults=True):
    EndpointId: str | None = None


_REQUEST = msgspec.json.Decoder(Request)
_RAWS = msgspec.json.Decoder(_Raws)


def bus_name(name_or_arn: str | None) -> str:
    """The bus that a name, an ARN or nothing stands for."""
    return (name_or_arn or DEFAULT_BUS).rpartition("event-bus/")[2]


class EventBridge:
    """PutEvents. ``buses`` may change at any time; what to drop is an upstream's to know, if any."""

    api: type[Api] = PutEvents

    def __init__(self, settings: SandboxSettings) -> None:
        self._api = PutEvents(settings.max_request_bytes)
        self._keep = settings.keep
        self._configured = frozenset({DEFAULT_BUS, *settings.buses})
        self._pass_through = settings.upstream is not None
        self.buses = set(self._configured)
        self.render = self._api.render_results

    def reset(self) -> None:
        self.buses = set(self._configured)

    def read(self, name: str, body: bytes, wall: float) -> Call:
        request = decode(_REQUEST, body)
        if isinstance(request, Refusal):
            return unreadable(DEFAULT_BUS, request)
        refusal = self._whole(request)  # before the entries are judged, which sets their times
        raws: Sequence[bytes | msgspec.Raw] = _RAWS.decode(body).Entries if self._keep else ()
        raws = raws or [b""] * len(request.Entries)
        pairs = zip(request.Entries, raws, strict=True)
        items = [self._item(entry, bytes(raw), wall) for entry, raw in pairs]
        names = {item.name for item in items}
        envelope = encode(_Envelope(request.EndpointId)) if request.EndpointId else b"{}"
        return Call(tuple(names), items, envelope, refusal)

    def _whole(self, request: Request) -> Refusal | None:
        return check_endpoint(request.EndpointId) or check_call(request.Entries, self._api.max_request_bytes)

    def _item(self, entry: Entry, raw: bytes, wall: float) -> Item:
        name = bus_name(entry.EventBusName)
        item = Item(name, raw, digest(name, entry), markers.word(entry.Detail or ""))
        too_long = len(entry.DetailType or "") > MAX_DETAIL_TYPE
        item.dropped = not self._pass_through and (too_long or name not in self.buses)
        if too_long:
            entry.DetailType = (entry.DetailType or "")[:MAX_DETAIL_TYPE]  # so that all else is judged
        draft = self._api.admit(entry, wall)
        if isinstance(draft, Refusal):
            item.refusal = draft
        return item
