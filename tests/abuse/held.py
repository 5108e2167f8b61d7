"""Attacks by what is held: answers nobody reads, bodies that do not come, silent connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.abuse import raw, wire
from tests.abuse.bodies import JSON, PUT_EVENTS
from tests.abuse.figures import Attack, Context, Figure, fairness, longest_turn, peak_memory
from tests.abuse.sent import TARGETS
from tests.abuse.stage import KEY_ID, MIB, SECRET, Daemon, Neighbour, a_stage
from tests.abuse.wire import ATTACKER, NEIGHBOUR, Request
from tests.support.authorities import Authority

NEIGHBOUR_SECONDS = 3.0
CONTROL_SECONDS = 1.5
SMALL_WINDOW = 4096
POD_BYTES = 384 * MIB
"""What deploy/kubernetes gives the daemon."""
FILES = 256


ROOMY: dict[str, Any] = {"budget": 160 * MIB}
"""With room for a request of 65,536 events."""
MOST, MORE = 65_536, 90_000
"""As many events as a request may have, and more: the 303 bytes that had an answer of 9.8 MB."""


def nulls(count: int) -> bytes:
    return wire.native("orders", b"[" + b",".join([b"{}"] * count) + b"]").packed().data


def results(count: int) -> bytes:
    """A call whose answer has a result for each of its events."""
    events = b",".join([b'{"type":"aws.evidently.custom"}'] * count)
    return Request("/events/projects/shop", b'{"events":[' + events + b"]}", JSON).packed().data


def ids(count: int) -> bytes:
    """Good events: the answer has an id for each."""
    event = b'{"Source":"s","DetailType":"t","Detail":{}}'
    return wire.native("orders", b"[" + b",".join([event] * count) + b"]").packed().data


@contextlib.contextmanager
def controlled(daemon: Daemon) -> Iterator[Neighbour]:
    """The neighbour without an attack."""
    with Neighbour(daemon, TARGETS) as control:
        time.sleep(CONTROL_SECONDS)
    daemon.reset()
    yield control


def beside(daemon: Daemon, control: Neighbour) -> list[Figure]:
    """The neighbour with the attack going on."""
    with Neighbour(daemon, TARGETS) as neighbour:
        time.sleep(NEIGHBOUR_SECONDS)
    return [longest_turn(daemon), peak_memory(daemon), *fairness(neighbour, control)]


def opened(stack: contextlib.ExitStack, daemon: Daemon, number: int, first: bytes, window: int = 0) -> int:
    """So many connections of the attacker, each with these first bytes, held until the stack ends."""
    made = 0
    for _ in range(number):
        with contextlib.suppress(OSError):
            connection = wire.connect(daemon.port, ATTACKER, patience=5, receive=window)
            stack.callback(connection.close)
            connection.sendall(first)
            made += 1
    return made


def holding(
    number: int, first: Callable[[], bytes], window: int = 0, **settings: Any
) -> Callable[[Context], Iterator[Figure]]:
    """The attack of so many connections that send this and then neither send nor read."""

    def act(context: Context) -> Iterator[Figure]:
        with a_stage(tree=context.tree, **settings) as daemon, controlled(daemon) as control:
            with contextlib.ExitStack() as stack:
                opened(stack, daemon, number, first(), window)
                time.sleep(1.0)
                yield from beside(daemon, control)
            assert daemon.alive, "the daemon died"

    return act


def unread_many_requests(context: Context) -> Iterator[Figure]:
    """Forty connections, each with ten requests one behind the other, or a hundred."""
    data = nulls(MOST) * (100 if context.long else 10)
    yield from holding(40, lambda: data, SMALL_WINDOW, **ROOMY)(context)


def unread_in_a_pod(context: Context) -> Iterator[Figure]:
    """The settings of deploy/kubernetes/sidecar.yaml: what the process holds must fit the pod."""
    with a_stage(tree=context.tree, budget=256 * MIB) as daemon, contextlib.ExitStack() as stack:
        opened(stack, daemon, 40, nulls(MOST), SMALL_WINDOW)
        opened(stack, daemon, 40, Request("/v1/targets/orders/events", b"", JSON).head(8 * MIB) + b"[" * MIB)
        time.sleep(3.0)
        yield Figure("memory (VmHWM)", daemon.peak() / MIB, POD_BYTES / MIB, "MiB", "the pod's limit")
        yield Figure("the daemon died", 0 if daemon.alive else 1, 0)


def head(length: int = 8 * MIB) -> bytes:
    return Request("/v1/targets/orders/events", b"", JSON).head(length)


def trickled(context: Context) -> Iterator[Figure]:
    """Bodies of which a byte comes now and then, from as many connections as the budget has bodies."""
    with (
        a_stage(tree=context.tree, ingest={"read_timeout": "5s"}) as daemon,
        controlled(daemon) as control,
        contextlib.ExitStack() as stack,
    ):
        connections = [stack.enter_context(wire.connect(daemon.port)) for _ in range(64)]
        for connection in connections:
            connection.sendall(head() + b"[" * 1000)
        with Neighbour(daemon, TARGETS) as neighbour:
            for _ in range(20):
                time.sleep(0.2)
                for connection in connections:
                    with contextlib.suppress(OSError):
                        connection.sendall(b" ")
        yield longest_turn(daemon)
        yield peak_memory(daemon)
        yield from fairness(neighbour, control)
        yield Figure(
            "bodies that are not cut", _not_cut(connections, 4.0), 0, "", "64 bodies of 8 MiB, at 5 B/s"
        )


def _not_cut(connections: Sequence[socket.socket], seconds: float) -> int:
    """How many connections have no answer yet, so many seconds from now."""
    time.sleep(seconds)
    left = 0
    for connection in connections:
        connection.settimeout(0.01)
        try:
            connection.recv(100)
        except TimeoutError:
            left += 1
        except OSError:
            pass
    return left


# --- signatures


def signed(request: Request, *, secret: str = SECRET, hashed: bool = False) -> Request:
    """Signed as botocore does; without ``hashed`` no header tells the hash of the body."""
    made = AWSRequest("POST", f"http://abuse{request.path}", data=request.body, headers=dict(request.headers))
    if hashed:
        made.headers["X-Amz-Content-SHA256"] = SigV4Auth(None, "events", "eu-west-1").payload(made)
    SigV4Auth(Credentials(KEY_ID, secret), "events", "eu-west-1").add_auth(made)
    return Request(request.path, request.body, dict(made.headers.items()))


def good_put_events(number: int) -> Request:
    detail = f'{{\\"marker\\":\\"#{number}#\\"}}'
    body = f'{{"Entries":[{{"Source":"s","DetailType":"t","Detail":"{detail}"}}]}}'.encode()
    return Request("/", body, PUT_EVENTS)


def forged(number: int, *, with_body: bool) -> Callable[[Context], Iterator[Figure]]:
    """Heads, or whole requests, with a known key id and a made-up signature."""

    def act(context: Context) -> Iterator[Figure]:
        with (
            _keys() as keys,
            a_stage(tree=context.tree, ingest={"auth": {"access_keys": str(keys)}}) as daemon,
        ):
            body = b"x" * (4 * MIB)
            request = signed(Request("/", body, PUT_EVENTS), secret="another")
            first = request.data if with_body else request.head(8 * MIB)
            refused, cpu, cost = 0, daemon.cpu(), 0.0
            with contextlib.ExitStack() as stack:
                opened(stack, daemon, number, first)
                time.sleep(0.5)
                for n in range(20):
                    cpu = daemon.cpu()
                    good = signed(good_put_events(10**9 + n), hashed=n % 2 == 0)
                    answer = wire.ask(daemon.port, good, NEIGHBOUR, patience=20)
                    refused += answer.status != 200
                    cost = max(cost, (daemon.cpu() - cpu) * 1000)
                yield Figure(
                    "good events refused",
                    refused,
                    0,
                    "",
                    f"of 20, half of them without a hash; the last answer {answer.status}",
                )
                yield Figure("CPU until a good event is answered", cost, 500, "ms")
                yield longest_turn(daemon)
                yield peak_memory(daemon)

    return act


@contextlib.contextmanager
def _keys() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="abuse-keys-") as name:
        path = Path(name) / "access-keys"
        path.write_text(f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
        path.chmod(0o600)
        yield path


# --- TLS and descriptors


HANDSHAKES = (
    "plain HTTP",
    "garbage",
    "nothing, then closed",
    "half a hello",
    "reset",
    "an untrusted certificate",
)


def failed_handshakes(context: Context) -> Iterator[Figure]:
    """Each way to fail, more often than there are connections; then as many good ones as there may be."""
    with (
        _tls() as (tls, client),
        a_stage(
            tree=context.tree, ingest={"tls": tls, "max_connections": 32, "read_timeout": "2s"}
        ) as daemon,
    ):
        for way in HANDSHAKES:
            for _ in range(40):
                _fail(daemon, way)
            time.sleep(0.3)
        time.sleep(3.0)
        served = 0
        with contextlib.ExitStack() as stack:
            for n in range(32):
                with contextlib.suppress(OSError):
                    plain = wire.connect(daemon.port, NEIGHBOUR, patience=10)
                    secure = stack.enter_context(client.wrap_socket(plain, server_hostname="127.0.0.1"))
                    secure.sendall(wire.good("orders", 10**9 + 100 + n).data)
                    served += wire.read_answer(secure).status == 202
        yield Figure("places lost", 32 - served, 0, "", "of 32, after 40 failures of each of six kinds")
        yield longest_turn(daemon)


def handshakes_without_descriptors(context: Context) -> Iterator[Figure]:
    """With TLS, more connections than the daemon may have files, again and again; then good ones."""
    places = 60
    with (
        _tls() as (tls, client),
        a_stage(
            tree=context.tree,
            ingest={"tls": tls, "max_connections": places, "read_timeout": "2s"},
            files=places + 20,
        ) as daemon,
    ):
        for _ in range(4):
            with contextlib.ExitStack() as stack:
                opened(stack, daemon, places + 100, b"")
                time.sleep(0.5)
        time.sleep(3.0)
        served = 0
        with contextlib.ExitStack() as stack:
            for n in range(places // 3):
                with contextlib.suppress(OSError):
                    plain = wire.connect(daemon.port, NEIGHBOUR, patience=10)
                    secure = stack.enter_context(client.wrap_socket(plain, server_hostname="127.0.0.1"))
                    secure.sendall(wire.good("orders", 10**9 + 500 + n).data)
                    served += wire.read_answer(secure).status == 202
        yield Figure(
            "places lost", places // 3 - served, 0, "", f"of {places // 3} that are wanted of {places}"
        )
        unanswered = sum(wire.get(daemon.admin, "/health/live", patience=5).status != 200 for _ in range(5))
        yield Figure("questions to admin not answered afterwards", unanswered, 0)


def _fail(daemon: Daemon, way: str) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        connection = wire.connect(daemon.port, ATTACKER, patience=5)
        if way == "plain HTTP":
            connection.sendall(wire.good("orders", 1).data)
            connection.recv(100)
        elif way == "garbage":
            connection.sendall(b"\xff" * 600)
            connection.recv(100)
        elif way == "half a hello":
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        elif way == "reset":
            connection.sendall(b"\x16\x03\x01")
            wire.reset(connection)
        elif way == "an untrusted certificate":
            ssl.create_default_context().wrap_socket(connection, server_hostname="127.0.0.1").close()
        connection.close()


@contextlib.contextmanager
def _tls() -> Iterator[tuple[dict[str, str], ssl.SSLContext]]:
    """The settings of a listener with TLS, and what a client needs that trusts it."""
    with tempfile.TemporaryDirectory(prefix="abuse-tls-") as name:
        authority = Authority(Path(name))
        certificate, key = authority.issue("server")
        yield {"certificate": certificate, "key": key}, authority.trusted()


def no_descriptors(context: Context) -> Iterator[Figure]:
    """More connections than the daemon may have files: admin answers, and all is well afterwards."""
    with a_stage(tree=context.tree, files=FILES) as daemon:
        with contextlib.ExitStack() as stack:
            opened(stack, daemon, FILES + 100, b"")
            time.sleep(1.0)
            unanswered = sum(
                wire.get(daemon.admin, path, patience=5).status != 200
                for path in ("/health/live", "/health/ready", "/metrics", "/status") * 3
            )
            yield Figure(
                "questions to admin not answered", unanswered, 0, "", "of 12, while 356 are connected"
            )
            cpu, wall = daemon.cpu(), time.monotonic()
            time.sleep(1.0)
            spun = (daemon.cpu() - cpu) / (time.monotonic() - wall)
            yield Figure("cores used by waiting", round(spun, 2), 0.5)
        time.sleep(1.0)
        with Neighbour(daemon, {"orders": "", "kept": "kept"}) as neighbour:
            time.sleep(1.0)
        yield Figure(
            "good events refused afterwards", len(neighbour.refused), 0, "", f"of {len(neighbour.posts)}"
        )
        yield Figure("good events not delivered afterwards", neighbour.missing(), 0)


def alone(context: Context) -> Iterator[Figure]:
    """One peer alone may use everything there is."""
    with (
        a_stage(tree=context.tree, ingest={"max_connections": 200}) as daemon,
        contextlib.ExitStack() as stack,
    ):
        connections = []
        for _ in range(200):
            connections.append(stack.enter_context(wire.connect(daemon.port, ATTACKER, patience=10)))
        refused = 0
        for n, connection in enumerate(connections):
            connection.sendall(wire.good("orders", 10**9 + 200 + n).data)
        for connection in connections:
            refused += wire.read_answer(connection).status != 202
        yield Figure("its good events refused", refused, 0, "", "200 connections of 200")
        body = b'{"Source":"s","DetailType":"t","Detail":{"a":"' + b"x" * 900_000 + b'"}}'
        whole = wire.native("orders", b"[" + b",".join([body] * 4) + b"]")
    with a_stage(tree=context.tree) as daemon:
        statuses = _together(daemon, [whole.data] * 2)
        yield Figure(
            "its large bodies refused", sum(s != 202 for s in statuses), 0, "", "2 of 3.6 MB at once"
        )


def _together(daemon: Daemon, requests: Sequence[bytes]) -> list[int]:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(wire.connect(daemon.port)) for _ in requests]
        for connection, data in zip(connections, requests, strict=True):
            connection.sendall(data)
        return [wire.read_answer(connection).status for connection in connections]


SILENT = {"read_timeout": "20s"}


def in_chunks(size: int) -> bytes:
    """A body of 400 KB, all of it in chunks of this size, without its end."""
    return raw.chunked(b" " * size, 400_000).removesuffix(b"0\r\n\r\n")


def questions() -> bytes:
    return raw.pipelined(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", MIB // 2)


def attacks() -> list[Attack]:
    half_head = b"POST /v1/targets/orders/events HTTP/1.1\r\nHost: abuse\r\nX-"
    unread = [
        Attack(
            f"{number} answers to {count:,} of `{{}}` that nobody reads",
            "3",
            holding(number, partial(nulls, count), SMALL_WINDOW, **ROOMY),
        )
        for number, count in ((1, MORE), (21, MORE), (40, MOST))
    ]
    for_each = [
        Attack(
            f"40 answers with {what} each that nobody reads", "3", holding(40, made, SMALL_WINDOW, **ROOMY)
        )
        for what, made in (("65,536 results", partial(results, MOST)), ("20,000 ids", partial(ids, 20_000)))
    ]
    return [
        *unread,
        *for_each,
        Attack("40 connections with 10 such requests each, unread", "3", unread_many_requests),
        Attack("80 connections against the settings of deploy/kubernetes", "3, 4", unread_in_a_pod),
        Attack("8 heads of 8 MiB without a body", "4", holding(8, head)),
        Attack("100 heads of 8 MiB without a body", "4", holding(100, head)),
        Attack("1,000 heads of 8 MiB without a body", "4, 7", holding(1000, head)),
        Attack("64 bodies that trickle", "4", trickled),
        Attack("1,000 bodies in chunks of 1 byte unended", "2, 4", holding(1000, partial(in_chunks, 1))),
        Attack("1,000 bodies in chunks of 8 bytes unended", "2, 4", holding(1000, partial(in_chunks, 8))),
        Attack("200 connections that pipeline GET, unread", "2, 3", holding(200, questions, SMALL_WINDOW)),
        Attack("100 heads with a forged signature of a known key", "4", forged(100, with_body=False)),
        Attack("40 bodies with a forged signature of a known key", "4", forged(40, with_body=True)),
        Attack("1,024 silent connections", "7", holding(1024, lambda: b"", ingest=SILENT)),
        Attack("1,024 half heads", "7", holding(1024, lambda: half_head, ingest=SILENT)),
        Attack("handshakes that fail in six ways", "7", failed_handshakes),
        Attack("handshakes while there are no descriptors", "7", handshakes_without_descriptors),
        Attack("more connections than descriptors", "7", no_descriptors),
        Attack("one peer alone, with everything there is", "3, 4, 7", alone),
    ]
