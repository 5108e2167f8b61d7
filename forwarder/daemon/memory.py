"""How the memory budget is shared between full queues and the bodies of requests."""

from __future__ import annotations

from forwarder.config import BODIES_AT_ONCE, Config, queue_memory
from forwarder.ingest.budget import Budget

SPARE_BYTES = 4 << 20
"""For events of peers that hold next to nothing while another holds all it can."""


def budget_for(config: Config) -> Budget:
    """What the memory budget leaves for requests when every queue is full.

    Where there is room, a little of it is kept spare.
    """
    whole = int(config.ingest.memory_budget) - sum(map(queue_memory, config.targets.values()))
    bodies = BODIES_AT_ONCE * config.ingest.max_body
    limit = max(bodies, whole - SPARE_BYTES)
    return Budget(limit, unproven_share=max(limit // 4, bodies), spare=SPARE_BYTES)
