"""``forwarder doctor``: would a daemon with this configuration work here, and if not, what is to be done.

Invariants:
- No event is sent, and nothing is changed: the daemon may run meanwhile.
- A finding is a plain sentence; what is not ok says what to do.
"""

from forwarder.doctor.examination import examine
from forwarder.doctor.findings import Finding, Level, format_findings, is_well

__all__ = ["Finding", "Level", "examine", "format_findings", "is_well"]
