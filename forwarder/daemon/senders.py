"""Who may send, as configured: the files that say it, and what the ingest asks with them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence

import structlog

from forwarder.config import ConfigError, IngestConfig, Problem, exposed, tokens_in_clear
from forwarder.ingest.auth.configured import configured
from forwarder.ingest.auth.files import SecretFileError, SecretFiles
from forwarder.ingest.auth.guard import Guard
from forwarder.metrics import SenderMetrics
from forwarder.model import Clock
from forwarder.sockets import format_address, is_local


class Senders:
    """``guard`` and ``tls`` are None where nothing is asked, and may be used once this is open."""

    def __init__(self, config: IngestConfig, clock: Clock, metrics: SenderMetrics) -> None:
        self._config = config
        known, keys, secured = configured(config)
        asks = known is not None or keys is not None
        self.guard = Guard(known, keys, config.auth.clock_skew, clock, metrics) if asks else None
        self.tls: Callable[[], ssl.SSLContext] | None = None
        if secured is not None:
            metrics.certificate_ends = lambda: secured.value.certificate_ends_at
            self.tls = lambda: secured.value.context
        self.files = SecretFiles([each for each in (known, keys, secured) if each is not None], metrics)

    async def open(self, given: Sequence[socket.socket]) -> None:
        """Read the files, and judge the inherited sockets if there are any. Raises ConfigError."""
        try:
            await self.files.open()
        except SecretFileError as problem:
            setting, _, message = str(problem).partition(": ")
            raise ConfigError([Problem(setting, message)]) from None
        for warning in tokens_in_clear(self._config):
            log = structlog.get_logger("ingest")
            log.warning("bearer tokens are not encrypted", reason=str(warning))
        if self._config.is_for_all:
            return
        for address in (format_address(each.getsockname()) for each in given):
            if not is_local(address):
                open_to_all = exposed(address)
                message = f"{open_to_all.message} (inherited socket)"
                raise ConfigError([Problem(open_to_all.path, message)])
