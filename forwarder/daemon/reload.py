"""What a running daemon reads again: the files of secrets when they change, and with the log level on SIGHUP.

Invariants:
- Everything that is read again is read here, and one line says what became of it.
- What is bad changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import structlog
from msgspec.structs import replace

from forwarder import logs
from forwarder.config import Config, ConfigError, load
from forwarder.ingest.auth.files import SecretFiles
from forwarder.targets import option_types

LOOK_SECONDS = 1.0
"""How often a look is taken at the files."""


class Rereading:
    """``ask`` on SIGHUP; ``run`` until cancelled. ``path``: of the configuration, if it is from a file.

    ``reloading``: a context for each reload that was asked for; it ends when the reload has ended.
    """

    def __init__(self, files: SecretFiles, config: Config, path: str | Path | None) -> None:
        self._files = files
        self._config = config
        self._path = path
        self.reloading: Callable[[], AbstractContextManager[None]] = nullcontext
        self._asked = asyncio.Event()
        self._log = structlog.get_logger("daemon")

    def ask(self) -> None:
        self._asked.set()

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._files else None):
                    await self._asked.wait()
            if self._asked.is_set():
                self._asked.clear()
                with self.reloading():
                    await self._read_all()
            else:
                await self._files.look()

    async def _read_all(self) -> None:
        outcomes = await self._files.look(anyway=True)
        try:
            outcomes |= await self._read_config()
        except ConfigError as error:
            problems = list(error.lines(self._path or ""))
            self._log.error("invalid configuration ignored; keeping the log level", problems=problems)
        self._log.info("reload finished", **outcomes)

    async def _read_config(self) -> dict[str, str]:
        if self._path is None:
            return {}
        config = await asyncio.to_thread(load, self._path, option_types())
        logs.set_level(config.log.level)
        same = replace(config, log=self._config.log) == self._config
        return {
            "log_level": config.log.level,
            **({} if same else {"restart": "needed for the other changed settings"}),
        }
