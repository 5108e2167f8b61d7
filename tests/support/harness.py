"""A daemon and a sandbox on free ports, with short times, and an outside view of both.

Invariants:
- A World talks HTTP to both and reads the dead letters with their reader, so that it sees a daemon in this
  process and one in another alike; what it says arrived is what the sandbox recorded.
- Nothing waits for a time to pass: ``until`` looks again and again, up to a deadline that only a bug reaches.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from forwarder.config import parse
from forwarder.daemon import Daemon
from forwarder.dead_letters import Letter, list_
from forwarder.model import Clock
from forwarder.sandbox import SandboxSettings, running
from forwarder.targets import option_types
from tests.support.events import KINDS, MONITOR, TARGETS, Event, chunks, marker_of
from tests.support.ingest import Peer
from tests.support.scraper import Ledger, balances, ledgers

DEADLINE = float(os.environ.get("TEST_DEADLINE", "30"))
"""Seconds after which something never happened. Less where the code is broken on purpose."""

LOOK = 0.01

T = TypeVar("T")
Settings = dict[str, Any]


async def until(look: Callable[[], Awaitable[T]], what: str, seconds: float = DEADLINE) -> T:
    """Look until there is something to see, and return it."""
    async with asyncio.timeout(seconds * 2):
        ends = asyncio.get_running_loop().time() + seconds
        while not (seen := await look()):
            assert asyncio.get_running_loop().time() < ends, f"never happened: {what}"
            await asyncio.sleep(LOOK)
        return seen


@dataclass(frozen=True)
class Sent:
    """The answer to one native request."""

    status: int
    headers: dict[str, str]
    results: list[dict[str, str]]

    @property
    def ids(self) -> list[str]:
        """The id of each event, in order; only for a request whose every event was taken."""
        return [result["id"] for result in self.results]


@dataclass
class World:
    """A sandbox and a daemon, from outside. The daemon's addresses are known once it runs."""

    http: aiohttp.ClientSession
    sandbox: str
    storage: Path
    ingest: str = ""
    admin: str = ""

    # --- the daemon

    async def post(self, kind: str, batch: Sequence[Event]) -> Sent:
        """One native request, whatever its answer."""
        url = f"{self.ingest}/v1/targets/{TARGETS[kind]}/events"
        async with self.http.post(url, json=batch) as answer:
            said = await answer.json()
            return Sent(answer.status, dict(answer.headers), said.get("results", []))

    async def send(self, kind: str, batch: Sequence[Event], size: int = 100) -> list[str]:
        """The ids of the events, all of which are taken, in requests of ``size``."""
        ids: list[str] = []
        for part in chunks(batch, size):
            sent = await self.post(kind, part)
            assert sent.status == 202, sent
            ids += sent.ids
        return ids

    async def clock(self) -> str:
        """What the status says of the wall clock."""
        return str((await self._get(f"{self.admin}/status"))["clock"])

    async def status(self, kind: str) -> dict[str, Any]:
        status = await self._get(f"{self.admin}/status")
        target: dict[str, Any] = status["targets"][TARGETS[kind]]
        said = target["message"]
        assert target["cure"] or not said or "now being sent" in said, f"a sentence without its cure: {said}"
        assert not target["cure"] or target["runbook"]
        return target

    async def ready(self) -> bool:
        async with self.http.get(f"{self.admin}/health/ready") as answer:
            return answer.status == 200

    async def metrics(self) -> str:
        async with self.http.get(f"{self.admin}/metrics") as answer:
            return await answer.text()

    async def ledger(self, kind: str) -> Ledger:
        """The target's ledger from the metrics; it balances."""
        ledger = ledgers(await self.metrics())[TARGETS[kind]]
        assert balances(ledger), ledger
        return ledger

    async def settled(self, *kinds: str) -> None:
        """Wait until nothing waits and nothing is in flight."""
        for kind in kinds:

            async def empty(kind: str = kind) -> bool:
                return (await self.ledger(kind))["in_queue"] == 0

            await until(empty, f"the queue of {kind} is empty")

    async def held(self, kind: str, words: str = "") -> str:
        """Wait until the target is held with these words in its sentence; the sentence."""

        async def sentence() -> str:
            status = await self.status(kind)
            said = str(status["message"])
            return said if status["state"] == "held" and words in said else ""

        return await until(sentence, f"{kind} is held: {words}")

    def letters(self) -> dict[str, Letter]:
        """The dead letters by their events' ids."""
        return {letter.id: letter for letter in list_(self.storage / "data")}

    # --- the sandbox

    async def order(self, *faults: Settings) -> None:
        async with self.http.post(f"{self.sandbox}/_sandbox/faults", json=faults) as answer:
            assert answer.status == 200, await answer.text()

    async def heal(self) -> None:
        await self.http.delete(f"{self.sandbox}/_sandbox/faults")

    async def make_bus(self, name: str) -> None:
        await self.http.post(f"{self.sandbox}/_sandbox/buses/{name}")

    async def accept_keys(self, *keys: str) -> None:
        """Calls signed with other access keys than these have expired; with none given, no call has."""
        url = f"{self.sandbox}/_sandbox/access-keys"
        async with self.http.request("PUT" if keys else "DELETE", url, json=keys) as answer:
            assert answer.status == 200, await answer.text()

    async def delete_bus(self, name: str) -> None:
        await self.http.delete(f"{self.sandbox}/_sandbox/buses/{name}")

    async def arrivals(self, kind: str) -> list[dict[str, Any]]:
        async with self.http.get(f"{self.sandbox}/_sandbox/events", params={"api": kind}) as answer:
            return [json.loads(line) for line in (await answer.text()).splitlines()]

    async def arrived(self, kind: str) -> Counter[str]:
        """How often the event of each marker arrived."""
        return Counter(marker_of(line["entry"]) for line in await self.arrivals(kind))

    async def summary(self, kind: str) -> dict[str, Any]:
        summary = await self._get(f"{self.sandbox}/_sandbox/summary")
        counts: dict[str, Any] = summary["apis"][kind]
        return counts

    async def injected(self, kind: str, fault: str) -> int:
        """Calls that the fault hit."""
        hits = (await self.summary(kind))["injected"].get(fault)
        return int(hits["calls"]) if hits else 0

    async def all_arrive(self, kind: str, names: Sequence[str]) -> Counter[str]:
        """Wait until every one of these arrived; how often each did."""

        async def there() -> bool:
            return set(names) <= set(await self.arrived(kind))

        await until(there, f"{len(names)} events arrive at {kind}")
        return await self.arrived(kind)

    async def _get(self, url: str) -> Any:
        async with self.http.get(url) as answer:
            return await answer.json()


