"""Recovers what is readable from a damaged storage file: for every command that opens the storage to write.

Invariants:
- Every kind of data in the file is here. What is missing is lost when a damaged file is replaced.
"""

from __future__ import annotations

from forwarder.dead_letters import rescue as rescue_letters
from forwarder.queues.salvage import rescue as rescue_queues
from forwarder.targets.remembered import rescue as rescue_names

RESCUES = (rescue_queues, rescue_letters, rescue_names)
