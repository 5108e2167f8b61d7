"""``make bench-smoke``: a few seconds of two rows, against the handler with a call per event.

It fails only when the forwarder costs twice what it should beside that handler: a shared machine shakes every
figure, but both alike.
"""

from __future__ import annotations

import sys

from benchmarks.machine import CHECKOUT
from benchmarks.measuring import Load, Through
from benchmarks.servers import PER_EVENT, Start, forwarder

NAIVE = "handler, one call per event"
KNOWN = {100: 23.0, 1: 8.0}
"""Events a post -> how many times less CPU the forwarder needed when last measured in full."""


def cost(start: Start, load: Load) -> float:
    """CPU us per event."""
    with Through(start, load).opened(CHECKOUT) as once:
        return once()["value"]


def main() -> int:
    good = True
    for per_post, known in KNOWN.items():
        own = cost(forwarder(), Load(30_000, per_post))
        other = cost(PER_EVENT, Load(1_000, per_post))
        reached = other / own >= known / 2
        good = good and reached
        print(
            f"{per_post} events a post: {own:.1f} us an event, {other / own:.1f} times less than {NAIVE} "
            f"({known:g} known): {'good' if reached else 'MUCH DEARER THAN IT WAS'}"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
