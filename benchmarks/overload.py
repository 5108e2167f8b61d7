"""The row ``overload``: what is delivered while senders that never pause ask for more than can be sent.

- The daemon has one core for itself; the senders and the AWS, a small program in C, share another.
- The baseline is capacity: the same senders, with so few events on their way that none is refused.
- A second counts as silent when the daemon used half of it on its core and delivered nothing.
- Cold: the flood meets the daemon as soon as it listens. Warm: events were delivered before.

``python -m benchmarks.overload`` measures all combinations; words pick those whose name has all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.load import event
from benchmarks.machine import CHECKOUT, HERE, Code, cpu_seconds, free_port, wait_for_port
from benchmarks.measuring import Figures, Once, Plan, Variant
from benchmarks.servers import TARGET, Server, Sink, forwarder

CALLS, EVENTS, TAKEN, REFUSED, OTHER, LOST, ACCEPTED, STOP = range(8)
FIGURES = struct.Struct("8Q")
NUMBER = "#" * 10
"""Stands for a number that the program makes anew for every event."""

QUEUE = {"max_events": 20_000, "max_bytes": "64MiB"}
WINDOW_EVENTS = 3_000
WARM_SECONDS = 3
SILENT_CPU = 0.5
MOST_DEAR = 1 / 0.9


class Case(NamedTuple):
    """One combination."""

    load: str
    connections: int
    delay_ms: float
    queue: str
    cold: bool

    def __str__(self) -> str:
        warmth = "cold" if self.cold else "warm"
        return f"{self.load}, {self.connections} connections, {self.delay_ms:g} ms, {self.queue}, {warmth}"


LOADS = ("arrays", "singles", "put-events", "cloudevents")
ALL = tuple(Case(*each) for each in product(LOADS, (32, 256), (0.0, 20.0), ("memory", "disk"), (False, True)))
SHORT = (Case("arrays", 32, 0.0, "memory", True), Case("singles", 256, 0.0, "memory", False))


def request(load: str) -> tuple[bytes, int]:
    """One whole HTTP request of this load, and the events in it."""
    path, kind, more = f"/v1/targets/{TARGET}/events", "application/json", ""
    one = event(0, 300).replace("#0#", NUMBER)
    count = {"arrays": 100, "singles": 1, "put-events": 10, "cloudevents": 100}[load]
    if load == "put-events":
        path, kind, more = "/", "application/x-amz-json-1.1", "X-Amz-Target: AWSEvents.PutEvents\r\n"
        entry = json.loads(event(0, 300))
        entry["Detail"] = json.dumps(entry["Detail"])
        one = json.dumps(entry).replace("#0#", NUMBER)
    elif load == "cloudevents":
        path, kind = f"/v1/cloudevents/{TARGET}", "application/cloudevents-batch+json"
        data = json.dumps(json.loads(one)["Detail"])
        one = f'{{"specversion":"1.0","id":"{NUMBER}","source":"bench","type":"OrderPlaced","data":{data}}}'
    body = one if count == 1 else f"[{','.join([one] * count)}]"
    if load == "put-events":
        body = f'{{"Entries":{body}}}'
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode(), count


class Ends:
    """The program in C, compiled, and the counters that it shares with us."""

    def __init__(self, folder: Path) -> None:
        self.program, self._path = folder / "overload", folder / "figures"
        command = ["cc", "-O2", "-o", str(self.program), str(HERE / "overload.c")]
        subprocess.run(command, check=True)
        self._path.write_bytes(bytes(FIGURES.size))
        with self._path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), FIGURES.size)

    def figures(self) -> tuple[int, ...]:
        return FIGURES.unpack(self._shared)

    @contextlib.contextmanager
    def running(self, what: str, *arguments: object) -> Iterator[None]:
        self._stop(0)
        command = [str(self.program), what, str(self._path), *map(str, arguments)]
        program = subprocess.Popen(command)
        try:
            yield
        finally:
            program.kill()
            program.wait()

    def _stop(self, value: int) -> None:
        self._shared[STOP * 8 : STOP * 8 + 8] = struct.pack("Q", value)


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started within this block runs on one core; on a machine with a single one, as it comes."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Second(NamedTuple):
    """What one second showed; ``health_ms``: how long the admin listener took to say that it is alive."""

    cpu: float
    delivered: int
    taken: int
    refused: int
    health_ms: float


def measured(case: Case, *, flood: bool, seconds: int, code: Code = CHECKOUT) -> list[Second]:
    """The seconds of one run: of a flood, or at capacity."""
    pattern, per_post = request(case.load)
    window = 0 if flood else max(WINDOW_EVENTS, 2 * per_post)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        path = folder / "request"
        path.write_bytes(pattern)
        ends, port = Ends(folder), free_port()
        with on_core(1):
            stack.enter_context(ends.running("sink", port, case.delay_ms))
        wait_for_port(port)
        start = forwarder(queue=case.queue, queue_limits=QUEUE, folder=str(folder))
        with on_core(0):
            server = stack.enter_context(start(Sink(f"http://127.0.0.1:{port}", 0), code))

        def sending(window: int) -> contextlib.AbstractContextManager[None]:
            return ends.running("send", server.port, case.connections, path, per_post, window)

        if not case.cold:
            with on_core(1), sending(max(WINDOW_EVENTS, 2 * per_post)):
                time.sleep(WARM_SECONDS)
        with on_core(1):
            stack.enter_context(sending(window))
        if flood and not case.cold:
            time.sleep(WARM_SECONDS)  # the queue fills
        return list(_watched(ends, server, seconds))


def _watched(ends: Ends, server: Server, seconds: int) -> Iterator[Second]:
    config = json.loads((server.control.parents[1] / "bench.yaml").read_text())
    url = f"http://{config['admin']['listen']}/health/live"
    before, cpu, at = ends.figures(), cpu_seconds(server.pid), time.monotonic()
    for _ in range(seconds):
        asked = time.monotonic()
        health = _asked(url)
        at += 1.0
        time.sleep(max(0.0, at - time.monotonic()))
        after, used = ends.figures(), cpu_seconds(server.pid)
        assert after[OTHER] == before[OTHER], "an answer that is neither success nor to be tried again"
        grown = [new - old for new, old in zip(after, before, strict=True)]
        yield Second(used - cpu, grown[EVENTS], grown[TAKEN], grown[REFUSED], (health - asked) * 1e3)
        before, cpu = after, used


def _asked(url: str) -> float:
    with contextlib.suppress(OSError, socket.timeout), urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()
    return time.monotonic()


def figures_of(seconds: Sequence[Second]) -> Figures:
    cpu, delivered = sum(each.cpu for each in seconds), sum(each.delivered for each in seconds)
    return {
        "value": cpu / max(1, delivered) * 1e6,
        "events_per_second": delivered / len(seconds),
        "events_per_cpu_second": delivered / cpu,
        "cpu_share": cpu / len(seconds),
        "refused_per_second": sum(each.refused for each in seconds) / len(seconds),
        "silent_seconds": sum(each.cpu >= SILENT_CPU and each.delivered == 0 for each in seconds),
        "health_ms": max(each.health_ms for each in seconds),
    }


@dataclass(frozen=True)
class Overloaded:
    """One combination, at capacity or in a flood. A round takes half a minute at full length."""

    case: Case
    flood: bool
    seconds: int
    judged: tuple[str, ...] = ("value",)

    @contextlib.contextmanager
    def opened(self, code: Code) -> Iterator[Once]:
        yield lambda: figures_of(measured(self.case, flood=self.flood, seconds=self.seconds, code=code))


def overload(share: float, cases: Sequence[Case] = SHORT) -> Plan:
    """Capacity and flood in turns."""
    seconds = max(3, int(6 * share))
    variants: dict[str, Variant] = {}
    for case in cases:
        variants[f"{case}: capacity"] = Overloaded(case._replace(cold=False), False, seconds)
        variants[f"{case}: flood"] = Overloaded(case, True, seconds)
    return Plan(
        "overload: senders that never pause",
        "CPU us/delivered",
        "a flood at most 1/0.9 of capacity",
        variants,
        lambda values: all(
            values[f"{case}: flood"] <= MOST_DEAR * values[f"{case}: capacity"] for case in cases
        ),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of the names of the combinations; default: all")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--each-second", action="store_true", help="print every second")
    options = parser.parse_args()
    good = True
    names = {str(case): case for case in ALL}
    for name, case in names.items():
        if all(word in name for word in options.words):
            good = _show(case, options.seconds, options.each_second) and good
    return 0 if good else 1


def _show(case: Case, length: int, each_second: bool) -> bool:
    base = figures_of(measured(case._replace(cold=False), flood=False, seconds=length))
    seconds = measured(case, flood=True, seconds=length)
    flood = figures_of(seconds)
    ratio = flood["events_per_cpu_second"] / base["events_per_cpu_second"]
    good = ratio >= 1 / MOST_DEAR and not flood["silent_seconds"]
    print(
        f"{case!s:<52} {ratio:5.2f} of capacity  {flood['events_per_cpu_second']:8,.0f} of"
        f" {base['events_per_cpu_second']:8,.0f} a CPU second  {flood['events_per_second']:8,.0f}/s"
        f" of {base['events_per_second']:8,.0f}/s  refused {flood['refused_per_second']:7,.0f}/s"
        f"  silent {flood['silent_seconds']:.0f}  health {flood['health_ms']:5.0f} ms"
        f"  {'reached' if good else 'MISSED'}",
        flush=True,
    )
    for each in seconds if each_second else ():
        print(
            f"    cpu {each.cpu:.2f}  delivered {each.delivered:,}  {each.taken:,} 2xx  {each.refused:,} 429"
        )
    return good


if __name__ == "__main__":
    sys.exit(main())
