"""Scrapes ``/metrics`` of a running daemon from a process of its own, and checks every ledger it sees.

``python scraper.py URL``: scrapes as often as there is something new, until its standard input ends, then
once more, and prints one JSON object: how many scrapes, the ledgers that did not balance, and what it saw.
Imports nothing but the standard library.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

CAME = ("accepted", "recovered", "replayed")
WENT = ("delivered", "dead_lettered", "dropped", "in_queue")
LINE = re.compile(
    r"^forwarder_(?:events_(accepted|recovered|replayed|delivered|dead_lettered|dropped)_total|(queue_events))"
    r'\{[^}]*target="([^"]+)"[^}]*\} (\S+)$',
    re.MULTILINE,
)

PAUSE = 1.05
"""Seconds: the daemon makes this answer at most once a second."""

Ledger = dict[str, int]


def ledgers(exposition: str) -> dict[str, Ledger]:
    """Each target's ledger; the numbers of one name are summed over all other labels."""
    found: dict[str, Ledger] = defaultdict(lambda: dict.fromkeys((*CAME, *WENT), 0))
    for name, depth, target, value in LINE.findall(exposition):
        found[target]["in_queue" if depth else name] += int(float(value))
    return dict(found)


def balances(ledger: Mapping[str, Any]) -> bool:
    came, went = (sum(int(ledger[name]) for name in side) for side in (CAME, WENT))
    return came == went


def main(url: str) -> None:
    scrapes, wrong, deepest = 0, [], 0
    seen: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    last: dict[str, Ledger] = {}
    stopping = False
    while not stopping:
        stopping = bool(select.select([sys.stdin], [], [], PAUSE)[0])
        if stopping:
            time.sleep(PAUSE)
        with urllib.request.urlopen(url, timeout=10) as answer:
            last = ledgers(answer.read().decode())
        scrapes += 1
        for target, ledger in last.items():
            seen[target].add(tuple(ledger.values()))
            deepest = max(deepest, ledger["in_queue"])
            if not balances(ledger):
                wrong.append({"target": target, **ledger})
        print(scrapes, file=sys.stderr, flush=True)
    different = {target: len(ledgers_seen) for target, ledgers_seen in seen.items()}
    print(
        json.dumps(
            {"scrapes": scrapes, "wrong": wrong, "deepest": deepest, "different": different, "last": last}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