def settings(sandbox: str, storage: Path, /, **changes: Any) -> Settings:
    """A configuration with short times.

    ``changes`` are merged into the options of all three targets, but ``orders``, ``web`` and ``features``
    into that target's alone, and ``shutdown``, ``ingest`` and ``storage`` into these.
    """
    own = {name: changes.pop(name, {}) for name in (*TARGETS.values(), "shutdown", "ingest", "storage")}
    common: Settings = {
        "region": "eu-west-1",
        "endpoint_url": sandbox,
        "batch": {"max_wait": "20ms"},
        "retry": {"base": "10ms", "cap": "100ms"},
        "hold": {"probe": "100ms", "probe_cap": "200ms"},
        "timeouts": {"connect": "10s", "read": "10s"},
    }
    bound: Settings = {"orders": {}, "web": {"app_monitors": [MONITOR]}, "features": {"projects": ["shop"]}}
    targets = {
        name: _merged({"kind": kind, **common, **bound[name]}, changes, own[name])
        for kind, name in TARGETS.items()
    }
    return {
        "ingest": _merged({"listen": "127.0.0.1:0"}, own["ingest"]),
        "admin": {"listen": "127.0.0.1:0"},
        "storage": _merged({"path": str(storage)}, own["storage"]),
        "shutdown": _merged({"input_grace": 0, "drain_timeout": "30s"}, own["shutdown"]),
        "log": {"format": "json"},
        "targets": targets,
    }


def _merged(base: Settings, *changes: Settings) -> Settings:
    merged = dict(base)
    for change in changes:
        for key, value in change.items():
            inner = merged.get(key)
            merged[key] = (
                _merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
            )
    return merged


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A sandbox, and no daemon yet."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with (
        running(SandboxSettings(listen="127.0.0.1:0")) as sandbox,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        try:
            yield World(http, sandbox.url, tmp_path / "state")
        finally:
            Peer.abort_all()


@asynccontextmanager
async def daemon_of(place: World, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Daemon]:
    """A daemon in this process, started; the block stops it, and if it failed to, nothing is left of it."""
    config = parse(json.dumps(settings(place.sandbox, place.storage, **changes)), option_types())
    daemon = Daemon(config, clock, admin_max_age=0.0)  # tests read what they did a moment ago
    await daemon.start()
    place.ingest, place.admin = f"http://{daemon.ingest_address}", f"http://{daemon.admin_address}"
    try:
        yield daemon
    except BaseException:  # no time for what cannot be sent
        daemon.ask_to_stop()
        daemon.ask_to_stop()
        await daemon.stop()
        raise


@asynccontextmanager
async def daemon_in(place: World, clock: Clock | None = None, **changes: Any) -> AsyncIterator[Daemon]:
    """A daemon in this process; at the end, with the faults gone, it stops in order."""
    async with daemon_of(place, clock, **changes) as daemon:
        yield daemon
        await place.heal()
        await daemon.stop()


async def for_each(kinds: Iterable[str], do: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Do it for all kinds at once, each for itself."""
    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            tasks.create_task(do(kind), name=kind)


async def full_ledger(place: World) -> dict[str, Ledger]:
    """Every target's ledger by its kind."""
    return {kind: await place.ledger(kind) for kind in KINDS}
