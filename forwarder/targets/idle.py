"""Looks for the credentials of a target that makes no calls, so that trouble shows before the first event.

Targets that ask AWS about names they list have no need of it.

Invariants:
- Keys are found at the start, and renewed before they end, whether events come or not.
- A failure holds the target, with the source's name and the cure; the next success ends the hold.
- Whatever fails holds the target, as it does in a call: no failure of a search ends the daemon.
"""

from __future__ import annotations

from forwarder.apis.codes import reason_of
from forwarder.states import Reason
from forwarder.targets.asking import Alarm, Hold
from forwarder.targets.credentials import Credentials
from forwarder.targets.translation import before_call

LOOK_SECONDS = 10.0


class IdleCredentials:
    """The look-ups for one target: ``run`` them, and ``hurry`` when a person may have mended something.

    ``probe``: seconds until the next look while there are none. ``is_looking``: a look-up is under way, or
    about to begin.
    """

    def __init__(self, credentials: Credentials, probe: float) -> None:
        self._credentials = credentials
        self._probe = probe
        self._alarm = Alarm()
        self.is_looking = False

    async def run(self, hold: Hold) -> None:
        """Until cancelled."""
        while True:
            self.is_looking = True
            found = await self._look(hold)
            self.is_looking = False
            await self._alarm.sleep(LOOK_SECONDS if found else min(LOOK_SECONDS, self._probe))

    def hurry(self) -> None:
        """Look now."""
        self.is_looking = True
        self._alarm.ring()

    async def _look(self, hold: Hold) -> bool:
        """Whether there are credentials."""
        try:
            await self._credentials.ready()
        except Exception as trouble:
            results = before_call(trouble, 0)
            hold(results.sentence, reason_of(results.status, results.code))
            return False
        hold(None, Reason.NONE)
        return True
