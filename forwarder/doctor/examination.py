"""All examinations, in the order in which a person would go: settings, senders, storage, the way to AWS."""

from __future__ import annotations

import time
from collections.abc import Callable

from forwarder.config import Config
from forwarder.doctor import senders, settings, storage, targets
from forwarder.doctor.findings import Finding
from forwarder.doctor.grouping import grouped


async def examine(config: Config, wall: Callable[[], float] = time.time) -> list[Finding]:
    """Everything that was found, each cause once. ``wall`` is compared with AWS's clock."""
    findings = [
        *settings.examine(config),
        *senders.examine(config),
        *storage.examine(config.storage),
        *await targets.examine(config.targets, wall),
    ]
    return grouped(findings, list(config.targets))
