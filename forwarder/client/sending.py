"""Sends lines of events to a running daemon: native events, or what ``forwarder queue dump`` wrote.

Invariants:
- Lines leave in order, and a chunk that the daemon has no room for is sent again until it has: it took none
  of it. A chunk without an answer is not sent again, since it may have arrived; its lines are named.
- Dumped events that were one batch arrive in one request: their target may keep them together.
- Input is read as it comes, so that ``tail -f | forwarder send`` works, and never held whole.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import quote, unquote

import aiohttp
import msgspec

from forwarder.client.connecting import Unreachable, exchange, say, session_for
from forwarder.client.progress import Progress
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_OK, EXIT_UNAVAILABLE, EXIT_USAGE
from forwarder.logs import one_line
from forwarder.nearest import did_you_mean
from forwarder.urls import events_of

CHUNK_EVENTS = 100
CHUNK_BYTES = 2 << 20
READ_BYTES = 256 << 10
SHOWN_REFUSALS = 20
MAX_WAIT_SECONDS = 60.0

TOKEN_VARIABLE = "FORWARDER_TOKEN"
"""Of the environment, since others on the machine can read a command's arguments."""

NO_TARGET = "{target}"
"""What stands in a URL for the target that each line names."""

_LINE = re.compile(r"^Line \d+: ")
_LISTED = re.compile(r"there is: (.+?)\.?$")
_DUMPED = b'{"target":'


class _Dumped(msgspec.Struct, forbid_unknown_fields=True):
    """A line of ``forwarder queue dump``: a native event, and the target it waited for.

    ``batch``: equal for neighbours that must stay together.
    """

    target: str
    event: msgspec.Raw
    id: str = ""
    batch: str = ""


_dumped = msgspec.json.Decoder(_Dumped)


class Chunk(msgspec.Struct):
    """Lines that leave together; ``numbers`` are their places in the input, from 1.

    ``target``: where they say that they go, "" when they say nothing; ``batch``: of its last line.
    """

    numbers: list[int]
    lines: list[bytes]
    target: str = ""
    batch: str = ""
    size: int = 0

    @property
    def body(self) -> bytes:
        return b"\n".join(self.lines) + b"\n"

    def halves(self) -> tuple[Chunk, Chunk]:
        middle = len(self.lines) // 2
        return (
            Chunk(self.numbers[:middle], self.lines[:middle], self.target),
            Chunk(self.numbers[middle:], self.lines[middle:], self.target),
        )

    def takes(self, line: _Dumped) -> bool:
        """Whether the line may leave with these."""
        if not self.lines or line.target != self.target:
            return not self.lines
        if line.batch and line.batch == self.batch:
            return True
        return len(self.lines) < CHUNK_EVENTS and self.size + len(line.event) <= CHUNK_BYTES

    def add(self, number: int, line: _Dumped) -> None:
        self.numbers.append(number)
        self.lines.append(bytes(line.event))
        self.target, self.batch = line.target, line.batch
        self.size += len(line.event)


class UnknownTarget(Exception):
    """The daemon does not have the target that all lines are for; the message names those it has."""


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
        self._open = Chunk([], [])

    def next(self) -> list[Chunk] | None:
        """The chunks of what could be read now, waiting for something to be there; None at the end."""
        data = self._source.read1(READ_BYTES)
        if not data and not self._rest and not self._open.lines:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n") if data else (self._rest, b"")
        chunks = list(self._cut(lines))
        self._open = Chunk([], [])
        if data and chunks and chunks[-1].batch:
            self._open = chunks.pop()  # more of its batch may follow
        return chunks

    def _cut(self, lines: list[bytes]) -> Iterator[Chunk]:
        chunk = self._open
        for text in lines:
            self._number += 1
            text = text.strip()
            if not text:
                continue
            line = _read(text)
            if not chunk.takes(line):
                yield chunk
                chunk = Chunk([], [])
            chunk.add(self._number, line)
        if chunk.lines:
            yield chunk


def _read(line: bytes) -> _Dumped:
    """A dumped line, or any other line as an event that names no target."""
    if line.startswith(_DUMPED):
        try:
            return _dumped.decode(line)
        except msgspec.DecodeError:
            pass  # an event of its own; the daemon says what is wrong with it
    return _Dumped("", msgspec.Raw(line))


