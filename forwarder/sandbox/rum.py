"""The sandbox's CloudWatch RUM: PutRumEvents, all or nothing.

Invariants:
- RUM answers no results: whatever is wrong with one event fails its call.
"""

from __future__ import annotations

import msgspec

from forwarder.apis.api import Api
from forwarder.apis.put_rum_events import PutRumEvents, Request
from forwarder.model import Refusal
from forwarder.sandbox import markers
from forwarder.sandbox.calls import Call, Item, decode, digest, encode, not_found, unreadable
from forwarder.sandbox.settings import SandboxSettings

_NOTHING = msgspec.Raw(b"")
_REQUEST = msgspec.json.Decoder(Request)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RAWS = msgspec.json.Decoder(list[msgspec.Raw])


class Rum:
    """PutRumEvents for the configured app monitors, or for any."""

    api: type[Api] = PutRumEvents

    def __init__(self, settings: SandboxSettings) -> None:
        self._api = PutRumEvents()
        self._keep = settings.keep
        self._monitors = frozenset(settings.app_monitors)
        self.render = self._api.render_results

    def read(self, name: str, body: bytes, wall: float) -> Call:
        if self._monitors and name not in self._monitors:
            return not_found(name, "App monitor")
        request = decode(_REQUEST, body)
        if isinstance(request, Refusal):
            return unreadable(name, request)
        envelope, raws = _split(name, body) if self._keep else (b"{}", [])
        pairs = zip(request.RumEvents, raws or [_NOTHING] * len(request.RumEvents), strict=True)
        items = [
            Item(name, bytes(raw), digest(name, event), markers.word(event.details or ""))
            for event, raw in pairs
        ]
        admitted = self._api.admit_batch(name, request, wall)
        return Call((name,), items, envelope, admitted if isinstance(admitted, Refusal) else None)


def _split(name: str, body: bytes) -> tuple[bytes, list[msgspec.Raw]]:
    """What came beside the events, with the app monitor as ``Id``, and the events."""
    members = _MEMBERS.decode(body)
    events = members.pop("RumEvents", None)
    return encode({"Id": name, **members}), _RAWS.decode(events) if events else []
