"""``make run``: the whole way in one command, judged from outside.

Starts the built-in AWS sandbox and the daemon, orders faults from the sandbox, sends marked events from a
process of its own, and compares the markers the sender was promised with the markers that arrived. Exits
with 1 when anything was lost, when no fault was injected, or when fewer events were retried than failed.
On a terminal it then stays up until Ctrl-C.

``--forwarder COMMAND`` is another way to run the forwarder, an image's for one, and ``--folder`` where that
may write.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FAULTS = [
    {"api": "eventbridge", "fault": "entry", "rate": 0.05, "code": "InternalFailure"},
    {"api": "evidently", "fault": "entry", "rate": 0.05, "code": "InternalServerException"},
    {"api": "rum", "fault": "error", "rate": 0.05},
    {"api": "eventbridge", "fault": "throttle", "times": 6},
    {"api": "rum", "fault": "throttle", "times": 3},
    {"api": "evidently", "fault": "throttle", "times": 3},
]
CONFIG = """\
ingest: {{listen: 127.0.0.1:{ingest}}}
admin: {{listen: 127.0.0.1:{admin}}}
storage: {{path: {storage}}}
targets:
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{sandbox}"}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{sandbox}"}}
  features: {{kind: evidently, region: eu-west-1, endpoint_url: "{sandbox}", projects: [demo]}}
"""
MARKER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Markers are UUID4 under the key "marker", inside JSON that may itself be text in JSON."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forwarder", default=shlex.join([sys.executable, "-m", "forwarder"]))
    parser.add_argument("--folder")
    options = parser.parse_args()
    started, forwarder = time.monotonic(), shlex.split(options.forwarder)
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="forwarder-demo-")
        folder = options.folder or stack.enter_context(temporary)
        ports = {
            name: free_port(wanted) for name, wanted in (("sandbox", 2790), ("ingest", 2780), ("admin", 2781))
        }
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        say("Starting the AWS sandbox and the forwarder ...")
        stack.enter_context(running(*forwarder, "sandbox", "--listen", f"127.0.0.1:{ports['sandbox']}"))
        wait_for(urls["sandbox"] + "/_sandbox/summary")
        config = Path(folder) / "demo.yaml"
        storage = Path(folder) / "state"
        config.write_text(CONFIG.format(**{**ports, "sandbox": urls["sandbox"], "storage": storage}))
        daemon = stack.enter_context(running(*forwarder, "run", "-c", str(config)))
        wait_for(urls["admin"] + "/health/ready")
        post(urls["sandbox"] + "/_sandbox/faults", FAULTS)
        say("Sending events: botocore put_events and put_rum_events, and native requests ...")
        promised = send(urls["ingest"])
        wait_until_delivered(urls["admin"])
        good = show(promised, urls)
        say(f"That took {time.monotonic() - started:.1f} s.")
        if sys.stdout.isatty() and good:
            stay(urls, daemon)
        return 0 if good else 1


def say(text: str) -> None:
    print(text, flush=True)


def free_port(wanted: int) -> int:
    """The usual port when it is free, else any."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("no free port on 127.0.0.1")


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A forwarder in the background; stopped by SIGTERM at the end, a daemon's report shown."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo"}
    quiet = subprocess.DEVNULL if "sandbox" in command else None
    process = subprocess.Popen(command, env=environment, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(url: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing answers at {url}")


def get(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def post(url: str, body: object) -> None:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    urllib.request.urlopen(request).close()


def send(ingest: str) -> dict[str, list[str]]:
    command = [sys.executable, str(HERE / "demo_sender.py"), "--ingest", ingest]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def wait_until_delivered(admin: str, seconds: float = 45.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        targets = get(admin + "/status")["targets"].values()
        if not any(target["waiting"] or target["in_flight"] for target in targets):
            return
        time.sleep(0.1)


def arrived(sandbox: str) -> Counter[str]:
    """How often each marker arrived, read from what the sandbox recorded."""
    with urllib.request.urlopen(sandbox + "/_sandbox/events") as lines:
        return Counter(find_marker(line.decode()) for line in lines if line.strip())


def find_marker(line: str) -> str:
    """The first UUID after the word "marker"."""
    found = MARKER.search(line, line.index("marker"))
    assert found is not None, line
    return found[0]


def show(promised: dict[str, list[str]], urls: dict[str, str]) -> bool:
    status = get(urls["admin"] + "/status")["targets"]
    summary = get(urls["sandbox"] + "/_sandbox/summary")
    seen = arrived(urls["sandbox"])
    accepted = set(promised["accepted"])
    lost = len(accepted - set(seen))
    duplicates = sum(seen.values()) - len(seen)
    retried = sum(target["retried"] for target in status.values())
    apis = summary["apis"].values()
    failures, throttles, struck = injected(apis)
    calls = sum(api["calls_answered"] for api in apis)
    entries = sum(api["entries_answered"] for api in apis)
    rows = [
        ("sent", len(promised["sent"])),
        ("accepted", len(accepted)),
        ("injected failures (events)", failures),
        ("injected throttles (calls)", throttles),
        ("retried (events)", retried),
        ("delivered", len(seen)),
        ("duplicates", duplicates),
        ("lost", lost),
        ("batches", calls),
        ("mean fill (events a call)", round(entries / max(calls, 1), 1)),
    ]
    say("")
    for name, value in rows:
        say(f"  {name:<28}{value:>8}")
    say("")
    good = lost == 0 and failures > 0 and throttles > 0 and retried >= struck
    say("Every accepted event arrived." if good else "NOT GOOD: see the table above.")
    return good


def injected(apis: Iterable[dict[str, Any]]) -> tuple[int, int, int]:
    """(events that failed for another reason than a throttle, throttled calls, events struck in all)."""
    failures = throttles = struck = 0
    for api in apis:
        for fault, hits in api["injected"].items():
            struck += hits["events"]
            failures += 0 if fault == "throttle" else hits["events"]
        throttles += api["throttled_calls"]
    return failures, throttles, struck


def stay(urls: dict[str, str], daemon: subprocess.Popen[bytes]) -> None:
    """Leave everything running, with the lines to try it by hand, until Ctrl-C."""
    say("")
    say("Still running. Try it:")
    say(f"  curl -s {urls['ingest']}/v1/targets/orders/events -H 'Content-Type: application/json' \\")
    say("""       -d '{"Source": "my.app", "DetailType": "Hello", "Detail": {"n": 1}}'""")
    say(f"  export AWS_ENDPOINT_URL_EVENTBRIDGE={urls['ingest']}")
    say(f"  metrics {urls['admin']}/metrics   status {urls['admin']}/status")
    say(f"  what arrived {urls['sandbox']}/_sandbox/events   {urls['sandbox']}/_sandbox/summary")
    say("Ctrl-C stops it and prints the ledger.")
    with contextlib.suppress(KeyboardInterrupt):
        daemon.wait()


if __name__ == "__main__":
    sys.exit(main())
