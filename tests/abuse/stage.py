"""The real processes of an attack: an AWS, a daemon with the instrument in it, and what can be seen of both.

Invariants:
- What was started is ended by its own number when its block ends, whatever happened.
- Figures come from the instrument, from /proc and from the AWS: never from what the daemon says of itself,
  but for the sizes of its queues.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.abuse import wire
from tests.abuse.wire import NEIGHBOUR
from tests.e2e.processes import free_port, running, surroundings, until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MIB = 1 << 20
QUEUE = 8 * MIB
BUDGET = 96 * MIB
"""Small on purpose: what is held beside the budget shows against it."""
MONITOR = "00000000-0000-4000-8000-0000000000aa"
KEY_ID, SECRET = "AKIDABUSE", "abuse-secret"
DRAIN_SECONDS = 90.0
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_NUMBERS = itertools.count(1)


@dataclass
class Aws:
    """The AWS of a stage, from outside."""

    port: int

    def _ask(self, path: str, method: str = "GET") -> Any:
        data = b"" if method == "POST" else None
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=30) as answer:
            return json.load(answer)

    def good(self) -> dict[int, int]:
        """How often each good event arrived."""
        return {int(number): times for number, times in self._ask("/good").items()}

    def counts(self) -> dict[str, int]:
        said: dict[str, int] = self._ask("/counts")
        return said

    def make_bus(self, name: str) -> None:
        self._ask(f"/buses/{name}", "POST")

    def close(self) -> None:
        self._ask("/closed", "POST")

    def open(self) -> None:
        self._ask("/open", "POST")


@dataclass
class Daemon:
    """A running daemon and its instrument."""

    pid: int
    port: int
    admin: int
    folder: Path
    aws: Aws
    budget: int
    tree: Path
    idle: int = 0
    """Bytes that it holds when nothing happened yet."""

    def steps(self, question: str = "steps") -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(wire.PATIENCE)
            asking.connect(str(self.folder / "instrument"))
            asking.sendall(question.encode())
            said: dict[str, Any] = json.loads(asking.makefile("rb").read())
            return said

    def reset(self) -> None:
        """Forget the longest step and the highest memory."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        self.reset_steps()

    def reset_steps(self) -> None:
        self.longest_step_ms()  # what is under way is of before
        self.steps("reset")

    def longest_step_ms(self) -> float:
        """The step that is under way when this is asked counts as well."""
        before = self.steps()["steps"]
        while (said := self.steps())["steps"] < before + 2:
            time.sleep(0.002)
        return float(said["most"]) * 1000

    def peak(self) -> int:
        return self._status("VmHWM")

    def held(self) -> int:
        return self._status("VmRSS")

    def _status(self, name: str) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def cpu(self) -> float:
        """Seconds of CPU of the event loop's thread so far, as the kernel counts them."""
        spent = Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0]
        return int(spent) / 1e9

    @property
    def alive(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(wire.get(self.admin, "/status").body)
        return said

    def metric(self, name: str, **labels: str) -> float:
        """A family's sum over all that is not given."""
        wanted = "".join(f'(?=[^}}]*{label}="{value}")' for label, value in labels.items())
        text = wire.get(self.admin, "/metrics").body.decode()
        found = re.findall(rf"^{name}(?:\{{{wanted}[^}}]*\}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def waiting(self) -> int:
        targets = self.status()["targets"].values()
        return sum(target["waiting"] + target["in_flight"] for target in targets)

    def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Wait until nothing waits."""
        ends = time.monotonic() + seconds
        while self.waiting():
            if time.monotonic() > ends:
                return False
            time.sleep(0.05)
        return True

    def forwarder(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, of the same tree."""
        command = [sys.executable, "-P", "-m", "forwarder", *arguments]
        return subprocess.run(
            command, env=_environment(self.tree), capture_output=True, text=True, check=False, timeout=120
        )


def targets_of(url: str, **more: Any) -> dict[str, Any]:
    """One target of each kind, and each queue. ``orders`` takes what is bound nowhere; ``more`` is of it."""
    common = {"region": "eu-west-1", "endpoint_url": url, "queue_limits": {"max_bytes": QUEUE}}
    return {
        "orders": {"kind": "eventbridge", "default": True, **common, **more},
        "other": {"kind": "eventbridge", "buses": ["other"], **common},
        "kept": {"kind": "eventbridge", "buses": ["kept"], **common, "queue": "disk"},
        "web": {"kind": "rum", "app_monitors": [MONITOR], "max_calls_per_second": 1000, **common},
        "lab": {"kind": "evidently", "projects": ["shop"], **common},
    }


@contextlib.contextmanager
def an_aws(folder: Path, *buses: str) -> Iterator[Aws]:
    port = free_port()
    command = [sys.executable, "-P", str(HERE / "aws.py"), "--port", str(port)]
    for bus in ("other", "kept", *buses):
        command += ["--bus", bus]
    with running(command, f"http://127.0.0.1:{port}/counts", folder / "aws.log"):
        yield Aws(port)


@contextlib.contextmanager
def a_daemon(
    aws: Aws,
    *,
    tree: Path = ROOT,
    ingest: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    budget: int = BUDGET,
    told: int | None = None,
    files: int | None = None,
) -> Iterator[Daemon]:
    """A daemon that is ready.

    ``options``: more of the target ``orders``. ``told``: a budget that the judge goes by in place of the
    daemon's own. ``files``: descriptors that it may have open.
    """
    with tempfile.TemporaryDirectory(prefix="abuse-") as name:
        folder = Path(name)
        port, admin = free_port(), free_port()
        config = {
            "ingest": {"listen": f"127.0.0.1:{port}", "memory_budget": budget, **(ingest or {})},
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "storage": {"path": str(folder / "state"), "max_bytes": "256MiB"},
            "shutdown": {"input_grace": "0s", "drain_timeout": "1s"},
            "targets": targets_of(f"http://127.0.0.1:{aws.port}", **(options or {})),
        }
        (folder / "forwarder.yaml").write_text(json.dumps(config))
        process = _start(folder, tree, files)
        try:
            daemon = Daemon(process.pid, port, admin, folder, aws, told or budget, tree)
            log = folder / "daemon.log"
            until(lambda: _ready(admin) or process.poll() is not None, "the daemon to be ready", log)
            assert process.poll() is None, f"the daemon ended by itself:\n{log.read_text()}"
            time.sleep(0.5)
            daemon.idle = daemon.held()
            daemon.reset()
            yield daemon
        finally:
            _end(process)
            if os.environ.get("ABUSE_LOG"):
                Path(os.environ["ABUSE_LOG"]).write_bytes((folder / "daemon.log").read_bytes())


def _environment(tree: Path) -> dict[str, str]:
    return surroundings(PYTHONPATH=str(tree))


def _start(folder: Path, tree: Path, files: int | None) -> subprocess.Popen[bytes]:
    def limit() -> None:
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with (folder / "daemon.log").open("wb") as log:
        return subprocess.Popen(
            [
                *(sys.executable, "-P", str(HERE / "launch.py"), "--config", str(folder / "forwarder.yaml")),
                *("--instrument", str(folder / "instrument")),
            ],
            env=_environment(tree),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return


def _ready(admin: int) -> bool:
    return wire.get(admin, "/health/ready", patience=2).status == 200


@dataclass
class Post:
    """What became of one good event."""

    number: int
    target: str
    status: int
    cpu_ms: float
    wall_ms: float
    said: str = ""


class Neighbour:
    """Another peer, with a good event for each of some targets in turn, for as long as the block lasts.

    ``buses``: target to the bus that its events name. Every event goes out once, on a connection of its own.
    """

    def __init__(
        self, daemon: Daemon, buses: Mapping[str, str], pause: float = 0.1, source: str = NEIGHBOUR
    ) -> None:
        self.posts: list[Post] = []
        self._daemon, self._buses, self._pause, self._source = daemon, dict(buses), pause, source
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._over.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._over.is_set():
            for target, bus in list(self._buses.items()):
                self.posts.append(self.send_one(target, bus))
            self._over.wait(self._pause)

    def send_one(self, target: str, bus: str) -> Post:
        number = next(_NUMBERS)
        request = wire.good(target, number, bus)
        cpu, wall = self._daemon.cpu(), time.monotonic()
        answer = wire.ask(self._daemon.port, request, self._source, patience=30)
        spent = (self._daemon.cpu() - cpu) * 1000 if self._daemon.alive else float("inf")
        said = "" if answer.status == 202 else answer.said
        return Post(number, target, answer.status, spent, (time.monotonic() - wall) * 1000, said)

    @property
    def refused(self) -> list[Post]:
        return [post for post in self.posts if post.status != 202]

    def missing(self, seconds: float = 10.0) -> int:
        """How many of those that were accepted have not arrived, so many seconds after the last one."""
        ends = time.monotonic() + seconds
        accepted = {post.number for post in self.posts if post.status == 202}
        while (missing := len(accepted - self._daemon.aws.good().keys())) and time.monotonic() < ends:
            time.sleep(0.1)
        return missing

    def most(self, name: str = "cpu_ms") -> float:
        return max((float(getattr(post, name)) for post in self.posts), default=0.0)

    def percentile(self, name: str, share: float) -> float:
        values = sorted(float(getattr(post, name)) for post in self.posts)
        return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


@contextlib.contextmanager
def a_stage(*buses: str, **settings: Any) -> Iterator[Daemon]:
    """A daemon, and an AWS for it alone."""
    with (
        tempfile.TemporaryDirectory(prefix="abuse-aws-") as name,
        an_aws(Path(name), *buses) as aws,
        a_daemon(aws, **settings) as daemon,
    ):
        yield daemon
