"""The credentials of one target: found when first needed, renewed before they end, counted.

Invariants:
- What fails here failed before anything was sent, and is a ``SourceTrouble``.
- Keys that have not ended are used: renewing them is done beside the calls, and its failure holds nobody.
- There is one search at a time. A call waits for it at most WAIT_SECONDS.
- A key is never logged or shown. The SDK logs failed refreshes with all it was answered, so it is silenced.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from functools import partial

import structlog

from forwarder.metrics import CredentialsView
from forwarder.model import Clock, SystemClock
from forwarder.targets.searches import Find, Search
from forwarder.targets.source_table import cure_of, in_words
from forwarder.targets.sources import CREDENTIALS, Keys, SourceTrouble

for _name in ("credentials", "tokens"):
    logging.getLogger(f"aiobotocore.{_name}").setLevel(logging.CRITICAL)

WAIT_SECONDS = 10.0
"""How long a call waits for keys before it fails; the search goes on, for the next call."""

RENEW_SECONDS = 900.0
"""How long before their end keys are renewed, as by the SDK."""

AGAIN_SECONDS = 10.0
"""The pause between searches for newer keys while the old ones last."""

LAST_SECONDS = 10.0
"""Keys that end so soon are not used for another call."""

MAX_HANGING = 3
"""Searches that hang in a file, and are left to it, before no other is begun."""


class Credentials:
    """The keys of one target. ``find`` searches once."""

    def __init__(self, find: Find, clock: Clock | None = None, target: str = "") -> None:
        self._find = find
        self._clock = clock or SystemClock()
        self._keys: Keys | None = None
        self._known: Keys | None = None
        self._ends_at: float | None = None
        self._search: Search | None = None
        self._hanging: list[Search] = []
        self._again_at = 0.0
        self._refreshed = 0
        self._failed = 0
        self._late = False
        self._logged_source = ""
        self._log = structlog.get_logger("credentials").bind(**({"target": target} if target else {}))

    def view(self) -> CredentialsView:
        known = self._known
        return CredentialsView(
            self._ends_at, self._refreshed, self._failed, in_words(known.source) if known else ""
        )

    @property
    def source(self) -> str:
        """The SDK's word for the source of the keys found last."""
        return self._known.source if self._known is not None else ""

    def secrets(self) -> tuple[str | None, ...]:
        """What must not be told of the keys in use."""
        keys = self._known
        return () if keys is None else (keys.token, keys.secret_key, keys.access_key)

    async def ready(self) -> Keys:
        """Keys to sign with; raises SourceTrouble when there are none."""
        keys = self._keys
        if keys is not None and not self._ends_within(LAST_SECONDS):
            if self._ends_within(RENEW_SECONDS) and self._clock.monotonic() >= self._again_at:
                self._searching()
            return keys
        return await self._found()

    def drop(self, keys: Keys | None) -> None:
        """Search again before the next call, unless there are others than these by now."""
        if keys is not None and keys is self._keys:
            self._keys = None

    async def close(self) -> None:
        searches = [*self._hanging, *([self._search] if self._search else [])]
        for search in searches:
            search.cancel()
        for search in searches:
            await search.ended(0.0 if search.hangs else 2.0)

    async def _found(self) -> Keys:
        search = self._searching()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.shield(search.result)
        except TimeoutError:
            self._count_failure(search)
            raise self._slow(search) from None

    def _slow(self, search: Search) -> SourceTrouble:
        source = search.progress.source
        return SourceTrouble(
            CREDENTIALS, source, f"there was no answer within {WAIT_SECONDS:g} seconds", cure_of(source)
        )

    def _searching(self) -> Search:
        """The search that goes on, or a new one."""
        search = self._search
        if search is not None and search.hangs and len(self._hanging) < MAX_HANGING:
            self._hanging = [*(each for each in self._hanging if each.hangs), search]
            search = None
        if search is None:
            search = self._search = Search(self._find)
            search.result.add_done_callback(partial(self._done, search))
        return search

    def _count_failure(self, search: Search) -> None:
        """Once for each search, however many calls wait for it in vain."""
        self._failed += not search.has_failed
        search.has_failed = True

    def _done(self, search: Search, result: asyncio.Future[Keys]) -> None:
        if search is self._search:
            self._search = None
        self._again_at = self._clock.monotonic() + AGAIN_SECONDS
        if result.cancelled():
            return
        error = result.exception()
        if error is not None:
            self._count_failure(search)
            self._say_late(error)
            return
        self._late = False
        self._take(result.result())

    def _take(self, keys: Keys) -> None:
        known, self._keys = self._known, keys
        self._ends_at = None if keys.lasts is None else self._clock.wall() + keys.lasts
        if known is None or known[:3] != keys[:3]:
            self._refreshed += 1
        self._known = keys
        if keys.source != self._logged_source:
            self._logged_source = keys.source
            self._log.info("credentials found", source=in_words(keys.source), ends=_moment(self._ends_at))

    def _say_late(self, error: BaseException) -> None:
        if self._keys is not None and not self._late:
            self._late = True
            self._log.warning(
                "credentials could not be renewed; the old ones are still used",
                ends=_moment(self._ends_at),
                error=str(error),
            )

    def _ends_within(self, seconds: float) -> bool:
        return self._ends_at is not None and self._clock.wall() + seconds > self._ends_at


def _moment(wall: float | None) -> str:
    return "never" if wall is None else f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%dT%H:%M:%SZ}"
