"""The last log lines of a daemon: where every event of its run went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import structlog


def say_ledgers(ledgers: Mapping[str, Mapping[str, int]], kept: int | None) -> Counter[str]:
    """Log a line for each target and one for all of them; the sums.

    ``kept``: the events on the disk after a failure of the storage, None without one.
    """
    log = structlog.get_logger("daemon")
    total: Counter[str] = Counter()
    for name, ledger in ledgers.items():
        total.update(ledger)
        log.info("ledger", target=name, **ledger)
    if lost := total["dropped"]:
        log.error("stopped; some events were lost", lost=lost)
    elif kept is not None:
        log.error("stopped after a storage failure", events=kept)
    elif not all(ledger["balanced"] for ledger in ledgers.values()):
        log.error("stopped; the ledger does not balance, so events may be lost")
    elif unconfirmed := total["unconfirmed"]:
        log.error("stopped; some delivered events are unconfirmed", unconfirmed=unconfirmed)
    else:
        log.info("stopped, nothing lost")
    return total


def ending_of(ledger: Mapping[str, int]) -> str:
    """What became of the events of a run, in one line. ``ledger``: the sums over all targets."""
    words = {
        "in_queue": "kept on disk",
        "dead_lettered": "dead letters",
        "dropped": "lost",
        "unconfirmed": "unconfirmed",
    }
    parts = [f"{word}: {ledger[name]}" for name, word in words.items() if ledger[name]]
    return "; ".join((f"events delivered: {ledger['delivered']}", *parts))
