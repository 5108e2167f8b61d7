"""Listening sockets that are handed over, as sd_listen_fds(3) describes it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from forwarder import sockets
from forwarder.sockets import InheritedError, format_address, inherited, is_local, reachable, tcp_sockets

NAMES = ("ingest", "admin")
FIRST = 200

Environment = dict[str, str]
HandOver = Callable[..., Environment]


@pytest.fixture
def hand_over(monkeypatch: pytest.MonkeyPatch) -> Iterator[HandOver]:
    """Put these at the numbers from FIRST on, and say what the environment then says."""
    monkeypatch.setattr(sockets, "FIRST_INHERITED", FIRST)
    places = []

    def put(*given: socket.socket, names: str = "") -> Environment:
        for number, each in enumerate(given, FIRST):
            places.append(os.dup2(each.fileno(), number))
            each.close()
        said = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(given)), "HOME": "/"}
        return {**said, "LISTEN_FDNAMES": names} if names else said

    yield put
    for number in places:
        with contextlib.suppress(OSError):
            os.close(number)


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def taken(environ: Environment) -> list[str]:
    """The names of what was inherited, which is closed again."""
    found = inherited(NAMES, environ)
    for each in itertools.chain.from_iterable(found.values()):
        each.close()
    return [name for name, sockets in found.items() for _ in sockets]


@pytest.mark.parametrize("names", ["", "unknown", "forwarder.socket", "ingest"])
def test_a_single_socket_is_the_first_listeners_whatever_its_name(hand_over: HandOver, names: str) -> None:
    assert taken(hand_over(listening(), names=names)) == ["ingest"]


def test_a_single_socket_of_another_listeners_name_is_that_ones(hand_over: HandOver) -> None:
    assert taken(hand_over(listening(), names="admin")) == ["admin"]


def test_sockets_are_told_apart_by_their_names(hand_over: HandOver) -> None:
    first, second = listening(), listening()
    addresses = [first.getsockname(), second.getsockname()]
    found = inherited(NAMES, hand_over(first, second, names="admin:ingest"))
    assert [each.getsockname() for name in ("admin", "ingest") for each in found[name]] == addresses
    for each in itertools.chain.from_iterable(found.values()):
        assert not each.get_inheritable()
        each.close()


@pytest.mark.parametrize("names", ["", "ingest:ingest", "forwarder.socket:forwarder.socket"])
def test_a_listener_may_have_several_sockets(hand_over: HandOver, names: str) -> None:
    assert taken(hand_over(listening(), listening(), names=names)) == ["ingest", "ingest"]


@pytest.mark.parametrize("names", ["ingest", "ingest:other", "ingest:admin:third", "one:two"])
def test_sockets_that_cannot_be_told_apart_are_refused(hand_over: HandOver, names: str) -> None:
    environ = hand_over(listening(), listening(), names=names)
    with pytest.raises(InheritedError, match="each name must be ingest or admin"):
        inherited(NAMES, environ)


def test_the_environment_says_nothing_of_them_to_children(hand_over: HandOver) -> None:
    environ = hand_over(listening(), names="ingest")
    taken(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "more", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "0"}]
)
def test_what_was_meant_for_another_process_or_is_nothing_is_left_alone(
    hand_over: HandOver, more: Environment
) -> None:
    assert taken({**hand_over(listening()), **more}) == []
    assert os.fstat(FIRST), "it is still open"


@pytest.mark.parametrize("kind", ["not listening", "datagram", "file", "closed"])
def test_what_cannot_be_listened_on_is_refused_and_named(hand_over: HandOver, kind: str) -> None:
    environ = hand_over(socket.socket(type=socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM))
    if kind == "closed":
        os.close(FIRST)
    elif kind == "file":
        with open(os.devnull) as file:
            os.dup2(file.fileno(), FIRST)
    with pytest.raises(InheritedError, match="the inherited socket for ingest"):
        inherited(NAMES, environ)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("127.0.0.1", 2780), "127.0.0.1:2780"),
        (("::1", 2780, 0, 0), "[::1]:2780"),
        ("/run/in.sock", "unix:/run/in.sock"),
        (b"\0forwarder", "unix:@forwarder"),
    ],
)
def test_an_address_is_written_as_in_the_configuration(name: object, text: str) -> None:
    assert format_address(name) == text


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:0", "127.8.9.10:2780", "[::1]:2780", "localhost:2780", "unix:/run/x.sock", "unix:@abstract"],
)
def test_only_this_machine_reaches(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0:0",
        "[::]:2780",
        ":2780",
        "*:2780",
        "[fe80::1%lo]:1",
        "10.0.0.1:2780",
        "[fe80::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost.example:1",
        "1:1",
    ],
)
def test_others_reach(address: str) -> None:
    assert not is_local(address)


@pytest.mark.parametrize(
    ("address", "places"),
    [
        (":1", ["127.0.0.1:1", "[::1]:1"]),
        ("*:1", ["127.0.0.1:1", "[::1]:1"]),
        ("localhost:1", ["127.0.0.1:1", "[::1]:1"]),
        ("0.0.0.0:1", ["127.0.0.1:1"]),
        ("[::]:1", ["[::1]:1"]),
        ("10.0.0.1:1", ["10.0.0.1:1"]),
        ("unix:/x", ["unix:/x"]),
    ],
)
def test_a_program_on_this_host_finds_a_listener(address: str, places: list[str]) -> None:
    assert reachable(address) == places


def names_of(sockets: list[socket.socket]) -> list[str]:
    names = [format_address(each.getsockname()) for each in sockets]
    for each in sockets:
        each.close()
    return names


def test_one_free_port_is_found_for_both_families() -> None:
    v4, v6 = names_of(tcp_sockets("", 0))
    port = v4.removeprefix("0.0.0.0:")
    assert v6 == f"[::]:{port}"


def test_localhost_is_both_loopback_addresses_whatever_a_resolver_says() -> None:
    v4, v6 = names_of(tcp_sockets("LocalHost", 0))
    assert v4.startswith("127.0.0.1:")
    assert v6.startswith("[::1]:")


@pytest.mark.parametrize("lacking", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_host_without_one_family_has_the_other(
    monkeypatch: pytest.MonkeyPatch, lacking: socket.AddressFamily, number: int
) -> None:
    """As a kernel without IPv6 says it, or a sandbox that forbids the family."""
    monkeypatch.setattr(socket, "socket", a_kernel_without({lacking}, number))
    (name,) = names_of(tcp_sockets("", 0))
    assert name.startswith("[::]" if lacking == socket.AF_INET else "0.0.0.0")
    only = "0.0.0.0" if lacking == socket.AF_INET else "::"
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        tcp_sockets(only, 0)


def test_a_host_without_both_families_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {socket.AF_INET, socket.AF_INET6}
    monkeypatch.setattr(socket, "socket", a_kernel_without(both, errno.EAFNOSUPPORT))
    with pytest.raises(OSError, match="not supported"):
        tcp_sockets("", 0)


def test_a_port_that_one_family_has_not_is_refused_for_both() -> None:
    """Half of the clients would reach the other program."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            tcp_sockets("", port)
        names_of(tcp_sockets("127.0.0.1", port))  # what was opened before is closed again


def a_kernel_without(families: set[socket.AddressFamily], number: int) -> type[socket.socket]:
    class Kernel(socket.socket):
        def __init__(self, family: int = -1, *more: int, **named: object) -> None:
            if family in families:
                raise OSError(number, os.strerror(number))
            super().__init__(family, *more)

    return Kernel
