"""Where events go: every kind of target, one line each.

Invariants:
- Another kind is one file here, one in ``apis``, and one line in TARGETS; nobody else knows its name. See
  docs/adding-a-target.md.
- aiobotocore and botocore are imported below this package and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forwarder.apis.api import Api
from forwarder.apis.wire import Native
from forwarder.targets import eventbridge, evidently, rum
from forwarder.targets.aws import AwsTarget
from forwarder.targets.options import TargetOptions

__all__ = ["TARGETS", "AwsTarget", "TargetKind", "api_of", "as_native", "known_apis", "option_types"]


@dataclass(frozen=True, slots=True)
class TargetKind:
    """A kind of target: the type of its options, and how one is built from its name and options.

    Building neither calls AWS nor looks for credentials.
    """

    options: type[TargetOptions]
    build: Callable[[str, Any], AwsTarget]

    @property
    def api(self) -> type[Api]:
        return self.options.api


TARGETS: dict[str, TargetKind] = {
    "eventbridge": TargetKind(eventbridge.EventBridgeOptions, eventbridge.build),
    "rum": TargetKind(rum.RumOptions, rum.build),
    "evidently": TargetKind(evidently.EvidentlyOptions, evidently.build),
}


def option_types() -> dict[str, type[TargetOptions]]:
    """Each kind to the type of its options, as the configuration wants to be told."""
    return {kind: target.options for kind, target in TARGETS.items()}


def known_apis() -> tuple[type[Api], ...]:
    """The API of every kind."""
    return tuple(target.api for target in TARGETS.values())


def as_native(kind: str, codec: int, body: bytes, key: bytes) -> Native | None:
    """A stored event as our own API takes it; None when there is no such kind, or this is no event of it.

    ``codec``: how its body is encoded. Only where the storage lost the kind (it is "") every API is tried.
    """
    apis = [api for api in known_apis() if api.codec.stored == codec and kind in ("", api.kind)]
    forms = [api.as_native(body, key) for api in apis]
    return next((form for form in forms if form is not None), None)


def api_of(kind: str) -> type[Api] | None:
    """The API of the targets of this kind; None when there is no such kind."""
    target = TARGETS.get(kind)
    return None if target is None else target.api
