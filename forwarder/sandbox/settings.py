"""What a sandbox can be told when it starts.

Invariants:
- Everything that may change while it runs is a matter of the control endpoints, not of the settings.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from forwarder.addresses import Listens
from forwarder.apis.api import Api
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.urls import SANDBOX

BUILT_IN: tuple[type[Api], ...] = (PutEvents, PutRumEvents, PutProjectEvents)


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``listen`` is an address as in the configuration, or several (port 0: any free one). ``buses`` exist
    beside ``default``; without ``app_monitors`` or ``projects`` every one exists. ``max_request_bytes`` is
    PutEvents' limit, by AWS's formula. ``upstream`` is the URL of another EventBridge that gets the calls no
    fault hits. ``keep`` off: only count what arrives. ``apis``: those that it answers."""

    listen: str | tuple[str, ...] = SANDBOX
    upstream: str | None = None
    require_auth: bool = False
    keep: bool = True
    buses: tuple[str, ...] = ()
    app_monitors: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    max_request_bytes: int = 1_048_575
    max_body_bytes: int = 8 << 20
    account: str = "000000000000"
    apis: tuple[type[Api], ...] = BUILT_IN

    def __post_init__(self) -> None:
        if self.upstream is not None and not _is_url(self.upstream):
            raise ValueError(
                f"upstream must be http://host[:port] or https://host[:port], got {self.upstream!r}"
            )

    @property
    def places(self) -> Listens:
        try:
            return Listens.parse(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from None


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is none
        return False
