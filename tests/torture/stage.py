"""The processes of a torture: one sandbox that stays, and one daemon after the other, each called a life.

Invariants:
- A life is killed by its own process number, and is gone before the next one begins.
- What a life logged is kept in a file of its own.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp

from tests.e2e.processes import free_port, surroundings
from tests.support.scraper import Ledger, balances, ledgers
from tests.torture.events import TARGETS, WORKERS

ROOT = Path(__file__).parents[2]
MEMORY_EVENTS = 3000
"""What a memory queue holds, at most: so much a kill may lose."""
DISK_EVENTS = 30000
DRAIN_SECONDS = 4
LOOK_SECONDS = 0.02
READY_SECONDS = 120.0
STOP_SECONDS = 120.0

How = Literal["kill", "term", "power"]
Json = dict[str, Any]


@dataclass
class Life:
    """One process of the daemon. Moments are seconds since 1970, as the sandbox writes them."""

    number: int
    process: asyncio.subprocess.Process
    log: Path
    began: float
    asked: float = 0.0
    """When it was killed, or told to stop."""
    how: How = "kill"
    late_from: float = float("inf")
    """What it promises from then on is no promise: the power is off, and nobody would hear it."""
    code: int | None = None
    ingest: str = ""
    admin: str = ""
    scrapes: int = 0
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    """The last ones seen; after a stop those that it logged."""
    unbalanced: list[str] = field(default_factory=list)

    def lines(self) -> list[Json]:
        """What it logged so far, but for a line that is not whole."""
        found = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def look(self) -> bool:
        """Whether it is ready; its addresses are known from then on."""
        for line in self.lines():
            if line.get("message") == "ready":
                self.ingest, self.admin = f"http://{line['ingest']}", f"http://{line['admin']}"
        return bool(self.ingest)

    async def ready(self) -> bool:
        """Wait until it is ready; False when it ended before."""
        async with asyncio.timeout(READY_SECONDS):
            while not self.look():
                if self.process.returncode is not None:
                    return False
                await asyncio.sleep(LOOK_SECONDS)
            return True

    async def kill(self) -> None:
        self.asked = self.asked or time.time()
        with suppress(ProcessLookupError):
            self.process.kill()
        self.code = await self.process.wait()

    async def freeze(self) -> None:
        """Stop it between two moments: what it has begun in the kernel is done, and it does nothing more."""
        self.process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        while any(_state(task) not in "TZX" for task in tasks.iterdir()):
            await asyncio.sleep(0.001)

    async def stop(self, kill_after: float | None = None) -> None:
        """Tell it to stop, and wait for that; ``kill_after`` so many seconds if it still runs."""
        self.asked = time.time()
        self.how = "term"
        self.process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(kill_after if kill_after is not None else STOP_SECONDS):
                self.code = await self.process.wait()
                self._read_ledgers()
                return
        self.how = "kill"
        await self.kill()

    def _read_ledgers(self) -> None:
        for line in self.lines():
            if line.get("message") == "ledger":
                self.ledgers[line["target"]] = line
                if not line["balanced"]:
                    self.unbalanced.append(f"life {self.number}, at its end: {line}")

    def learn(self, exposition: str) -> None:
        """One scrape of its metrics."""
        self.scrapes += 1
        self.ledgers = ledgers(exposition)
        for target, ledger in self.ledgers.items():
            if not balances(ledger):
                self.unbalanced.append(f"life {self.number}, {target}: {ledger}")

    def queued(self) -> int:
        return sum(ledger["in_queue"] for ledger in self.ledgers.values())


def _state(task: Path) -> str:
    """One letter, of proc(5); a thread that is gone is dead."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@dataclass
