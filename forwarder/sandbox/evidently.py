"""The sandbox's Evidently: PutProjectEvents, as it was until AWS ended the service.

Invariants:
- A project's name and its ARN are one project.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from forwarder.apis.api import Api
from forwarder.apis.put_project_events import PutProjectEvents, Request
from forwarder.model import Draft, Refusal
from forwarder.sandbox import markers
from forwarder.sandbox.calls import Call, Item, decode, digest, encode, not_found, unreadable
from forwarder.sandbox.settings import SandboxSettings


class _Raws(msgspec.Struct):
    events: list[msgspec.Raw] = []


class _Envelope(msgspec.Struct):
    project: str


_REQUEST = msgspec.json.Decoder(Request)
_RAWS = msgspec.json.Decoder(_Raws)


def project_name(name_or_arn: str) -> str:
    return name_or_arn.rpartition("project/")[2]


class Evidently:
    """PutProjectEvents for the configured projects, or for any."""

    api: type[Api] = PutProjectEvents

    def __init__(self, settings: SandboxSettings) -> None:
        self._api = PutProjectEvents()
        self._keep = settings.keep
        self._projects = frozenset(map(project_name, settings.projects))
        self.render = self._api.render_results

    def read(self, name: str, body: bytes, wall: float) -> Call:
        project = project_name(name)
        if self._projects and project not in self._projects:
            return not_found(name, "Project")
        request = decode(_REQUEST, body)
        if isinstance(request, Refusal):
            return unreadable(project, request)
        raws: Sequence[bytes | msgspec.Raw] = _RAWS.decode(body).events if self._keep else ()
        items = [
            Item(project, bytes(raw), digest(project, event), markers.word(event.data or ""))
            for event, raw in zip(request.events, raws or [b""] * len(request.events), strict=True)
        ]
        admitted = self._api.admit_call(name, request, wall)
        call = Call((project,), items, encode(_Envelope(name)))
        if isinstance(admitted, Refusal):
            call.refusal = admitted
            return call
        for item, result in zip(items, admitted, strict=True):
            item.refusal = _refusal(result)
        return call


def _refusal(result: Draft | Refusal) -> Refusal | None:
    return result if isinstance(result, Refusal) else None
