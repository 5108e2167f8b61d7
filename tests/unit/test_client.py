"""The client against a server that answers as the native API is documented to."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from forwarder.client import (
    CHUNK_EVENTS,
    Chunks,
    Sender,
    UnknownTarget,
    Unreachable,
    render_status,
    send,
    status,
)

Answer = Callable[[list[bytes]], web.Response]


def taken(lines: list[bytes]) -> web.Response:
    results = [{"id": f"id-{i}"} for i, _ in enumerate(lines)]
    return web.json_response({"accepted": len(lines), "refused": 0, "results": results}, status=202)


class Daemon:
    """Records the chunks that came; ``answers`` are used up first, then everything is taken."""

    def __init__(self) -> None:
        self.chunks: list[list[bytes]] = []
        self.content_types: set[str] = set()
        self.answers: list[Answer] = []
        self.always: Answer = taken
        self.url = ""
        self.status: Any = {}

    async def take(self, request: web.Request) -> web.Response:
        lines = (await request.read()).splitlines()
        self.chunks.append(lines)
        self.content_types.add(request.content_type)
        return (self.answers.pop(0) if self.answers else self.always)(lines)

    async def tell(self, _request: web.Request) -> web.Response:
        return web.json_response(self.status)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    daemon = Daemon()
    app = web.Application()
    app.add_routes([web.post("/v1/targets/orders/events", daemon.take), web.get("/status", daemon.tell)])
    async with TestServer(app) as server:
        daemon.url = str(server.make_url("")).rstrip("/")
        yield daemon


class Sending:
    """A Sender, what it said, and how long it would have slept."""

    def __init__(self, session: aiohttp.ClientSession, daemon: Daemon) -> None:
        self.said: list[str] = []
        self.slept: list[float] = []
        url = f"{daemon.url}/v1/targets/orders/events"
        self.sender = Sender(session, url, self.said.append, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def send(self, text: str) -> None:
        chunks = Chunks(io.BytesIO(text.encode()))
        while (ready := chunks.next()) is not None:
            for chunk in ready:
                await self.sender.send(chunk)


@pytest.fixture
async def sending(daemon: Daemon) -> AsyncIterator[Sending]:
    async with aiohttp.ClientSession() as session:
        yield Sending(session, daemon)


async def test_lines_leave_in_order_in_chunks_of_a_hundred(sending: Sending, daemon: Daemon) -> None:
    await sending.send("".join(f'{{"n": {i}}}\n' for i in range(250)))
    assert [len(chunk) for chunk in daemon.chunks] == [100, 100, 50]
    assert [json.loads(line)["n"] for chunk in daemon.chunks for line in chunk] == list(range(250))
    assert daemon.content_types == {"application/x-ndjson"}
    assert (sending.sender.accepted, sending.sender.refused) == (250, 0)


async def test_blank_lines_are_left_out_and_the_last_line_needs_no_newline(
    sending: Sending, daemon: Daemon
) -> None:
    await sending.send('\n{"a": 1}\r\n\n  \n{"b": 2}')
    assert [line for chunk in daemon.chunks for line in chunk] == [b'{"a": 1}', b'{"b": 2}']


async def test_a_full_daemon_gets_the_same_chunk_again_when_it_asked_to(
    sending: Sending, daemon: Daemon
) -> None:
    error = {"error": {"code": "ThrottlingException", "message": "full"}}
    daemon.answers = [
        lambda _: web.json_response(
            error, status=429, headers={"Retry-After": "2", "x-amz-retry-after": "1250"}
        ),
        lambda _: web.json_response(error, status=503, headers={"Retry-After": "3"}),
        lambda _: web.json_response(error, status=429, headers={"Retry-After": "soon"}),
    ]
    await sending.send('{"a": 1}\n')
    assert daemon.chunks == [[b'{"a": 1}']] * 4
    assert sending.slept == [1.25, 3.0, 1.0]
    assert (sending.sender.accepted, sending.sender.refused) == (1, 0)


async def test_a_refused_event_is_named_by_its_line_in_the_input(sending: Sending, daemon: Daemon) -> None:
    def answer(lines: list[bytes]) -> web.Response:
        results = [{"id": "x"}, {"code": "InvalidArgument", "message": "Line 2: Source is missing."}]
        return web.json_response({"accepted": 1, "refused": 1, "results": results}, status=202)

    daemon.answers = [answer]
    await sending.send('\n\n{"a": 1}\n{"b": 2}\n')
    assert sending.said == ["line 4: InvalidArgument: Source is missing."]
    assert (sending.sender.accepted, sending.sender.refused) == (1, 1)


async def test_an_event_that_aws_refused_while_the_answer_waited_is_no_success(
    sending: Sending, daemon: Daemon
) -> None:
    def answer(lines: list[bytes]) -> web.Response:
        rejected = {"id": "y", "status": "rejected", "code": "MalformedDetail", "message": "No."}
        results = [{"id": "x", "status": "delivered", "event_id": "z"}, rejected]
        return web.json_response({"accepted": 1, "refused": 1, "results": results})

    daemon.answers = [answer]
    await sending.send("{}\n{}\n")
    assert (sending.sender.accepted, sending.sender.refused) == (1, 1)
    assert sending.said == ["line 2: MalformedDetail: No."]


async def test_a_body_refused_for_one_line_does_not_cost_the_others(sending: Sending, daemon: Daemon) -> None:
    def picky(lines: list[bytes]) -> web.Response:
        if b"bad" in lines:
            error = {"code": "SerializationException", "message": "not JSON"}
            return web.json_response({"error": error}, status=400)
        return taken(lines)

    daemon.always = picky
    await sending.send("".join("bad\n" if i == 37 else "{}\n" for i in range(100)))
    assert (sending.sender.accepted, sending.sender.refused) == (99, 1)
    assert sending.said == ["line 38: SerializationException: not JSON"]


async def test_an_unknown_target_ends_the_sending_with_the_one_that_was_meant(
    sending: Sending, daemon: Daemon
) -> None:
    error = {"code": "NotFound", "message": 'No such target: "orders". Targets: order, web.'}
    daemon.always = lambda _: web.json_response({"error": error}, status=404)
    with pytest.raises(UnknownTarget, match=r'Targets: order, web\. Did you mean "order"\?'):
        await sending.send("{}\n" * (CHUNK_EVENTS + 1))
    assert len(daemon.chunks) == 1
    assert sending.sender.refused == CHUNK_EVENTS


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": []}', b"\xff"])
async def test_an_answer_that_is_no_forwarders_counts_nothing(
    sending: Sending, daemon: Daemon, body: bytes
) -> None:
    daemon.always = lambda _: web.Response(body=body, status=200)
    with pytest.raises(Unreachable, match="not a forwarder"):
        await sending.send("{}\n")
    assert (sending.sender.accepted, sending.sender.refused) == (0, 0)


async def test_a_chunk_without_an_answer_is_named_and_not_sent_again(
    sending: Sending, daemon: Daemon
) -> None:
    async def drop(request: web.Request) -> web.Response:
        daemon.chunks.append((await request.read()).splitlines())
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/v1/targets/orders/events", drop)])
    async with TestServer(app) as server:
        daemon.url = str(server.make_url("")).rstrip("/")
        async with aiohttp.ClientSession() as session:
            other = Sending(session, daemon)
            with pytest.raises(Unreachable, match="lines 1 to 2, which may have been accepted"):
                await other.send("{}\n{}\n")
    assert len(daemon.chunks) == 1


class Dribble:
    """A pipe that gives what is there: pieces that end anywhere."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def test_lines_of_a_live_pipe_leave_when_they_are_there() -> None:
    chunks = Chunks(Dribble(b'{"a"', b': 1}\n{"b": 2}\n{"c"', b": 3}"))
    ready = []
    while (now := chunks.next()) is not None:
        ready.append(
            [(number, line) for chunk in now for number, line in zip(chunk.numbers, chunk.lines, strict=True)]
        )
    assert ready == [[], [(1, b'{"a": 1}'), (2, b'{"b": 2}')], [], [(3, b'{"c": 3}')]]


