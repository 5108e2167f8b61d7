"""What takes over from a damaged storage file what can still be read: for whoever may meet one while writing.

Invariants:
- Every kind of data in the file is here. What is missing is lost when the file is begun anew.
"""

from __future__ import annotations

from forwarder.dead_letters import rescue as rescue_letters
from forwarder.queues.salvage import rescue as rescue_queues
from forwarder.targets.remembered import rescue as rescue_names

RESCUES = (rescue_queues, rescue_letters, rescue_names)
