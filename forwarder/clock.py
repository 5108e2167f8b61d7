"""Notices when the wall clock cannot be believed: after a step, and when it is behind what was written by it.

Invariants:
- A step is seen as a change of the wall clock against the monotonic one. A machine that slept looks the same.
- While the clock is doubted, nothing is deleted for its age. It is doubted for an hour; this is logged once.
- What an earlier boot of the machine wrote can only be aged by the wall clock. A clock may be wrong until it
  is set over the network, so for an hour after the start nothing is deleted for such an age.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import structlog

from forwarder.cures import OF_NOTES, Note
from forwarder.model import Clock

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
DOUBTED_SECONDS = 3_600.0
STEP_SECONDS = 60.0
"""A smaller change makes nothing too old."""


class ClockWatch:
    """``look`` now and then; before anything is deleted for its age, too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.monotonic()
        self._offset = clock.wall() - clock.monotonic()
        self._doubted_until = float("-inf")
        self._reason = ""
        self._log = structlog.get_logger("clock")

    @property
    def offset(self) -> float:
        """What to add to the monotonic clock to have the wall clock, as it was last seen to be stepped."""
        return self._offset

    def look(self) -> None:
        """Compare the clocks."""
        offset = self._clock.wall() - self._clock.monotonic()
        moved = offset - self._offset
        if abs(moved) < STEP_SECONDS:
            return
        self._offset = offset
        way = "forward" if moved > 0 else "back"
        self._doubt(f"the wall clock moved {way} by {abs(moved):.0f} seconds")

    def see(self, written_at: float) -> None:
        """Something was written at this moment of the wall clock."""
        if (behind := written_at - self._clock.wall()) >= STEP_SECONDS:
            self._doubt(f"the wall clock is {behind:.0f} seconds behind the newest dead letter")

    def _doubt(self, reason: str) -> None:
        self._doubted_until = self._clock.monotonic() + DOUBTED_SECONDS
        self._reason = reason
        self._log.warning(
            "wall clock may be wrong; for 1 hour dead letters and events of an earlier boot do not expire",
            reason=reason,
            runbook=OF_NOTES[Note.CLOCK].page,
        )

    @property
    def is_doubted(self) -> bool:
        """Nothing may be deleted for its age now."""
        return self._clock.monotonic() < self._doubted_until

    @property
    def is_proven(self) -> bool:
        """What an earlier boot wrote may be aged by the wall clock now."""
        return not self.is_doubted and self._clock.monotonic() >= self._started_at + DOUBTED_SECONDS

    def sentence(self, waiting: Collection[str] = ()) -> str:
        """For people; "" when the clock holds nothing back. ``waiting``: the targets of which no event may
        expire, since the wall clock ages some of them."""
        queues = f"no event of {', '.join(waiting)} expires" if waiting else ""
        if self.is_doubted:
            held_back = " and ".join(filter(None, ("dead letters are not deleted by age", queues)))
            return f"{self._reason}; {held_back} for {self._minutes(self._doubted_until)}"
        proven_at = self._started_at + DOUBTED_SECONDS
        if not queues or self._clock.monotonic() >= proven_at:
            return ""
        return f"events from before the last boot are queued; {queues} for {self._minutes(proven_at)}"

    def _minutes(self, until: float) -> str:
        minutes = math.ceil((until - self._clock.monotonic()) / 60)
        return "1 minute" if minutes == 1 else f"{minutes} minutes"


def this_boot() -> str:
    """The id of the machine's boot; "" where the system has none. The monotonic clock lasts as long."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
