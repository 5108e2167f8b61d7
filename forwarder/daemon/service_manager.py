"""What the service manager that started us is told, in the words of sd_notify(3).

Invariants:
- Without ``NOTIFY_SOCKET`` nothing is opened, and telling does nothing.
- Telling never waits and never raises: what could not be said is said with the next word. Only ``close``
  waits, LAST_SECONDS at most, so that the last status is heard.
- What the environment says of this goes no further: not to a child of ours.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import structlog

from forwarder.logs import limited, one_line

MAX_STATUS = 1_000
"""systemd reads 4,096 bytes of a message and no more; a status that is too long may not cost us a ping."""

MICROSECONDS = 1_000_000
LAST_SECONDS = 0.5


class ServiceManager:
    """Whoever listens at ``NOTIFY_SOCKET``. False where nobody does.

    ``watchdog``: seconds within which it wants to hear ``WATCHDOG=1``; None when it does not ask.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, watchdog, pid = (environ.pop(name, "") for name in names)
        self.watchdog: float | None = None
        if watchdog.isdecimal() and int(watchdog) and pid in ("", str(os.getpid())):
            self.watchdog = int(watchdog) / MICROSECONDS
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self._unsent: dict[str, object] = {}
        self._status = ""
        if self:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def __bool__(self) -> bool:
        return self._address[:1] in ("/", "\0") and len(self._address) > 1

    def tell(self, status: str = "", **facts: object) -> None:
        """Say what is so now; a ``status`` that is known already is not said again."""
        if not self:
            return
        if status and status != self._status:
            self._status = status
            facts["STATUS"] = one_line(status)[:MAX_STATUS]
        self._unsent |= facts
        if self._unsent:
            self._send()

    def _send(self) -> None:
        message = "\n".join(f"{name}={value}" for name, value in self._unsent.items())
        try:
            self._socket.sendto(message.encode(), self._address)
        except BlockingIOError:
            return  # it is busy, and hears this with the next word
        except OSError as problem:
            log = limited(structlog.get_logger("daemon"), "service manager")
            log.warning("cannot notify the service manager", reason=problem.strerror or str(problem))
            return
        self._unsent = {}

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Within the block settings are read again."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1_000)
        try:
            yield
        finally:
            self.tell(READY=1)

    def close(self) -> None:
        if self:
            if self._unsent:
                self._socket.settimeout(LAST_SECONDS)
                self._send()
            self._socket.close()
