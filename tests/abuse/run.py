"""``make abuse``: attacks a real daemon, and judges from outside what it did to everybody else.

    python -m tests.abuse.run [WORD ...] [--long] [--say] [--tree FOLDER] [--json FILE] [--list]

Prints "attack | figure | bound" for each, and exits with 1 when a bound was broken. WORD: only attacks whose
name has it.

Invariants:
- Figures are CPU, memory and counts, so attacks on daemons of their own may run beside each other. Wall time
  is told beside a run without the attack, and never judged.
- An attack that cannot be made is a failure too, and says why.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.abuse import held, lifted, raw, sent, waiting, watching
from tests.abuse.figures import Attack, Context, Result
from tests.abuse.stage import ROOT, a_stage

RESULTS = Path("/tmp/forwarder-abuse.json")


def attacks() -> list[Attack]:
    """Every attack, in the order of the table."""
    return [*sent.attacks(), *raw.attacks(), *held.attacks(), *waiting.attacks(), *watching.attacks()]


def tried(attack: Attack, context: Context) -> Result:
    began = time.monotonic()
    result = Result(attack.name, attack.principles, [], 0.0)
    try:
        for figure in attack.act(context):
            result.figures.append(figure)
            verdict = "" if figure.holds else "  BROKEN"
            detail = f"  ({figure.detail})" if figure.detail else ""
            line = (
                f"{attack.name} | {figure.what}: {figure.shown()} | {figure.shown_bound()}{verdict}{detail}"
            )
            print(line, flush=True)
    except Exception as problem:
        result.problem = f"{type(problem).__name__}: {problem}"
        print(f"{attack.name} | FAILED: {result.problem[:2000]}", flush=True)
        if context.say:
            traceback.print_exc()
    result.seconds = time.monotonic() - began
    return result


def run(chosen: Sequence[Attack], context: Context) -> list[Result]:
    """Attacks that share a daemon run one after another. The others run at the same time, each on its own."""
    sharing = [attack for attack in chosen if attack.shares]
    alone = [attack for attack in chosen if not attack.shares]
    with ThreadPoolExecutor(context.at_once) as pool:
        shared = pool.submit(on_one_daemon, sharing, context)
        apart = pool.map(partial(tried, context=context), alone)
        return [*shared.result(), *apart]


def on_one_daemon(sharing: Sequence[Attack], context: Context) -> list[Result]:
    """A new one where it died."""
    left, results = [*sharing], []
    while left:
        with contextlib.suppress(OSError), a_stage(tree=context.tree) as daemon:
            while left and daemon.alive:
                results.append(tried(left.pop(0), replace(context, shared=daemon)))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.run", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--long", action="store_true", help="more and longer")
    parser.add_argument("--say", action="store_true", help="every input, and not only the worst")
    parser.add_argument("--tree", type=Path, default=ROOT, help="whose code the daemon runs")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--at-once", type=int, default=2, help="attacks, each on a daemon of its own")
    parser.add_argument("--no-self-test", action="store_true")
    options = parser.parse_args(argv)
    every = attacks()
    chosen = [a for a in every if not options.words or any(word in a.name for word in options.words)]
    if options.list:
        print("\n".join(attack.name for attack in chosen))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended first
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = Context(options.tree.resolve(), options.long, options.say, options.at_once)
    began = time.monotonic()
    seen = options.no_self_test or options.words or lifted.judge_sees(context)
    results = run(chosen, context)
    options.json.write_text(
        json.dumps([result.as_json() for result in results], indent=1, ensure_ascii=False)
    )
    broken = [result.attack for result in results if not result.holds]
    print(f"\n{len(results)} attacks in {time.monotonic() - began:.0f} s, {len(broken)} succeeded")
    for name in broken:
        print(f"    {name}")
    if not seen:
        print("THE JUDGE IS BLIND: it saw nothing wrong where the bounds were lifted")
    return 1 if broken or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
