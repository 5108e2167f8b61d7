"""Chromium without a window, driven over its DevTools protocol: a page, its scripts, and pictures of it.

Invariants:
- The browser and its profile are gone when the block ends.
- What a page logs as an error, throws or shows as a dialog is kept in ``complaints``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.environments import debian_program
from tests.e2e.processes import PATIENCE

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "about:blank",
)
COMPLAINTS = ("Runtime.exceptionThrown", "Page.javascriptDialogOpening", "Log.entryAdded")


class Tab:
    """One page. ``complaints``: what it logged, threw or asked."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.complaints: list[dict[str, Any]] = []

    async def read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (waiting := self._answers.pop(said.get("id"), None)) is not None:
                waiting.set_result(said)
            elif said.get("method") in COMPLAINTS:
                self.complaints.append(said)

    async def tell(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(PATIENCE):
            said = await answer
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.tell(f"{domain}.enable")
        await self.tell("Page.navigate", url=url)
        await self.shows("location.protocol !== 'about:' && document.readyState === 'complete'")

    async def evaluate(self, script: str) -> Any:
        answer = await self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def shows(self, script: str, judge: Callable[[Any], bool] = bool) -> Any:
        """Wait until what the script gives is as the judge wants it; it."""
        deadline = time.monotonic() + PATIENCE
        while not judge(value := await self.evaluate(script)):
            assert time.monotonic() < deadline, f"waited in vain for {script}: {value!r}; {self.complaints}"
            await asyncio.sleep(0.1)
        return value

    async def look(self, width: int, height: int, *, scheme: str = "light", scale: float = 1) -> None:
        """As on a screen of this size, of a reader who prefers this scheme."""
        mobile = width < 600
        await self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.tell("Emulation.setEmulatedMedia", features=features)

    async def picture(self, path: Path) -> None:
        answer = await self.tell("Page.captureScreenshot", format="png", optimizeForSpeed=False)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def a_browser(*options: str) -> Iterator[str]:
    """A browser, started with these options as well; the URL of its DevTools."""
    program = debian_program("chromium", "chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [program, f"--user-data-dir={folder}", *options, *OPTIONS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"http://127.0.0.1:{_port(Path(folder) / 'DevToolsActivePort')}"
        finally:
            process.terminate()
            process.wait()


@asynccontextmanager
async def a_tab_in(browser: str) -> AsyncIterator[Tab]:
    """A page of its own, in front of the others."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{browser}/json/new?about:blank") as answer:
            page = await answer.json()
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            reading = asyncio.create_task(tab.read())
            try:
                await tab.tell("Page.bringToFront")
                yield tab
            finally:
                reading.cancel()
        async with session.get(f"{browser}/json/close/{page['id']}"):
            pass


@asynccontextmanager
async def a_tab(*options: str) -> AsyncIterator[Tab]:
    """A page in a browser of its own, started with these options as well."""
    with a_browser(*options) as browser:
        async with a_tab_in(browser) as tab:
            yield tab


def _port(path: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and "\n" in path.read_text()):
        assert time.monotonic() < deadline, "Chromium did not start"
        time.sleep(0.05)
    return int(path.read_text().splitlines()[0])
