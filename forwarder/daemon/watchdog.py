"""Tells the service manager how the daemon is: starting, ready, stopping, and a regular ping.

Invariants:
- A ping comes from the event loop and from nowhere else: a loop that hangs sends none.
- A ping feeds the watchdog while every task is alive. A stop, also one because a task died, is fed for as
  long as it may take; after that the service manager ends a process that hangs.
- A start and a stop ask for more time as long as the loop turns: neither is killed for what it has to do.
- A change of state is told at once, but at most TOLD_AT_ONCE of them a second; the last one is always told.
- The last status says what became of the events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Literal

from forwarder.daemon.service_manager import MICROSECONDS, ServiceManager

PING_SECONDS = 5.0
PINGS_WITHIN_WATCHDOG = 3
EXTENSION_SECONDS = 4 * PING_SECONDS
TOLD_AT_ONCE = 5
TOLD_WITHIN_SECONDS = 1.0

Phase = Literal["starting", "ready", "stopping", "stopped"]


class Watchdog:
    """``run`` it beside the daemon, and tell it each phase.

    ``describe``: how it goes, in one line. ``alive``: no task has ended unexpectedly.
    """

    def __init__(
        self, manager: ServiceManager, describe: Callable[[], str], alive: Callable[[], bool]
    ) -> None:
        self._manager = manager
        self._describe = describe
        self._alive = alive
        self._phase: Phase = "starting"
        self._stop_ends = 0.0
        self._changes_told_at: deque[float] = deque([-TOLD_WITHIN_SECONDS] * TOLD_AT_ONCE, TOLD_AT_ONCE)
        self._later: asyncio.TimerHandle | None = None
        within = (manager.watchdog or PING_SECONDS * PINGS_WITHIN_WATCHDOG) / PINGS_WITHIN_WATCHDOG
        self._pause = min(PING_SECONDS, within)

    async def run(self) -> None:
        """Until cancelled. Nothing at all where no service manager listens."""
        while self._manager:
            self.ping()
            await asyncio.sleep(self._pause)

    def ping(self, **news: object) -> None:
        """Tell how it goes, and what is new."""
        how = "opening the storage" if self._phase == "starting" else self._describe()
        self._manager.tell(f"{self._phase}; {how}", **news, **self._facts())

    def changed(self) -> None:
        """The state of something changed: tell how it goes, now or as soon as there is room for it."""
        if not self._manager or self._later is not None or self._phase in ("starting", "stopped"):
            return
        loop = asyncio.get_running_loop()
        wait = self._changes_told_at[0] + TOLD_WITHIN_SECONDS - loop.time()
        if wait > 0:
            self._later = loop.call_later(wait, self._changed_before)
            return
        self._changes_told_at.append(loop.time())
        self._manager.tell(f"{self._phase}; {self._describe()}")

    def _changed_before(self) -> None:
        self._later = None
        self.changed()

    def ready(self) -> None:
        """It listens."""
        self._phase = "ready"
        self.ping(READY=1)

    def stopping(self, seconds: float) -> None:
        """A stop begins, which takes ``seconds`` at most."""
        self._phase = "stopping"
        self._stop_ends = asyncio.get_running_loop().time() + seconds
        self.ping(STOPPING=1)

    def stopped(self, how: str) -> None:
        """It is at its end, which went like this."""
        self._phase = "stopped"
        self._manager.tell(f"stopped; {how}")

    def _facts(self) -> dict[str, object]:
        more_time: dict[str, object] = {"EXTEND_TIMEOUT_USEC": int(EXTENSION_SECONDS * MICROSECONDS)}
        ping: dict[str, object] = {} if self._manager.watchdog is None else {"WATCHDOG": 1}
        if self._phase == "starting":
            return more_time
        if self._phase == "ready":
            return ping if self._alive() else {}
        return more_time | ping if asyncio.get_running_loop().time() < self._stop_ends else {}
