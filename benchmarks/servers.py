"""What is measured: the forwarder in its variants, and two handlers one might write instead.

Each is a context manager that yields a running ``Server``; its events go to a ``Sink`` of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from benchmarks.load import MONITOR
from benchmarks.machine import CHECKOUT, HERE, Code, certificate, free_port, process, wait_for_port

COLLECT_SECONDS = 120.0
TARGET = "bench"


class Sink(NamedTuple):
    """The AWS of one server: where calls go, and where to ask what arrived."""

    endpoint: str
    tell_port: int

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.tell_port}/{path}", timeout=60) as answer:
            return json.load(answer)

    def collect(self, count: int) -> tuple[int, dict[int, float]]:
        """(calls, number -> arrival) since the last time; waits until all are there, each once."""
        arrivals: list[tuple[int, float]] = []
        calls, ends = 0, time.monotonic() + COLLECT_SECONDS
        while len(arrivals) < count and time.monotonic() < ends:
            now = self.ask("arrived")
            calls += now["calls"]
            arrivals += now["arrivals"]
            time.sleep(0.02)
        numbers = dict(arrivals)
        assert len(arrivals) == len(numbers) == count, (
            f"sent {count}, arrived {len(arrivals)}, {len(numbers)} distinct"
        )
        return calls, numbers


@contextlib.contextmanager
def sink(delay_ms: float = 0.0) -> Iterator[Sink]:
    port, tell = free_port(), free_port()
    command = ["--port", str(port), "--tell-port", str(tell), "--certificate", str(certificate())]
    with process(str(HERE / "sink.py"), *command, "--delay-ms", str(delay_ms)) as pid:
        wait_for_port(tell, pid)
        yield Sink(f"https://127.0.0.1:{port}", tell)


class Server(NamedTuple):
    """A running server: its process, where to post, and where the forwarder takes orders."""

    pid: int
    port: int
    path: str
    control: Path = Path()

    def of(self, kind: str) -> Server:
        """Where to post for one of the ``others``."""
        return self._replace(path=f"/v1/targets/{kind}/events") if kind == "evidently" else self

    def order(self, verb: str) -> None:
        """``pause`` or ``resume`` the target."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(60)
            earlier = self.control.parent.parent / self.control.name  # of code before the storage had `data`
            asking.connect(str(earlier if earlier.exists() else self.control))
            head = f"POST /targets/{TARGET}/{verb} HTTP/1.1"
            asking.sendall(f"{head}\r\nHost: control\r\nConnection: close\r\n\r\n".encode())
            assert b" 200 " in asking.makefile("rb").readline()


class Start(Protocol):
    """Starts a server whose events go to this sink."""

    def __call__(self, sink: Sink, code: Code = ...) -> AbstractContextManager[Server]: ...


KINDS: Mapping[str, dict[str, Any]] = {
    "eventbridge": {"kind": "eventbridge", "verify_buses": False},
    "evidently": {"kind": "evidently", "projects": ["shop"]},
    "rum": {"kind": "rum", "app_monitors": [MONITOR], "max_calls_per_second": 100_000},
}


@dataclass(frozen=True)
class Forwarder:
    """The daemon of some code. Equal ones measure the same."""

    kind: str
    folder: str | None
    others: tuple[str, ...]
    budget: str
    options: dict[str, Any]

    @contextlib.contextmanager
    def __call__(self, sink: Sink, code: Code = CHECKOUT) -> Iterator[Server]:
        with contextlib.ExitStack() as stack:
            place = self.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            port = free_port()
            path = Path(place) / "bench.yaml"
            path.write_text(json.dumps(self._config(sink, place, port)))
            pid = stack.enter_context(process("-m", "forwarder", "run", "-c", str(path), code=code))
            wait_for_port(port, pid)
            yield Server(pid, port, f"/v1/targets/{TARGET}/events", Path(place) / "data" / "control.sock")

    def _config(self, sink: Sink, place: str, port: int) -> dict[str, Any]:
        target = {"region": "eu-west-1", "endpoint_url": sink.endpoint, **self.options}
        beside = {each: {**KINDS[each], **target} for each in self.others}
        return {
            "ingest": {"listen": f"127.0.0.1:{port}", "memory_budget": self.budget},
            "admin": {"listen": f"127.0.0.1:{free_port()}"},
            "storage": {"path": place},
            "log": {"level": "warning"},
            "targets": {TARGET: {**KINDS[self.kind], **target}, **beside},
        }


def forwarder(
    kind: str = "eventbridge",
    *,
    folder: str | None = None,
    others: tuple[str, ...] = (),
    budget: str = "256MiB",
    **options: Any,
) -> Forwarder:
    """The daemon with a target of this kind, and of ``others``; ``budget`` is the memory budget, the rest the
    targets'."""
    return Forwarder(kind, folder, others, budget, options)


@dataclass(frozen=True)
class Naive:
    """A handler one might write instead; it is the same for every code that is measured."""

    script: str

    @contextlib.contextmanager
    def __call__(self, sink: Sink, code: Code = CHECKOUT) -> Iterator[Server]:
        port = free_port()
        with process(str(HERE / self.script), str(port), sink.endpoint) as pid:
            wait_for_port(port, pid)
            yield Server(pid, port, "/")


PER_EVENT = Naive("naive_per_event.py")
BY_HAND = Naive("naive_batches.py")