class Sender:
    """Sends chunks and counts what became of their lines. Where ``url`` has NO_TARGET, lines name theirs.

    ``token``: a bearer token, where the daemon asks for one. ``place``: what a person calls the daemon.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        say: Callable[[str], None],
        sleep: Callable[[float], Any] = asyncio.sleep,
        token: str = "",
        place: str = "",
    ) -> None:
        self._session = session
        self._url = url
        self._place = place or url
        self._say = say
        self._sleep = sleep
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self.accepted = 0
        self.refused = 0

    def progress(self, seconds: float) -> str:
        """What came of the lines so far, and how fast."""
        rate = (self.accepted + self.refused) / seconds
        return f"{self.accepted} accepted, {self.refused} refused, {rate:.0f} a second"

    async def send(self, chunk: Chunk) -> None:
        """Send until there is an answer that is not "later"; raises Unreachable when there is none at all."""
        while (wait := await self._try(chunk)) is not None:
            await self._sleep(wait)

    async def _try(self, chunk: Chunk) -> float | None:
        """Seconds to wait when the daemon had no room, None when the chunk is done with."""
        if not chunk.target and NO_TARGET in self._url:
            for number in chunk.numbers:
                self._refuse(number, _Refusal("NoTarget", "the line names no target: forwarder send TARGET"))
            return None
        url = self._url.replace(NO_TARGET, quote(chunk.target, safe=""))
        headers = {"Content-Type": "application/x-ndjson", **self._authorization}
        try:
            reply = await exchange(
                self._session, "POST", url, self._place, slow=True, data=chunk.body, headers=headers
            )
        except Unreachable as problem:
            if not problem.sent:
                raise
            first, last = chunk.numbers[0], chunk.numbers[-1]
            lines = f"line {first}" if first == last else f"lines {first} to {last}"
            raise Unreachable(f"no answer for {lines}, which may have arrived: {problem}") from problem
        status = reply.status
        if status in (429, 503):
            return _retry_after(reply.headers)
        answer = _answer(status, reply.body)
        if status == 404 and NO_TARGET not in self._url:
            self.refused += len(chunk.lines)
            raise UnknownTarget(_with_nearest(answer.error.message, self._url))
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


def _with_nearest(message: str, url: str) -> str:
    """The daemon's sentence about an unknown target, with the target that was probably meant."""
    listed = _LISTED.search(message)
    name = unquote(url.rstrip("/").split("/")[-2])
    near = did_you_mean(name, listed[1].split(", ")) if listed else ""
    return one_line(f"{message}{near}")


def _retry_after(headers: Any) -> float:
    """Seconds the daemon asked for: the exact header of the two when it is there."""
    for name, unit in (("x-amz-retry-after", 0.001), ("Retry-After", 1.0)):
        try:
            return min(MAX_WAIT_SECONDS, max(0.05, float(headers[name]) * unit))
        except (KeyError, ValueError):
            continue
    return 1.0


async def send(url: str, target: str | None, source: Reader, meant: str = "") -> int:
    """Send NDJSON to a running daemon, with progress and rate on stderr; the exit code.

    Without a target each line must name its own, as those of ``forwarder queue dump`` do. ``meant``: the
    command that was probably meant if the input is empty; an empty input is then an error.
    """
    session, base = session_for(url)
    async with session:
        name = NO_TARGET if target is None else quote(target, safe="")
        given, url = url, f"{base}{events_of(name)}"
        token = os.environ.get(TOKEN_VARIABLE, "")
        sender = Sender(session, url, say, token=token, place=given)
        progress = Progress(sender.progress)
        chunks = Chunks(source)
        code = EXIT_OK
        try:
            while (ready := await asyncio.to_thread(chunks.next)) is not None:
                for chunk in ready:
                    await sender.send(chunk)
                    progress.maybe()
        except Unreachable as error:
            say(str(error))
            code = EXIT_UNAVAILABLE
        except UnknownTarget as error:
            say(str(error))
            code = EXIT_INCOMPLETE
        finally:
            progress.end()
        if not code and not sender.accepted and not sender.refused:
            say(f"the input was empty: nothing was sent{meant and f'. Did you mean: {meant}?'}")
            code = EXIT_USAGE if meant else EXIT_OK
        return code or (EXIT_INCOMPLETE if sender.refused else EXIT_OK)
