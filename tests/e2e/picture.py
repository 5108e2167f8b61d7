"""``make picture``: the dashboard as a real Prometheus fills it, drawn into docs/pictures/dashboard.svg.

Starts the sandbox, a daemon and a Prometheus, sends events for three minutes, throttles one target, takes its
credentials away, fails and rejects single events, and then asks for every panel what Grafana would ask for.
"""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.e2e.drawing import Series, draw, legend
from tests.e2e.processes import Daemon, Sandbox, a_daemon, a_sandbox, ask
from tests.e2e.prometheus import ROOT, Prometheus, a_prometheus
from tests.support.dashboard import Panel, filled_in, panels

PICTURE = ROOT / "docs" / "pictures" / "dashboard.svg"
TARGETS = """\
  orders:
    kind: eventbridge
    region: eu-west-1
    endpoint_url: "{url}"
    queue: disk
    buses: [default]
    verify_buses: false
    hold: {{probe: 1s, probe_cap: 2s}}
  audit:
    kind: eventbridge
    region: eu-west-1
    endpoint_url: "{url}"
    buses: [audit]
    verify_buses: false
"""
SECONDS = 180
STEP = 2.0
RATE_SECONDS = 10
TROUBLE = (
    (40, {"fault": "throttle", "name": "default", "rate": 0.5, "seconds": 25}),
    (85, {"fault": "credentials", "name": "default", "seconds": 30}),
    (140, {"fault": "entry", "rate": 0.1, "code": "InternalFailure", "seconds": 25}),
    (140, {"fault": "slow", "delay": 0.3, "rate": 0.5, "seconds": 25}),
)


def main(into: Path = PICTURE) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(a_sandbox(folder))
        daemon = stack.enter_context(a_daemon(folder, TARGETS.format(url=sandbox.url)))
        prometheus = stack.enter_context(a_prometheus(folder, daemon.admin, interval="1s"))
        began = time.time()
        stop = threading.Event()
        stack.callback(stop.set)
        senders = [
            threading.Thread(target=send, args=(daemon, target, per_tick, stop), daemon=True)
            for target, per_tick in (("orders", 80), ("audit", 15))
        ]
        for sender in senders:
            sender.start()
        make_trouble(sandbox, began)
        stop.set()
        for sender in senders:
            sender.join()
        into.parent.mkdir(exist_ok=True)
        into.write_text(draw(answers(prometheus, began, began + SECONDS), began, began + SECONDS))


def send(daemon: Daemon, target: str, most: int, stop: threading.Event) -> None:
    """Five posts a second, more and fewer events by turns; one event in 400 asks to be rejected."""
    sent = 0
    while not stop.wait(0.2):
        count = round(most * (0.6 + 0.4 * math.sin(time.time() / 12)))
        events = []
        for _ in range(count):
            sent += 1
            detail = {"n": sent, **({"sandbox": "reject"} if sent % 400 == 0 else {})}
            events.append({"Source": "my.app", "DetailType": "OrderPlaced", "Detail": detail})
        ask(f"{daemon.url}/v1/targets/{target}/events", events, "POST")


def make_trouble(sandbox: Sandbox, began: float) -> None:
    for at, fault in TROUBLE:
        time.sleep(max(0.0, began + at - time.time()))
        sandbox.order(fault)
    time.sleep(began + SECONDS - time.time())


def answers(prometheus: Prometheus, began: float, ended: float) -> list[tuple[Panel, list[Series]]]:
    return [(panel, series_of(prometheus, panel, began, ended)) for panel in panels()]


def series_of(prometheus: Prometheus, panel: Panel, began: float, ended: float) -> list[Series]:
    """What the panel shows of this time."""
    found = []
    for query in panel.queries:
        expression = filled_in(query.expression, SECONDS if panel.type == "stat" else RATE_SECONDS)
        for each in prometheus.query_range(expression, began, ended, STEP):
            points = [(float(at), float(value)) for at, value in each["values"] if value != "NaN"]
            found.append(Series(legend(query.legend, each["metric"]), points))
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
