"""The real processes of these tests: the daemon, the sandbox, moto, and the clients.

Invariants:
- A process that was started is stopped, whatever the test does; what it said is shown when it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGION = "eu-west-1"
CALL = Path(__file__).parent / "call.py"
PATIENCE = 60.0
"""Seconds after which a test that waits has failed; nothing is judged by how long it took."""


def free_port() -> int:
    """A port below the range in which the kernel gives ports to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def surroundings(**more: str) -> dict[str, str]:
    """Environment variables for a program that uses AWS, and nothing of this machine's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    aws = {"AWS_ACCESS_KEY_ID": "e2e", "AWS_SECRET_ACCESS_KEY": "e2e", "AWS_DEFAULT_REGION": REGION}
    return {**kept, **aws, "AWS_CONFIG_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true", **more}


@contextlib.contextmanager
def running(command: Sequence[str | Path], ready: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background, from when it answers at ``ready`` until the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=surroundings(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: _answers(ready) or process.poll() is not None, f"{ready} to answer", log)
        assert process.poll() is None, f"it ended by itself:\n{log.read_text()}"
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def until(
    happened: Callable[[], object], what: str, log: Path | None = None, patience: float = PATIENCE
) -> None:
    deadline = time.monotonic() + patience
    while not happened():
        said = f":\n{log.read_text()}" if log is not None else ""
        assert time.monotonic() < deadline, f"waited in vain for {what}{said}"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


FRESH = (sys.executable, str(Path(__file__).parents[1] / "support" / "fresh.py"))


def ask(url: str, body: object = None, method: str = "GET", media: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": media}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        said: bytes = answer.read()
    return said


@dataclass
class Sandbox:
    """The forwarder's local AWS, seen through its control endpoints."""

    url: str

    def reset(self) -> None:
        ask(f"{self.url}/_sandbox/reset", method="POST")

    def order(self, *faults: Mapping[str, Any]) -> None:
        ask(f"{self.url}/_sandbox/faults", list(faults), "POST")

    def mend(self) -> None:
        """No faults from now on."""
        ask(f"{self.url}/_sandbox/faults", method="DELETE")

    def arrived(self, api: str) -> list[dict[str, Any]]:
        lines = ask(f"{self.url}/_sandbox/events?api={api}").splitlines()
        return [json.loads(line) for line in lines]

    def counts(self, api: str) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(ask(f"{self.url}/_sandbox/summary"))["apis"][api]
        return counts


@dataclass
class Daemon:
    """A running forwarder: ``url`` is where events go."""

    url: str
    admin: str
    log: Path
    process: subprocess.Popen[bytes]
    killed: bool = False

    def kill(self) -> None:
        """``kill -9``."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def status(self, target: str) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(ask(f"{self.admin}/status"))["targets"][target]
        return status

    def answered(self, route: str, status: int) -> int:
        """Requests that were answered so, so far."""
        labels = rf'(?=[^}}]*route="{route}")[^}}]*code="{status}"[^}}]*'
        line = rf"^forwarder_http_requests_total\{{{labels}\}} (\S+)$"
        found = re.search(line, ask(f"{self.admin}/metrics").decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def refused(self, reason: str) -> int:
        """Events that were refused for this reason so far, an unread request counted as one."""
        pattern = rf'^forwarder_events_refused_total\{{[^}}]*reason="{reason}"[^}}]*\}} (\S+)$'
        found: list[str] = re.findall(pattern, ask(f"{self.admin}/metrics").decode(), re.MULTILINE)
        return int(sum(map(float, found)))

    def throttled(self, route: str) -> int:
        return self.answered(route, 429)

    def deliver(self, target: str, patience: float = PATIENCE) -> None:
        """Wait until nothing waits and nothing is in flight."""
        until(lambda: self._is_done(target), f"{target} to be empty", self.log, patience)

    def _is_done(self, target: str) -> bool:
        status = self.status(target)
        return not (status["waiting"] or status["in_flight"])


@contextlib.contextmanager
def a_sandbox(folder: Path, *options: str) -> Iterator[Sandbox]:
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    command = [sys.executable, "-m", "forwarder", "sandbox", "--listen", address, *options]
    with running(command, f"{url}/_sandbox/summary", folder / "sandbox.log"):
        yield Sandbox(url)


@contextlib.contextmanager
def a_daemon(
    folder: Path,
    targets: str,
    port: int | None = None,
    more: str = "",
    socket: Path | None = None,
    program: Sequence[str | Path] = FRESH,
) -> Iterator[Daemon]:
    """``targets``: that part of the configuration, in YAML; ``more``: of ``ingest``, as ``, key: value``.

    The same folder and port: the same daemon again. ``socket``: a unix socket in place of a port.
    ``program``: another forwarder than this one.
    """
    ingest = f"unix:{socket}" if socket else f"127.0.0.1:{port or free_port()}"
    admin = f"127.0.0.1:{free_port()}"
    config = folder / "forwarder.yaml"
    config.write_text(
        f"ingest: {{listen: '{ingest}'{more}}}\n"
        f"admin: {{listen: '{admin}'}}\n"
        f"storage: {{path: '{folder / 'state'}'}}\n"
        f"shutdown: {{input_grace: 0s, drain_timeout: 5s}}\n"
        f"targets:\n{targets}"
    )
    log = folder / "daemon.log"
    command = [*program, "run", "-c", str(config)]
    with running(command, f"http://{admin}/health/ready", log) as process:
        daemon = Daemon(f"http://{ingest}", f"http://{admin}", log, process)
        yield daemon
    assert daemon.killed or process.returncode == 0, (
        f"the daemon ended with {process.returncode}:\n{log.read_text()}"
    )


@contextlib.contextmanager
def a_moto(folder: Path) -> Iterator[str]:
    """moto's server: an EventBridge and an SQS that we did not write. Its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command: list[str | Path] = [
        Path(sys.executable).parent / "moto_server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with running(command, f"{url}/moto-api/", folder / "moto.log"):
        yield url


@dataclass
class Said:
    """What an SDK gave its program."""

    status: int
    headers: dict[str, str]
    retries: int
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


@dataclass
class Sdk:
    """A stock SDK in the Python that has it; every call is a process of its own."""

    python: str | Path
    service: str
    operation: str
    config: Mapping[str, Any]

    def begin(self, url: str, params: Mapping[str, Any], **environ: str) -> subprocess.Popen[str]:
        """The call, begun; its process."""
        order = {
            "service": self.service,
            "operation": self.operation,
            "params": params,
            "config": self.config,
        }
        process = subprocess.Popen(
            [self.python, CALL],
            env=surroundings(AWS_ENDPOINT_URL=url, **environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        return process

    def end(self, process: subprocess.Popen[str]) -> Said:
        with process:
            assert process.stdout is not None
            said = process.stdout.read()
            assert process.wait(PATIENCE) == 0
        return Said(**json.loads(said))

    def __call__(self, url: str, params: Mapping[str, Any], **environ: str) -> Said:
        return self.end(self.begin(url, params, **environ))