async def test_send_exits_0_when_all_were_taken_and_says_how_many(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await send(daemon.url, "orders", io.BytesIO(b"{}\n" * 3)) == 0
    assert capsys.readouterr().err.startswith("3 accepted, 0 refused, ")


async def test_send_exits_1_when_an_event_was_refused(daemon: Daemon) -> None:
    error = {"code": "NotFound", "message": "no"}
    daemon.always = lambda _: web.json_response({"error": error}, status=404)
    assert await send(daemon.url, "orders", io.BytesIO(b"{}\n")) == 1


async def test_send_and_status_exit_69_when_nobody_is_there(
    unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"127.0.0.1:{unused_tcp_port}"
    assert await send(url, "orders", io.BytesIO(b"{}\n")) == 69
    assert await status(url, as_json=False) == 69
    assert "no daemon at" in capsys.readouterr().err


REPORT = {
    "only_in_memory": 12,
    "version": "0.1.0",
    "uptime_seconds": 3725.0,
    "draining": False,
    "targets": {
        "orders": {
            "kind": "eventbridge",
            "region": "eu-west-1",
            "state": "held",
            "reason": "credentials",
            "since": 1.0,
            "cure": "Renew them.",
            "runbook": "docs/runbook.md#held-credentials",
            "message": "ExpiredTokenException: The security token is expired",
            "next_probe_seconds": 12.5,
            "waiting": 10,
            "in_flight": 2,
            "oldest_age_seconds": 61.0,
            "accepted": 112,
            "delivered": 100,
            "dead_lettered": 0,
            "dropped": 0,
            "retried": 2,
            "rates": {"received_per_second": 5.0, "delivered_per_second": 0.0},
        }
    },
    "storage": {
        "path": "/var/lib/forwarder",
        "dead_letters_events": 0,
        "dead_letters_bytes": 0,
        "trouble": "the disk is full",
        "cure": "Make room.",
        "runbook": "docs/runbook.md#storage-file-system",
        "stranded": {"old": 7},
    },
    "clock": "the wall clock moved",
    "cures": {
        note: {"cure": f"Cure of {note}.", "runbook": f"docs/runbook.md#{note}"}
        for note in ("clock", "stranded", "unconfirmed")
    },
}


def test_the_table_begins_with_what_a_kill_would_lose_and_ends_with_what_is_wrong() -> None:
    assert render_status(REPORT) == "\n".join(
        [
            "would be lost if killed now: 12 events",
            "version 0.1.0, up 1h2m",
            "",
            "TARGET  KIND         STATE  REASON       WAITING  IN FLIGHT  OLDEST  IN/S  OUT/S  DELIVERED  "
            "DEAD",
            "orders  eventbridge  held   credentials  10       2          1m1s    5     0      100        0",
            "",
            "orders: held (credentials) since 1970-01-01T00:00:01.000Z: "
            "ExpiredTokenException: The security token is expired (next try in 12s)",
            "  cure: Renew them. (docs/runbook.md#held-credentials)",
            "old: 7 events on disk, but no target of this name and kind has a disk queue",
            "  cure: Cure of stranded. (docs/runbook.md#stranded)",
            "clock: the wall clock moved",
            "  cure: Cure of clock. (docs/runbook.md#clock)",
            "storage: the disk is full",
            "  cure: Make room. (docs/runbook.md#storage-file-system)",
            "dead letters: 0 events, 0 bytes in /var/lib/forwarder",
        ]
    )


def test_the_status_names_each_bus_with_unconfirmed_events_and_says_when_a_count_is_a_lower_bound() -> None:
    span = {"since": 1_800_000_000.0, "until": 1_800_000_060.0}
    buses = [
        {"name": "shop", "events": 1425, "at_least": False, **span},
        {"name": "old", "events": 1, "at_least": True, **span},
    ]
    orders = {**REPORT["targets"]["orders"], "unconfirmed_buses": buses}  # type: ignore[index]
    when = "was deleted between 2027-01-15T08:00:00.000Z and 2027-01-15T08:01:00.000Z"
    shown = render_status({**REPORT, "targets": {"orders": orders}}).splitlines()
    first = shown.index(f"orders: 1425 delivered events are unconfirmed: event bus shop {when}")
    assert shown[first + 1 : first + 3] == [
        f"orders: at least 1 delivered event is unconfirmed: event bus old {when}",
        "  cure: Cure of unconfirmed. (docs/runbook.md#unconfirmed)",
    ]


def test_names_that_are_set_aside_have_their_own_cure_where_it_differs() -> None:
    largest = [
        {"message": f"bus {name} does not exist", "events": 1, "cure": cure}
        for name, cure in (("shop", "Create it."), ("mail", "Allow it."), ("news", "Allow it."))
    ]
    aside = {"names": 3, "events": 3, "reasons": {"missing": 1, "uncallable": 2}, "largest": largest}
    orders = {**REPORT["targets"]["orders"], "cure": "Create it.", "set_aside": aside}  # type: ignore[index]
    shown = render_status({**REPORT, "targets": {"orders": orders}}).splitlines()
    first = shown.index("orders: 3 events of 3 names set aside (1 missing, 2 uncallable)")
    assert shown[first + 1 : first + 5] == [
        "  bus shop does not exist: 1 event",
        "  bus mail does not exist: 1 event",
        "    cure: Allow it.",
        "  bus news does not exist: 1 event",
    ]


async def test_status_prints_the_table_or_the_json(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.status = REPORT
    assert await status(daemon.url, as_json=False) == 0
    assert capsys.readouterr().out.startswith("would be lost if killed now: 12 events\n")
    assert await status(daemon.url, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == REPORT


async def test_status_of_something_else_exits_69(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.status = ["hello"]
    assert await status(daemon.url, as_json=False) == 69
    assert "not the admin listener" in capsys.readouterr().err


def dumped(target: str, n: int, batch: str = "") -> bytes:
    named = f',"batch":"{batch}"' if batch else ""
    return f'{{"target":"{target}","id":"id-{n}","event":{{"n":{n}}}{named}}}\n'.encode()


class Slowly(io.RawIOBase):
    """Gives so many bytes a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read1(self, size: int = -1, /) -> bytes:
        return self._data.read(self._size)


def chunks_of(data: bytes, size: int = 1 << 20) -> list[tuple[str, list[int]]]:
    chunks, found = Chunks(Slowly(data, size)), []
    while (ready := chunks.next()) is not None:
        found += [(each.target, [json.loads(line)["n"] for line in each.lines]) for each in ready]
    return found


def test_dumped_lines_leave_as_their_events_and_never_two_targets_in_one_chunk() -> None:
    data = b"".join(dumped(target, n) for n, target in enumerate(["a", "a", "b", "a"]))
    assert chunks_of(data) == [("a", [0, 1]), ("b", [2]), ("a", [3])]


@pytest.mark.parametrize("size", [50, 1000, 1 << 20])
def test_dumped_events_of_one_batch_leave_in_one_chunk_however_they_are_read(size: int) -> None:
    data = b"".join(dumped("web", n, batch="one" if n < 250 else "two") for n in range(260))
    found = chunks_of(data, size)
    assert [n for _, numbers in found for n in numbers] == list(range(260))
    assert ("web", list(range(250))) in [(target, numbers[:250]) for target, numbers in found]
    assert sum(bool(set(range(250, 260)) & set(numbers)) for _, numbers in found) == 1


def test_what_only_looks_like_a_dumped_line_is_an_event() -> None:
    line = b'{"target":"a","event":{"n":1},"more":1}\n'
    (chunk,) = Chunks(io.BytesIO(line)).next() or []
    assert (chunk.target, chunk.lines) == ("", [line.strip()])


async def test_each_dumped_line_goes_to_its_own_target_or_all_to_the_one_that_is_named(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dumped("orders", 1) + b'{"n":2}\n' + dumped("gone", 3)
    assert await send(daemon.url, None, io.BytesIO(data)) == 69
    said = capsys.readouterr().err
    assert "line 2: NoTarget: the line has no target; use: forwarder send TARGET" in said
    assert daemon.chunks == [[b'{"n":1}']]
    assert await send(daemon.url, "orders", io.BytesIO(data)) == 0
    assert [line for chunk in daemon.chunks[1:] for line in chunk] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
