"""``forwarder doctor``: whether a daemon with this configuration would work here, and what to do if not.

Invariants:
- No event is sent and nothing is changed, so the daemon may run meanwhile.
- A finding is a plain sentence. One that is not ok says what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from forwarder.config import Config
from forwarder.doctor import senders, settings, storage, targets
from forwarder.doctor.findings import Finding, Level, format_findings, is_well
from forwarder.doctor.grouping import grouped

__all__ = ["Finding", "Level", "examine", "format_findings", "is_well"]


async def examine(config: Config, wall: Callable[[], float] = time.time) -> list[Finding]:
    """All findings, each cause once. ``wall`` is compared with AWS's clock."""
    findings = [
        *settings.examine(config),
        *senders.examine(config),
        *storage.examine(config.storage),
        *await targets.examine(config.targets, wall),
    ]
    return grouped(findings, list(config.targets))
