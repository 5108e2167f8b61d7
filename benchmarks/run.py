"""``make bench``: the forwarder beside what one would write oneself, in one run, best of three each.

CPU is user + system time of the server's process alone, read from /proc around each load, divided by the
events that arrived; the load generator and the sink are processes of their own. Every run asserts that what
was sent arrived. Ratios in one run are what to read: the machine's speed drifts, absolute figures with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
ENVIRONMENT = {**os.environ, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
WARM_UP_EVENTS = 1_000
CONFIG = """\
ingest: {{listen: 127.0.0.1:{port}}}
admin: {{listen: 127.0.0.1:{admin}}}
storage: {{path: {folder}}}
log: {{level: warning}}
targets:
  bench:
    kind: eventbridge
    region: eu-west-1
    endpoint_url: "http://127.0.0.1:{sink}"
    verify_buses: false
"""


@dataclass(frozen=True)
class Load:
    name: str
    per_post: int
    events: int
    naive_events: int
    at_least: float
    """How many times less CPU per event than the per-event handler is expected."""


LOADS = (
    Load("arrays of 100", 100, 100_000, 3_000, 8.0),
    Load("one event a POST", 1, 30_000, 3_000, 5.0),
)


@dataclass(frozen=True)
class Figures:
    events_per_second: float
    cpu_us: float
    rss_mb: float
    fill: float
    p50_ms: float
    p99_ms: float


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(*command: str) -> Iterator[int]:
    running = subprocess.Popen([sys.executable, *command], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        yield running.pid
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=60)


def wait_for_port(port: int) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on {port}")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def send(port: int, path: str, count: int, per_post: int, first: int) -> list[tuple[int, int, float]]:
    arguments = [
        sys.executable,
        str(HERE / "load.py"),
        f"--port={port}",
        f"--path={path}",
        f"--count={count}",
    ]
    arguments += [f"--per-post={per_post}", f"--first={first}"]
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE)
    return [(start, stop, at) for start, stop, at in json.loads(done.stdout)]


def collect(sink: int, count: int) -> tuple[int, dict[int, float]]:
    """(calls, number -> arrival) of the events since the last time; waits until they are all there."""
    arrivals: list[tuple[int, float]] = []
    calls = 0
    for _ in range(1200):
        with urllib.request.urlopen(f"http://127.0.0.1:{sink}/arrived") as answer:
            now = json.load(answer)
        calls += now["calls"]
        arrivals += now["arrivals"]
        if len(arrivals) >= count:
            break
        time.sleep(0.05)
    numbers = dict(arrivals)
    assert len(arrivals) == len(numbers) == count, (
        f"sent {count}, arrived {len(arrivals)}, {len(numbers)} distinct"
    )
    return calls, numbers


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]


def measure(pid: int, port: int, path: str, sink: int, count: int, per_post: int) -> Figures:
    send(port, path, WARM_UP_EVENTS, per_post, first=10**9)
    collect(sink, WARM_UP_EVENTS)
    cpu, began = cpu_seconds(pid), time.monotonic()
    accepted = send(port, path, count, per_post, first=0)
    calls, arrived = collect(sink, count)
    cpu = cpu_seconds(pid) - cpu
    seconds = max(arrived.values()) - began
    waits = sorted(arrived[n] - at for start, stop, at in accepted for n in range(start, stop))
    return Figures(
        count / seconds,
        cpu / count * 1e6,
        rss_mb(pid),
        count / calls,
        percentile(waits, 0.5) * 1e3,
        percentile(waits, 0.99) * 1e3,
    )


@contextlib.contextmanager
def forwarder(sink: int) -> Iterator[tuple[int, int, str]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bench.yaml"
        config.write_text(CONFIG.format(port=port, admin=free_port(), folder=folder, sink=sink))
        with process("-m", "forwarder", "run", "-c", str(config)) as pid:
            wait_for_port(port)
            yield pid, port, "/v1/targets/bench/events"


@contextlib.contextmanager
def naive(script: str, sink: int) -> Iterator[tuple[int, int, str]]:
    port = free_port()
    with process(str(HERE / script), str(port), f"http://127.0.0.1:{sink}") as pid:
        wait_for_port(port)
        yield pid, port, "/"


SERVERS = {
    "forwarder": (forwarder, False),
    "handler, one call per event": (lambda sink: naive("naive_per_event.py", sink), True),
    "handler, batches by hand": (lambda sink: naive("naive_batches.py", sink), True),
}


def run(load: Load, rounds: int, share: float) -> dict[str, list[Figures]]:
    figures: dict[str, list[Figures]] = {name: [] for name in SERVERS}
    sink = free_port()
    with process(str(HERE / "sink.py"), str(sink)):
        wait_for_port(sink)
        for _ in range(rounds):
            for name, (start, is_naive) in SERVERS.items():
                count = int((load.naive_events if is_naive else load.events) * share)
                with start(sink) as (pid, port, path):
                    figures[name].append(measure(pid, port, path, sink, count, load.per_post))
    return figures


COLUMNS = (
    ("events/s", "{0.events_per_second:.0f}", 10),
    ("CPU us/event", "{0.cpu_us:.1f}", 14),
    ("RSS MB", "{0.rss_mb:.0f}", 8),
    ("fill", "{0.fill:.1f}", 6),
    ("p50 ms", "{0.p50_ms:.1f}", 9),
    ("p99 ms", "{0.p99_ms:.1f}", 9),
)


def show(load: Load, figures: dict[str, list[Figures]]) -> bool:
    best = {name: min(rounds, key=lambda each: each.cpu_us) for name, rounds in figures.items()}
    own = best["forwarder"].cpu_us
    print(f"\n{load.name}")
    print(f"  {'':<30}" + "".join(f"{title:>{width}}" for title, _, width in COLUMNS) + "   ratio  spread")
    for name, each in best.items():
        costs = [one.cpu_us for one in figures[name]]
        spread = (max(costs) - min(costs)) / statistics.median(costs)
        cells = "".join(f"{cell.format(each):>{width}}" for _, cell, width in COLUMNS)
        print(f"  {name:<30}{cells}{each.cpu_us / own:>8.1f}{spread:>8.0%}")
    reached = best["handler, one call per event"].cpu_us / own
    good = reached >= load.at_least
    verdict = "reached" if good else "MISSED"
    print(
        f"  {reached:.1f} times less CPU than a call per event (at least {load.at_least:g} wanted): {verdict}"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of events")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    verdicts = [show(load, run(load, options.rounds, options.share)) for load in LOADS]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