class Stage:
    """A sandbox, the lives of a daemon over one storage, and an outside view of both."""

    http: aiohttp.ClientSession
    sandbox: str
    folder: Path
    tree: Path = ROOT
    lives: list[Life] = field(default_factory=list)

    async def begin(self, storage: Path, **settings: Any) -> Life:
        """Start a daemon; it may not be ready yet."""
        number = len(self.lives) + 1
        config = self.folder / "forwarder.yaml"
        config.write_text(json.dumps(config_of(self.sandbox, storage, settings)))
        log = self.folder / f"life-{number}.log"
        began = time.time()
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "forwarder", "run", "-c", str(config)),
                cwd=self.tree,
                env=surroundings(),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=output,
            )
        life = Life(number, process, log, began)
        self.lives.append(life)
        return life

    async def scrape(self, life: Life) -> bool:
        """Read its metrics and judge its ledgers; False when it does not answer."""
        try:
            async with self.http.get(f"{life.admin}/metrics") as answer:
                life.learn(await answer.text())
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        return True

    async def order(self, faults: list[Json]) -> None:
        """These faults from now on, and no others."""
        await self.http.delete(f"{self.sandbox}/_sandbox/faults")
        if faults:
            async with self.http.post(f"{self.sandbox}/_sandbox/faults", json=faults) as answer:
                assert answer.status == 200, await answer.text()

    async def end(self) -> None:
        """No daemon runs any more."""
        for life in self.lives:
            if life.process.returncode is None:
                await life.kill()

    async def arrivals(self) -> bytes:
        """The sandbox's record, as JSON lines."""
        async with self.http.get(f"{self.sandbox}/_sandbox/events") as answer:
            return await answer.read()

    async def summary(self) -> Json:
        async with self.http.get(f"{self.sandbox}/_sandbox/summary") as answer:
            summary: Json = (await answer.json())["apis"]
            return summary

    async def letters(self, storage: Path) -> bytes:
        """The dead letters, as the command line exports them."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "forwarder", "dead-letters", "export", "--path", str(storage)),
            cwd=self.tree,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"dead-letters export ended with {process.returncode}"
        return said


def config_of(sandbox: str, storage: Path, storage_settings: Mapping[str, Any]) -> Json:
    """A configuration with six targets and short times."""
    bound = {"eventbridge": "buses", "rum": "app_monitors", "evidently": "projects"}
    return {
        "ingest": {"listen": "127.0.0.1:0", "memory_budget": "512MiB"},
        "admin": {"listen": "127.0.0.1:0"},
        "storage": {"path": str(storage), **storage_settings},
        "shutdown": {"input_grace": 0, "drain_timeout": f"{DRAIN_SECONDS}s"},
        "log": {"format": "json"},
        "targets": {
            target.name: {
                "kind": target.kind,
                "region": "eu-west-1",
                "endpoint_url": sandbox,
                "queue": target.queue,
                "queue_limits": {"max_events": DISK_EVENTS if target.queue == "disk" else MEMORY_EVENTS},
                bound[target.kind]: [target.bound],
                "batch": {"max_events": target.batch, "max_wait": "20ms"},
                "workers": WORKERS,
                "retry": {"base": "10ms", "cap": "200ms"},
                "hold": {"probe": "100ms", "probe_cap": "300ms"},
                **({"max_calls_per_second": 500} if target.kind == "rum" else {}),
            }
            for target in TARGETS
        },
    }


@asynccontextmanager
async def a_sandbox(folder: Path) -> AsyncIterator[str]:
    """The URL of a sandbox in a process of its own."""
    address = f"127.0.0.1:{free_port()}"
    buses = [t.bound for t in TARGETS if t.kind == "eventbridge"]
    with (folder / "sandbox.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "forwarder", "sandbox", "--listen", address),
            *(option for bus in buses for option in ("--bus", bus)),
            cwd=ROOT,
            env=surroundings(),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=output,
        )
    try:
        await _answers(f"http://{address}/_sandbox/summary")
        yield f"http://{address}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
        while True:
            with suppress(aiohttp.ClientError):
                await http.get(url)
                return
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def a_stage(folder: Path, tree: Path = ROOT) -> AsyncIterator[Stage]:
    """A sandbox and no daemon yet. None is left at the end of the block, nor when we are told to stop."""
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        a_sandbox(folder) as sandbox,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
    ):
        stage = Stage(http, sandbox, folder, tree)
        try:
            yield stage
        finally:
            await stage.end()
