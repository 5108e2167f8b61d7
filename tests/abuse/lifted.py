"""That the judge can fail: daemons whose bounds are lifted by settings, or whose AWS takes nothing.

Invariants:
- The daemon's code is as it is: what is lifted is what an operator can lift.
- Each kind of figure (time, memory, fairness) is seen to be broken.
"""

from __future__ import annotations

import time

from tests.abuse import wire
from tests.abuse.figures import Context, Figure, fairness, longest_step, peak_memory
from tests.abuse.stage import BUDGET, MIB, Neighbour, a_stage

LARGE = 200 * MIB


def judge_sees(context: Context) -> bool:
    """Whether every figure that must be broken is."""
    figures = [*_large_body(context), *_no_delivery(context)]
    for figure in figures:
        verdict = "seen" if not figure.holds else "NOT SEEN"
        print(
            f"bounds lifted | {figure.what}: {figure.shown()} | {figure.shown_bound()}  {verdict}", flush=True
        )
    return not any(figure.holds for figure in figures)


def _large_body(context: Context) -> list[Figure]:
    """``max_body`` and ``memory_budget`` are raised; the judge goes by the bounds of the defaults."""
    lifted = {"max_body": "256MiB"}
    with a_stage(tree=context.tree, ingest=lifted, budget=4096 * MIB, told=BUDGET) as daemon:
        event = b'{"Source":"s","DetailType":"t","Detail":{"a":"' + b"x" * LARGE + b'"}}'
        wire.ask(daemon.port, wire.native("orders", event))
        return [longest_step(daemon), peak_memory(daemon)]


def _no_delivery(context: Context) -> list[Figure]:
    """An AWS that takes nothing: good events do not arrive. A full place: they are refused."""
    with a_stage(tree=context.tree, options={"queue_limits": {"max_events": 1, "max_bytes": MIB}}) as daemon:
        daemon.aws.close()
        with Neighbour(daemon, {"orders": "", "other": "other"}, pause=0.01) as neighbour:
            time.sleep(1.0)
        refused, missing, _, _ = fairness(neighbour, neighbour, seconds=1.0)
        return [refused, missing]
