"""The credentials of one client: asked for before each call, counted, and when they end.

Invariants:
- What fails here failed before anything was sent.
- Only what the SDK offers in public is used: when credentials end is found by asking whether they end within
  so many seconds.
- A key is never logged or shown. The SDK logs failed refreshes with all it was answered, so it is silenced.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from typing import Any

import structlog
from aiobotocore.session import AioSession
from botocore.exceptions import NoCredentialsError

from forwarder.metrics import CredentialsView
from forwarder.model import Clock, SystemClock

logging.getLogger("aiobotocore.credentials").setLevel(logging.CRITICAL)

LONGEST_SECONDS = 7 * 86_400
"""No AWS credentials that end last longer than this; what lasts longer is taken not to end."""


class CredentialsWatch:
    """Sees the credentials of one client through all its sessions."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._keys: object = None
        self._ends_at: float | None = None
        self._refreshed = 0
        self._failed = 0
        self._asking = asyncio.Lock()
        self._late = False
        self._log = structlog.get_logger("credentials")

    def view(self) -> CredentialsView:
        return CredentialsView(self._ends_at, self._refreshed, self._failed)

    def secrets(self) -> tuple[str | None, ...]:
        """What must not be told of the keys in use."""
        return tuple(getattr(self._keys, name, None) for name in ("token", "secret_key", "access_key"))

    async def ready(self, session: AioSession) -> Any:
        """The session's credentials, frozen, refreshed if it was time; raises what the SDK does."""
        try:
            credentials = await session.get_credentials()
            if credentials is None:
                raise NoCredentialsError
            if _due(credentials) and not self._asking.locked():
                async with self._asking:
                    keys = await credentials.get_frozen_credentials()
                    self._say_if_late(keys == self._keys)
            else:
                keys = await credentials.get_frozen_credentials()
        except Exception:
            self._failed += 1
            raise
        if keys != self._keys:
            self._keys = keys
            self._refreshed += 1
            self._ends_at = self._end_of(credentials)
        return keys

    def _say_if_late(self, failed: bool) -> None:
        """The SDK hides that a refresh failed as long as the old credentials are good."""
        self._failed += failed
        if failed and not self._late:
            self._log.warning(
                "credentials could not be refreshed; they are good for a while", ends=self._ends_at
            )
        self._late = failed

    def _end_of(self, credentials: Any) -> float | None:
        """When they end, to the second, by the wall clock; None when they do not."""
        ends_within = getattr(credentials, "refresh_needed", None)
        if ends_within is None:
            return None
        seconds = bisect_left(range(LONGEST_SECONDS), True, key=ends_within)
        return None if seconds == LONGEST_SECONDS else self._clock.wall() + seconds


def _due(credentials: Any) -> bool:
    """Whether the SDK will ask for new ones now."""
    return hasattr(credentials, "refresh_needed") and bool(credentials.refresh_needed())
