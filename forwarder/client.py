"""Talks to a running daemon: sends lines of events to it, asks for its status. Used by the command line only.

Invariants:
- Lines leave in order, and a chunk that the daemon has no room for is sent again until it has: it took none
  of it. A chunk without an answer is not sent again, since it may have arrived; its lines are named.
- Input is read as it comes, so that ``tail -f | forwarder send`` works, and never held whole.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import aiohttp
import msgspec

from forwarder.logs import one_line

CHUNK_EVENTS = 100
CHUNK_BYTES = 2 << 20
READ_BYTES = 256 << 10
SHOWN_REFUSALS = 20
PROGRESS_SECONDS = 0.5
MAX_WAIT_SECONDS = 60.0
TIMEOUT = aiohttp.ClientTimeout(total=60.0, connect=5.0)

_LINE = re.compile(r"^Line \d+: ")

EXIT_OK, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 69


class Unreachable(Exception):
    """The daemon gave no answer that could be understood."""


class Chunk(msgspec.Struct):
    """Lines that leave together; ``numbers`` are their places in the input, from 1."""

    numbers: list[int]
    lines: list[bytes]

    @property
    def body(self) -> bytes:
        return b"\n".join(self.lines) + b"\n"

    def halves(self) -> tuple[Chunk, Chunk]:
        middle = len(self.lines) // 2
        return (
            Chunk(self.numbers[:middle], self.lines[:middle]),
            Chunk(self.numbers[middle:], self.lines[middle:]),
        )


class _Refusal(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Result(_Refusal):
    id: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: _Refusal = msgspec.field(default_factory=_Refusal)


class Reader(Protocol):
    """A buffered binary file: ``read1`` gives what is there, and waits only when there is nothing."""

    def read1(self, size: int = -1, /) -> bytes: ...


class Chunks:
    """Cuts a stream of lines into chunks, as it comes; blank lines are left out but counted."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._rest = b""
        self._number = 0

    def next(self) -> list[Chunk] | None:
        """The chunks of what could be read now, waiting for something to be there; None at the end."""
        data = self._source.read1(READ_BYTES)
        if not data and not self._rest:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n") if data else (self._rest, b"")
        return list(self._cut(lines))

    def _cut(self, lines: list[bytes]) -> Iterator[Chunk]:
        chunk, size = Chunk([], []), 0
        for line in lines:
            self._number += 1
            line = line.strip()
            if not line:
                continue
            if len(chunk.lines) == CHUNK_EVENTS or (chunk.lines and size + len(line) > CHUNK_BYTES):
                yield chunk
                chunk, size = Chunk([], []), 0
            chunk.numbers.append(self._number)
            chunk.lines.append(line)
            size += len(line)
        if chunk.lines:
            yield chunk


class Sender:
    """Sends chunks to one target and counts what became of their lines."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        say: Callable[[str], None],
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._url = url
        self._say = say
        self._sleep = sleep
        self.accepted = 0
        self.refused = 0

    async def send(self, chunk: Chunk) -> None:
        """Send until there is an answer that is not "later"; raises Unreachable when there is none at all."""
        while (wait := await self._try(chunk)) is not None:
            await self._sleep(wait)

    async def _try(self, chunk: Chunk) -> float | None:
        """Seconds to wait when the daemon had no room, None when the chunk is done with."""
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            async with self._session.post(self._url, data=chunk.body, headers=headers) as response:
                status, body = response.status, await response.read()
                wait = _retry_after(response.headers)
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"no daemon at {self._url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            lines = f"lines {chunk.numbers[0]} to {chunk.numbers[-1]}"
            raise Unreachable(f"no answer for {lines}, which may have arrived: {error!r}") from error
        if status in (429, 503):
            return wait
        answer = _answer(status, body)
        if status in (400, 413) and not answer.results and len(chunk.lines) > 1:
            for half in chunk.halves():  # none was taken: find the lines that spoil it for the others
                await self.send(half)
        else:
            self._count(chunk, status, answer)
        return None

    def _count(self, chunk: Chunk, status: int, answer: _Answer) -> None:
        if len(answer.results) == len(chunk.lines):
            for number, result in zip(chunk.numbers, answer.results, strict=True):
                if result.id is not None and not result.code:
                    self.accepted += 1
                else:
                    self._refuse(number, result)
        elif status < 300:
            raise Unreachable(
                f"{len(answer.results)} results for {len(chunk.lines)} events: not a forwarder?"
            )
        else:
            for number in chunk.numbers:
                self._refuse(number, answer.error)

    def _refuse(self, number: int, refusal: _Refusal) -> None:
        self.refused += 1
        if self.refused <= SHOWN_REFUSALS:
            message = _LINE.sub("", refusal.message)  # the daemon counts lines from the chunk's first
            self._say(one_line(f"line {number}: {refusal.code}: {message}"))
        elif self.refused == SHOWN_REFUSALS + 1:
            self._say("further refusals are counted, not shown")


def _answer(status: int, body: bytes) -> _Answer:
    try:
        return msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"answer {status} is not a forwarder's: {body[:200]!r}") from error


def _retry_after(headers: Any) -> float:
    """Seconds the daemon asked for: the exact header of the two when it is there."""
    for name, unit in (("x-amz-retry-after", 0.001), ("Retry-After", 1.0)):
        try:
            return min(MAX_WAIT_SECONDS, max(0.05, float(headers[name]) * unit))
        except (KeyError, ValueError):
            continue
    return 1.0


def _session(url: str) -> tuple[aiohttp.ClientSession, str]:
    """A session and the base URL, for ``http://host:port``, ``host:port`` or ``unix:/path``."""
    if url.startswith("unix:"):
        connector = aiohttp.UnixConnector(path=url.removeprefix("unix:"))
        return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT), "http://localhost"
    base = url if "://" in url else f"http://{url}"
    return aiohttp.ClientSession(timeout=TIMEOUT), base.rstrip("/")


