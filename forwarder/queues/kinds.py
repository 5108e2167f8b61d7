"""Every kind of queue, one line each.

Invariants:
- Another kind is one file here and one line in QUEUES; nobody else knows its name. See
  docs/adding-a-queue.md.
"""

from __future__ import annotations

from forwarder.queues import disk, memory
from forwarder.queues.building import QueueKind, QueueOptions

QUEUES: dict[str, QueueKind] = {
    "memory": QueueKind(memory.MemoryOptions, memory.build),
    "disk": QueueKind(disk.DiskOptions, disk.build),
}


def queue_types() -> dict[str, type[QueueOptions]]:
    """Each kind to the type of its options, as the configuration wants to be told."""
    return {kind: queue.options for kind, queue in QUEUES.items()}
