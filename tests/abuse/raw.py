"""Attacks below the body: chunks, pipelines, heads, and connections that come and go."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from tests.abuse import wire
from tests.abuse.bodies import CLOUDEVENTS, JSON, PUT_EVENTS, STRUCTURED, cloud
from tests.abuse.figures import Attack, Context, Figure, fairness, longest_step, longest_turn, peak_memory
from tests.abuse.sent import TARGETS
from tests.abuse.stage import MIB, Daemon, Neighbour
from tests.abuse.wire import ATTACKER, Request

EVENTS = "/v1/targets/orders/events"
CONTROL_SECONDS = 1.0


def chunked(chunk: bytes, size: int, extension: bytes = b"") -> bytes:
    """A request of about ``size`` bytes in chunks that are all the same."""
    head = Request(EVENTS, b"", {**JSON, "Transfer-Encoding": "chunked"}).head(None)
    one = b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk)
    return head + one * (size // len(one)) + b"0\r\n\r\n"


def pipelined(request: bytes, size: int) -> bytes:
    return request * (size // len(request))


def heads() -> Iterator[tuple[str, bytes]]:
    body = b'{"Source":"s","DetailType":"t","Detail":{}}'
    many = {f"a{n}": "" for n in range(1500)}
    yield "many headers", Request(EVENTS, body, {**JSON, **many}).data
    yield "one long header", Request(EVENTS, body, {**JSON, "a": "b" * 15_000}).data
    yield "a long query", Request(EVENTS + "?" + "%41=%42&" * 1800, body, JSON).data
    yield "a long path", Request("/appmonitors/" + "%2F" * 5000, body, JSON).data
    yield "a project in a long path", Request("/events/projects/" + "%41" * 5000, body, JSON).data
    yield (
        "a long content type",
        Request(EVENTS, body, {"Content-Type": "application/json" + ";a=b" * 3500}).data,
    )
    yield "a long accept", Request(EVENTS, body, {**JSON, "Prefer": "return=minimal, " * 900}).data
    yield (
        "a long authorization",
        Request(EVENTS, body, {**JSON, "Authorization": "AWS4-HMAC-SHA256 " + "a=b, " * 3000}).data,
    )
    yield "a long trace", Request(EVENTS, body, {**JSON, "traceparent": "0" * 15_000}).data
    yield "a target that is not known", Request("/", body, {"X-Amz-Target": "A" * 15_000}).data


def streams() -> Iterator[tuple[str, bytes]]:
    small = b"POST /v1/targets/orders/events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    yield "8 MiB in chunks of one byte", chunked(b" ", 8 * MIB)
    yield "chunks of one byte, with extensions", chunked(b" ", 8 * MIB, b";a=" + b"b" * 200)
    yield "chunks of 64 bytes", chunked(b" " * 64, 8 * MIB)
    yield "1 MiB of requests without a body", pipelined(small, MIB)
    yield "1 MiB of GET", pipelined(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", MIB)
    yield "1 MiB of questions about buses", pipelined(question("b" * 16), MIB)
    yield (
        "1 MiB of events",
        pipelined(wire.native("orders", b'{"Source":"s","DetailType":"t","Detail":{}}').data, MIB),
    )
    yield "1 MiB of blank lines", b"\r\n" * (MIB // 2)
    yield "1 MiB of no HTTP", b"x" * MIB


def question(bus: str) -> bytes:
    headers = {**PUT_EVENTS, "X-Amz-Target": "AWSEvents.DescribeEventBus"}
    return Request("/", b'{"Name":"%b"}' % bus.encode(), headers).data


def send_all(daemon: Daemon, data: bytes, seconds: float = 20.0) -> int:
    """Send it, and take in what is answered meanwhile, until the daemon says no more for a while; answers."""
    answers = 0
    with contextlib.suppress(OSError), wire.connect(daemon.port, ATTACKER, patience=1.5) as connection:
        sending = threading.Thread(target=_send, args=(connection, data), daemon=True)
        sending.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and (said := connection.recv(1 << 18)):
            answers += said.count(b"HTTP/1.1 ")
    return answers


def _send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)


def each_alone(inputs: Callable[[], Iterator[tuple[str, bytes]]]) -> Callable[[Context], Iterator[Figure]]:
    def act(context: Context) -> Iterator[Figure]:
        worst = highest = None
        for label, data in inputs():
            context.daemon.drain()
            context.daemon.reset()
            answers = send_all(context.daemon, data)
            detail = f"{label}: {len(data):,} bytes, {answers} answers"
            step, memory = longest_step(context.daemon, detail), peak_memory(context.daemon, detail)
            if context.say:
                print(f"    {detail} | {step.shown()} | {memory.shown()}", flush=True)
            worst = step if worst is None or step.value > worst.value else worst
            highest = memory if highest is None or memory.value > highest.value else highest
            assert context.daemon.alive, f"the daemon died of {label}"
        assert worst is not None
        assert highest is not None
        yield worst
        yield highest

    return act


def going_on(
    one: Callable[[Daemon, int], None], seconds: float = 3.0
) -> Callable[[Context], Iterator[Figure]]:
    """The attack of four threads that do this again and again, beside a neighbour."""

    def act(context: Context) -> Iterator[Figure]:
        daemon = context.daemon
        daemon.drain()
        with Neighbour(daemon, TARGETS) as control:
            time.sleep(CONTROL_SECONDS)
        daemon.reset()
        over = threading.Event()

        def again(number: int) -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    one(daemon, number)
                number += 4

        threads = [threading.Thread(target=again, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        with Neighbour(daemon, TARGETS) as neighbour:
            time.sleep(seconds)
        over.set()
        for thread in threads:
            thread.join()
        yield longest_turn(daemon)
        yield peak_memory(daemon)
        yield from fairness(neighbour, control)

    return act


def come_and_go(daemon: Daemon, number: int) -> None:
    connections = [wire.connect(daemon.port, ATTACKER, patience=5) for _ in range(20)]
    for connection in connections:
        if number % 2:
            wire.reset(connection)
        connection.close()


def ask_first(daemon: Daemon, number: int) -> None:
    """Expect: 100-continue, and then no body."""
    with wire.connect(daemon.port, ATTACKER, patience=5) as connection:
        connection.sendall(Request(EVENTS, b"", {**JSON, "Expect": "100-continue"}).head(8 * MIB))
        connection.recv(100)


def ask_about_buses(daemon: Daemon, number: int) -> None:
    """Two hundred questions about buses that nobody has, on one connection."""
    with wire.connect(daemon.port, ATTACKER, patience=5) as connection:
        connection.sendall(b"".join(question(f"asked-{number}-{n}") for n in range(200)))
        for _ in range(20):
            connection.recv(1 << 16)


def long_keys(daemon: Daemon, number: int) -> None:
    """A new Idempotency-Key of 12 KB for each request."""
    event = b'{"Source":"s","DetailType":"t","Detail":{}}'
    key = f"{number}-" + "k" * 12_000
    wire.ask(daemon.port, Request(EVENTS, event, {**JSON, "Idempotency-Key": key}))


def new_clouds(daemon: Daemon, number: int) -> None:
    """A CloudEvent with a source and id of 100 KB, which are remembered so that none comes twice."""
    long = "s" * 100_000
    event = f'{{{cloud()},"subject":"{long}","data":{{}}}}'.replace("/abuse", f"/{long}")
    wire.ask(daemon.port, Request(CLOUDEVENTS, event.encode(), STRUCTURED).packed(1))


def attacks() -> list[Attack]:
    return [
        Attack("chunks, and requests one behind the other", "2, 4", each_alone(streams), shares=True),
        Attack("heads that are full", "2", each_alone(heads), shares=True),
        Attack("connections that come and go", "7", going_on(come_and_go), shares=True),
        Attack("heads that ask first, and send no body", "4", going_on(ask_first), shares=True),
        Attack("questions about buses at ingest", "5", going_on(ask_about_buses), shares=True),
        Attack("long idempotency keys", "2, 3", going_on(long_keys), shares=True),
        Attack("CloudEvents with long sources", "2, 3", going_on(new_clouds), shares=True),
    ]