async def send(url: str, target: str, source: Reader) -> int:
    """Send NDJSON to a running daemon, with progress and rate on stderr; the exit code."""
    session, base = _session(url)
    async with session:
        sender = Sender(session, f"{base}/v1/targets/{target}/events", _say)
        progress = Progress(sender)
        chunks = Chunks(source)
        code = EXIT_OK
        try:
            while (ready := await asyncio.to_thread(chunks.next)) is not None:
                for chunk in ready:
                    await sender.send(chunk)
                    progress.maybe()
        except Unreachable as error:
            _say(str(error))
            code = EXIT_UNAVAILABLE
        finally:
            progress.end()
        return code or (EXIT_REFUSED if sender.refused else EXIT_OK)


class Progress:
    """The line on stderr: rewritten in place on a terminal, else said once at the end."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._began = self._last = time.monotonic()

    def maybe(self) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last >= PROGRESS_SECONDS:
            self._last = now
            sys.stderr.write(f"\r\x1b[K{self._text()}")
            sys.stderr.flush()

    def end(self) -> None:
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{start}{self._text()}\n")

    def _text(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-3)
        done = self._sender.accepted + self._sender.refused
        return (
            f"{self._sender.accepted} accepted, {self._sender.refused} refused, {done / seconds:.0f} a second"
        )


def _say(text: str) -> None:
    start = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{start}{text}\n")


async def status(url: str, as_json: bool) -> int:
    """Print a running daemon's status; the exit code."""
    session, base = _session(url)
    try:
        async with session, session.get(f"{base}/status") as response:
            body = await response.read()
            if response.status != 200:
                raise Unreachable(f"{base}/status answered {response.status}")
        report = msgspec.json.decode(body, type=dict[str, Any])
        print(msgspec.json.format(body, indent=2).decode() if as_json else render_status(report))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        _say(f"no daemon at {url}: {error}")
        return EXIT_UNAVAILABLE
    except (Unreachable, msgspec.DecodeError, KeyError, TypeError) as error:
        _say(f"not the admin listener of a forwarder: {error}")
        return EXIT_UNAVAILABLE
    return EXIT_OK


def render_status(report: dict[str, Any]) -> str:
    """The status as a table; what a kill would lose stands first."""
    stopping = ", stopping" if report["draining"] else ""
    lines = [
        f"only in memory: {report['only_in_memory']} events",
        f"version {report['version']}, up {_span(report['uptime_seconds'])}{stopping}",
        "",
    ]
    rows: list[tuple[str, ...]] = [
        ("TARGET", "KIND", "STATE", "WAITING", "IN FLIGHT", "OLDEST", "IN/S", "OUT/S", "DELIVERED", "DEAD")
    ]
    notes = []
    for name, target in report["targets"].items():
        rows.append(_row(name, target))
        if target["message"]:
            probe = target["next_probe_seconds"]
            when = f" (next try in {_span(probe)})" if probe is not None else ""
            notes.append(one_line(f"{name}: {target['message']}{when}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    storage = report["storage"]
    lines += ["", *notes] if notes else [""]
    lines.append(
        f"dead letters: {storage['dead_letters_events']} events, "
        f"{storage['dead_letters_bytes']} bytes in {storage['path']}"
    )
    return "\n".join(lines)


def _row(name: str, target: dict[str, Any]) -> tuple[str, ...]:
    rates = target["rates"]
    oldest = target["oldest_age_seconds"]
    return (
        name,
        target["kind"],
        target["state"],
        str(target["waiting"]),
        str(target["in_flight"]),
        _span(oldest) if oldest else "-",
        f"{rates['received_per_second']:.0f}",
        f"{rates['delivered_per_second']:.0f}",
        str(target["delivered"]),
        str(target["dead_lettered"]),
    )


def _span(seconds: float) -> str:
    """A duration for people, in its two largest units."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // part}{smaller}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
