"""Looks for the credentials of a target that makes no calls, so that trouble shows before the first event.

Targets that ask AWS about their names have no need of it.

Invariants:
- Keys are found at the start, and renewed before they end, whether events come or not.
- What fails holds the target with the source's name and the cure; the next success ends the hold.
"""

from __future__ import annotations

import asyncio

from forwarder.apis.codes import reason_of
from forwarder.states import Reason
from forwarder.targets.asking import Hold, sentence_of
from forwarder.targets.credentials import Credentials
from forwarder.targets.sources import SourceTrouble
from forwarder.targets.translation import before_call

LOOK_SECONDS = 10.0


async def keep(credentials: Credentials, hold: Hold) -> None:
    """Until cancelled."""
    while True:
        try:
            await credentials.ready()
        except SourceTrouble as trouble:
            results = before_call(trouble, 0)
            hold(sentence_of(results), reason_of(results.status, results.code))
        else:
            hold(None, Reason.NONE)
        await asyncio.sleep(LOOK_SECONDS)
