"""A real browser with pages in it that use the RUM web client, told what to do through its standard input.

Invariants:
- Web security is on: the pages are of another origin than the daemon, and nothing tells Chromium otherwise.
- What a page sent is what its own recorder saw leave, before the browser and the daemon had it.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.environments import debian_program, node_packages
from tests.e2e.processes import PATIENCE, REGION

MONITOR = "00000000-0000-4000-8000-0000000000aa"
CREDENTIALS = {"accessKeyId": "e2e", "secretAccessKey": "e2e", "sessionToken": "e2e-token"}
QUICK = {
    "sessionSampleRate": 1,
    "allowCookies": True,
    "cookieAttributes": {"secure": False},
    "dispatchInterval": 100,
}


@dataclass
class Sent:
    """One request of the client. ``outcome``: the status and headers that the page saw, or the error."""

    by: str
    url: str
    headers: dict[str, str]
    body: bytes
    outcome: dict[str, Any]

    @property
    def packed(self) -> bool:
        return self.headers.get("content-encoding") == "gzip"

    @property
    def batch(self) -> dict[str, Any]:
        batch: dict[str, Any] = json.loads(gzip.decompress(self.body) if self.packed else self.body)
        return batch

    @property
    def types(self) -> set[str]:
        return {event["type"] for event in self.batch["RumEvents"]}

    @property
    def failed(self) -> bool:
        """Without an answer that the page may see."""
        return "error" in self.outcome

    @property
    def status(self) -> int | None:
        """None: no answer yet, none that the page may see, or a beacon."""
        return self.outcome.get("status")


class Page:
    """The one open page."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def record(self, type: str, **data: Any) -> None:
        self._do("record", type=type, data=data)

    def sent(self) -> list[Sent]:
        return [_sent(each) for each in self._do("sent")]

    def dispatch(self) -> None:
        """Send what was recorded, now."""
        self._do("dispatch")

    def leave(self, type: str, **data: Any) -> None:
        """Record this and go to another page at once."""
        self._do("leave", type=type, data=data)

    def until(self, has_happened: Callable[[Sent], object], after: int = 0) -> list[Sent]:
        """Wait until that is true of a request after the first so many; all that was sent."""
        deadline = time.monotonic() + PATIENCE
        while not any(map(has_happened, (sent := self.sent())[after:])):
            assert time.monotonic() < deadline, f"waited in vain; the page saw {[s.outcome for s in sent]}"
            time.sleep(0.05)
        return sent

    def _do(self, what: str, **how: Any) -> Any:
        return _do(self._process, what, **how)


@dataclass
class Browser:
    """``origin`` is where pages are; ``other`` is the same site by another name."""

    process: subprocess.Popen[str]
    origin: str
    other: str

    @contextlib.contextmanager
    def page(
        self,
        client: str,
        daemon: str,
        *,
        signing: bool = False,
        host: str = "origin",
        rows: int = 0,
        **config: Any,
    ) -> Iterator[Page]:
        """A page with the ``new`` or the ``old`` client, that sends to this daemon; it has a table."""
        settings = {
            "monitor": MONITOR,
            "region": REGION,
            "config": {"endpoint": daemon, "signing": signing, "telemetries": [], **QUICK, **config},
            "credentials": CREDENTIALS if signing else None,
        }
        _do(self.process, "open", client=client, host=host, rows=rows, settings=settings)
        try:
            yield Page(self.process)
        finally:
            _do(self.process, "close")


@contextlib.contextmanager
def a_browser(log: Path) -> Iterator[Browser]:
    chromium = debian_program("chromium", "chromium")
    folder = node_packages(Path(__file__).parent / "browser")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            ["node", folder / "drive.mjs", chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = process.stdout.readline()
        assert said, f"the browser did not start:\n{log.read_text()}"
        yield Browser(process, **json.loads(said))
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def _do(process: subprocess.Popen[str], what: str, **how: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"do": what, **how}) + "\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    assert "error" not in said, said["error"]
    return said.get("answer")


def _sent(entry: dict[str, Any]) -> Sent:
    body = base64.b64decode(entry["body"])
    return Sent(entry["by"], entry["url"], entry["headers"], body, entry.get("outcome", {}))
