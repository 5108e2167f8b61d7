"""All examinations, in the order in which a person would go: settings, senders, storage, the way to AWS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from forwarder.config import Config
from forwarder.doctor import senders, settings, storage, targets
from forwarder.doctor.findings import Finding
from forwarder.targets import TARGETS


async def examine(config: Config, wall: Callable[[], float] = time.time) -> list[Finding]:
    """Everything that was found. The targets are examined at once; ``wall`` is compared with AWS's clock."""
    findings = [
        *settings.examine(config),
        *senders.examine(config.ingest),
        *storage.examine(config.storage),
    ]
    built = {name: TARGETS[options.kind].build(name, options) for name, options in config.targets.items()}
    examinations = [
        targets.examine(name, target, config.targets[name], wall) for name, target in built.items()
    ]
    for found in await asyncio.gather(*examinations):
        findings += found
    return findings
