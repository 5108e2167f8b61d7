"""The listeners that may be inherited, and what the log says of those that were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from forwarder.config import Config

LISTENERS = ("ingest", "admin")


def say_inherited(names: Iterable[str], config: Config, addresses: Mapping[str, str]) -> None:
    """The inherited socket is in use, whatever the configuration says; where that differs it is a warning."""
    log = structlog.get_logger("daemon")
    for name in names:
        configured = getattr(config, name).listen
        say = log.info if configured == addresses[name] else log.warning
        say(f"{name}.listen: on an inherited socket", configured=configured, used=addresses[name])
