"""Attacks by watching: clients that ask the admin listener without pause.

Invariants:
- Control and attack take turns, each with the same honest sender, so that what else the machine does touches
  both alike. What is judged is CPU of the event loop's thread, and the number of answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import quantiles

from tests.abuse.figures import Attack, Context, Figure, number
from tests.abuse.stage import HERE, Daemon, Neighbour, a_stage
from tests.abuse.wire import ATTACKER

CLIENTS = 16
CALM_SECONDS, STORM_SECONDS = 3.0, 3.0
WATCHED = ("/metrics", "/status", "/history", "/config")
CORE_PERCENT = 10.0
"""Of a core that watching may take, at most."""
BURST, ANSWERS_A_SECOND = 50, 66.0
"""What is answered at once, and 60 a second with a tenth of tolerance."""


def asking(daemon: Daemon, path: str) -> subprocess.Popen[bytes]:
    """Clients on keep-alive connections that ask again as soon as they are answered."""
    command = [
        sys.executable,
        "-P",
        str(HERE / "storm.py"),
        "--port",
        str(daemon.admin),
        "--source",
        ATTACKER,
    ]
    command += ["--connections", str(CLIENTS), "--seconds", str(STORM_SECONDS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    process.stdin.close()
    return process


def _wait(process: subprocess.Popen[bytes]) -> None:
    process.wait()


class Round:
    """CPU and wall time of some seconds, and how long a good event waited for its answer."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.waits: list[float] = []
        self.refused = 0

    def add(self, daemon: Daemon, act: Callable[[], None]) -> None:
        cpu, wall = daemon.cpu(), time.monotonic()
        with Neighbour(daemon, {"orders": ""}, pause=0.02) as neighbour:
            act()
        self.cpu += daemon.cpu() - cpu
        self.wall += time.monotonic() - wall
        self.waits += [post.wall_ms for post in neighbour.posts]
        self.refused += len(neighbour.refused)

    def include(self, other: Round) -> None:
        self.cpu += other.cpu
        self.wall += other.wall
        self.waits += other.waits
        self.refused += other.refused

    @property
    def percent(self) -> float:
        return 100 * self.cpu / self.wall

    @property
    def p95(self) -> float:
        return quantiles(self.waits, n=20)[-1]


def hammered(context: Context) -> Iterator[Figure]:
    calm, storm, answers = Round(), Round(), 0
    rounds: dict[str, tuple[Round, Round]] = {}
    with a_stage(tree=context.tree) as daemon:
        for path in WATCHED:
            before, during = Round(), Round()
            before.add(daemon, partial(time.sleep, CALM_SECONDS))
            process = asking(daemon, path)
            during.add(daemon, partial(_wait, process))
            assert process.stdout is not None
            answers += json.loads(process.stdout.read())["200"]
            rounds[path] = before, during
            calm.include(before)
            storm.include(during)
    most = len(WATCHED) * (BURST + ANSWERS_A_SECOND * STORM_SECONDS)
    yield Figure("good events refused", storm.refused, 0)
    yield Figure(
        "% of a core", storm.percent - calm.percent, CORE_PERCENT, "", f"{calm.percent:.1f} % without"
    )
    yield Figure("answers", answers, most)
    for path, (before, during) in {"all": (calm, storm), **rounds}.items():
        what = f"95 of 100 good events answered in, {path}"
        without = f"{number(before.p95, 'ms')} without the clients"
        yield Figure(what, during.p95, None, "ms", without, listed=True)


def attacks() -> list[Attack]:
    return [Attack(f"{CLIENTS} clients that ask admin without pause", "12", hammered)]
