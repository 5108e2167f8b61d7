"""Where events go: every kind of target, one line each.

Invariants:
- Another kind is one file here, one in ``apis``, and one line in TARGETS; nobody else knows its name.
- aiobotocore and botocore are imported below this package and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.apis.wire import Native
from forwarder.metrics import CredentialsView
from forwarder.model import Queue, Results, Target
from forwarder.targets.asking import Hold
from forwarder.targets.eventbridge import EventBridge, EventBridgeOptions
from forwarder.targets.evidently import Evidently, EvidentlyOptions
from forwarder.targets.facts import Facts
from forwarder.targets.names import TargetNames
from forwarder.targets.options import TargetOptions
from forwarder.targets.rum import Rum, RumOptions


class AwsTarget(Target, Protocol):
    """A target, and what others must know of it. ``region`` is "" when it takes events of any.

    ``transport``: how it makes its calls, ``fast`` or ``plain``; "" before the first.
    """

    @property
    def kind(self) -> str: ...

    @property
    def api(self) -> PutEvents | PutRumEvents | PutProjectEvents: ...

    @property
    def region(self) -> str: ...

    @property
    def transport(self) -> str: ...

    @property
    def names(self) -> TargetNames: ...

    def credentials(self) -> CredentialsView: ...

    async def watch(self, queue: Queue, hold: Hold) -> None:
        """Until cancelled: find out about names, and tell the queue which events may be sent."""
        ...

    async def answered(self, name: str, seconds: float) -> None:
        """Wait until the name was asked about, at most so long."""
        ...

    async def examine(self) -> Facts:
        """What can be found out without a call."""
        ...

    async def ask(self) -> Mapping[str, Results]:
        """AWS's word on each thing that the target names, if AWS may be asked; sends no event."""
        ...


@dataclass(frozen=True, slots=True)
class TargetKind:
    """A kind of target: the type of its options, how one is built from its name and options, its API, and
    what the SDK calls the service.

    Building neither calls AWS nor looks for credentials.
    """

    options: type[TargetOptions]
    build: Callable[[str, Any], AwsTarget]
    api: type[PutEvents | PutRumEvents | PutProjectEvents]
    service: str


TARGETS: dict[str, TargetKind] = {
    "eventbridge": TargetKind(EventBridgeOptions, EventBridge, PutEvents, "events"),
    "rum": TargetKind(RumOptions, Rum, PutRumEvents, "rum"),
    "evidently": TargetKind(EvidentlyOptions, Evidently, PutProjectEvents, "evidently"),
}


def option_types() -> dict[str, type[TargetOptions]]:
    """Each kind to the type of its options, as the configuration wants to be told."""
    return {kind: target.options for kind, target in TARGETS.items()}


def as_native(body: bytes, key: bytes) -> Native | None:
    """An event of any kind as our own API takes it; None when it is of none that is known."""
    forms = (kind.api.as_native(body, key) for kind in TARGETS.values())
    return next((form for form in forms if form is not None), None)
