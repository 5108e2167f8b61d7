"""Tells a running daemon what to do, through its control socket.

Invariants:
- Each request is one bounded step; between steps nothing is half done, so Ctrl-C ends anything cleanly.
- A queue without room is asked again, later and later; what was asked is not forgotten.
- A replay handles the letters that were there when it began: one that dies again does not come round.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from forwarder.client.connecting import Unreachable, exchange, say, session_for
from forwarder.client.progress import Progress
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_OK, EXIT_UNAVAILABLE
from forwarder.logs import one_line
from forwarder.nearest import plural
from forwarder.states import in_words
from forwarder.urls import (
    COUNT_LETTERS,
    COUNT_QUEUE,
    LISTENERS,
    PURGE_LETTERS,
    PURGE_QUEUE,
    TARGET_NAMES,
    operation_on,
)

STEPS_PER_SECOND = 5
FIRST_WAIT_SECONDS = 0.1
MAX_WAIT_SECONDS = 5.0

Wanted = Mapping[str, Any]
"""Which letters, as the control socket has it: target, reason, code, since, until, limit."""


class Refused(Exception):
    """The daemon said no, and why."""


class Later(Exception):
    """The daemon said not now, and why."""


class Control:
    """The control socket of one daemon: ``async with Control(path) as control``."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def __aenter__(self) -> Control:
        self._session, self._base = session_for(f"unix:{self._socket}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, path: str, order: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer; Unreachable, Refused or Later when it is none. Without an order it only asks."""
        method = "GET" if order is None else "POST"
        body = None if order is None else msgspec.json.encode(order)
        reply = await exchange(
            self._session,
            method,
            f"{self._base}{path}",
            f"unix:{self._socket}",
            slow=order is not None,
            data=body,
        )
        try:
            answer = msgspec.json.decode(reply.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"{self._socket} is not the control socket of a forwarder") from error
        status = reply.status
        if status == 200:
            return answer
        said = answer.get("error", {})
        message = one_line(str(said.get("message", f"it answered {status}")))
        if said.get("code") == "Stopping":
            raise Unreachable(message)
        raise (Later if status in (429, 503) else Refused)(message)


async def listener(socket: Path, name: str) -> str:
    """The URL of the daemon's ``ingest`` or ``admin`` listener, the first of several. Raises Unreachable."""
    try:
        async with Control(socket) as control:
            return str((await control.ask(LISTENERS))[name][0])
    except (Refused, Later, LookupError) as error:
        raise Unreachable(f"the daemon at {socket} did not report its addresses: use -c or --url") from error


async def operate(socket: Path, action: str, target: str | None) -> int:
    """Pause, resume or flush a target, or all of them; the exit code."""
    try:
        async with Control(socket) as control:
            names = [target] if target is not None else (await control.ask(TARGET_NAMES))["targets"]
            asking = [control.ask(operation_on(quote(name, safe=""), action), {}) for name in names]
            for name, state in zip(names, await asyncio.gather(*asking), strict=True):
                print("\n".join(_lines_of(name, state)))
    except (Unreachable, Later, Refused) as problem:
        return _told(problem)
    return EXIT_OK


def _lines_of(name: str, state: dict[str, Any]) -> list[str]:
    """What became of a target: its state, and what to do where it needs somebody."""
    said = f": {one_line(state['message'])}" if state["message"] else ""
    open_question = "" if state.get("answered", True) else " (no answer yet)"
    words = in_words(state["state"], state.get("reason", ""))
    waiting = state["waiting"]
    count = "1 event waits" if waiting == 1 else f"{waiting} events wait"
    line = f"{name}: {words}{open_question}, {count}{said}"
    return [line, *([f"  cure: {state['cure']}"] if state.get("cure") else [])]


async def purge(socket: Path, wanted: Wanted) -> int:
    """Delete the dead letters that are wanted; how many that were. Unreachable when there is no daemon."""
    purged = 0
    left = wanted.get("limit")
    async with Control(socket) as control:
        while left is None or purged < left:
            limit = {} if left is None else {"limit": left - purged}
            step = (await control.ask(PURGE_LETTERS, {**wanted, **limit}))["purged"]
            if not step:
                break
            purged += step
    return purged


async def replay(socket: Path, wanted: Wanted, rate: float | None) -> int:
    """Put the dead letters that are wanted back into their queues, with progress on stderr; the exit code."""
    try:
        async with Control(socket) as control:
            known = (await control.ask(TARGET_NAMES))["targets"]
            if wanted.get("target") is not None:
                targets: Iterable[str] = [wanted["target"]]
                total = sum((await control.ask(COUNT_LETTERS, wanted))["targets"].values())
            else:
                counts = (await control.ask(COUNT_LETTERS, wanted))["targets"]
                targets, total = counts, sum(counts.values())
            replaying = Replaying(control, wanted, rate, total)
            try:
                for target in targets:
                    if target in known or wanted.get("target") is not None:
                        await replaying.of(target)
                    else:
                        replaying.skip(target, counts[target])
            finally:
                replaying.end()
    except (Unreachable, Later, Refused) as problem:
        return _told(problem)
    return EXIT_INCOMPLETE if replaying.failed or replaying.skipped else EXIT_OK


async def count_queue(socket: Path, target: str, chosen: Wanted) -> dict[str, int]:
    """How many waiting events are chosen (``events``), the ``bytes`` they need as dead letters, and the
    ``room`` there is. Unreachable when there is no daemon."""
    total = {"events": 0, "bytes": 0, "room": 0}
    order = dict(chosen)
    async with Control(socket) as control:
        while True:
            step = await control.ask(operation_on(quote(target, safe=""), COUNT_QUEUE), order)
            total["events"] += step["events"]
            total["bytes"] += step["bytes"]
            total["room"] = step["room"]
            if not step["more"]:
                return total
            order["after"] = step["after"]


async def purge_queue(socket: Path, target: str, chosen: Wanted) -> int:
    """Remove the waiting events that are chosen, but none that came after this began; how many that were."""
    purged, began = 0, time.monotonic()
    order = dict(chosen)
    async with Control(socket) as control:
        while True:
            older_than = chosen.get("older_than", 0.0) + time.monotonic() - began
            step = await control.ask(
                operation_on(quote(target, safe=""), PURGE_QUEUE), {**order, "older_than": older_than}
            )
            purged += int(step["purged"])
            if not step["more"]:
                return purged
            order["after"] = step["after"]


class Replaying:
    """One replay: its pace, its counts, and the line on stderr."""

    def __init__(self, control: Control, wanted: Wanted, rate: float | None, total: int) -> None:
        self._control = control
        self._wanted = wanted
        self._rate = rate
        self._total = total
        self._began = time.monotonic()
        self._progress = Progress(self._text)
        self.replayed = self.skipped = self.failed = 0

    async def of(self, target: str) -> None:
        """Replay the letters of one target, as long as there are any, and as the limit allows."""
        order = {**self._wanted, "target": None}
        while (limit := self._step()) > 0:
            step = await self._patiently(
                operation_on(quote(target, safe=""), "replay"), {**order, "limit": limit}
            )
            self.replayed += step["replayed"]
            self.failed += step["failed"]
            if step["problem"]:
                say(one_line(f"{target}: {step['problem']}"))
            if not step["more"]:
                return
            order.update(after=step["after"], through=step["through"])
            self._progress.maybe()
            await asyncio.sleep(self._ahead())

    def skip(self, target: str, letters: int) -> None:
        self.skipped += letters
        say(f"{target}: {plural(letters, 'dead letter')}, but the daemon has no such target")

    def end(self) -> None:
        self._progress.end()

    def _step(self) -> int:
        """How many letters the next step may replay."""
        limit = self._wanted.get("limit")
        most = sys.maxsize if limit is None else limit - self.replayed - self.failed
        return most if self._rate is None else min(most, math.ceil(self._rate / STEPS_PER_SECOND))

    def _ahead(self) -> float:
        """Seconds to wait so as not to be faster than the rate."""
        if self._rate is None:
            return 0.0
        return max(0.0, self._began + self.replayed / self._rate - time.monotonic())

    async def _patiently(self, path: str, order: Mapping[str, Any]) -> dict[str, Any]:
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return await self._control.ask(path, order)
            except Later as problem:
                if wait == FIRST_WAIT_SECONDS:
                    say(f"waiting: {problem}")
                await asyncio.sleep(wait)
                wait = min(MAX_WAIT_SECONDS, 2 * wait)

    def _text(self, seconds: float) -> str:
        return (
            f"{self.replayed} of {self._total} replayed, {self.skipped} skipped, {self.failed} failed, "
            f"{self.replayed / seconds:.0f} a second"
        )


def _told(problem: Exception) -> int:
    say(str(problem))
    return EXIT_INCOMPLETE if isinstance(problem, Refused) else EXIT_UNAVAILABLE
