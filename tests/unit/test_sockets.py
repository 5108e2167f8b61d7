"""Listening sockets that are handed over, as sd_listen_fds(3) describes it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from forwarder import sockets
from forwarder.sockets import InheritedError, inherited, is_local, written

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
    for each in found.values():
        each.close()
    return list(found)


@pytest.mark.parametrize("names", ["", "unknown", "forwarder.socket", "ingest"])
def test_a_single_socket_is_the_first_listeners_whatever_its_name(hand_over: HandOver, names: str) -> None:
    assert taken(hand_over(listening(), names=names)) == ["ingest"]


def test_a_single_socket_of_another_listeners_name_is_that_ones(hand_over: HandOver) -> None:
    assert taken(hand_over(listening(), names="admin")) == ["admin"]


def test_sockets_are_told_apart_by_their_names(hand_over: HandOver) -> None:
    first, second = listening(), listening()
    addresses = [first.getsockname(), second.getsockname()]
    found = inherited(NAMES, hand_over(first, second, names="admin:ingest"))
    assert [found[name].getsockname() for name in ("admin", "ingest")] == addresses
    for each in found.values():
        assert not each.get_inheritable()
        each.close()


@pytest.mark.parametrize("names", ["", "ingest", "ingest:ingest", "ingest:other", "ingest:admin:third"])
def test_sockets_that_cannot_be_told_apart_are_refused(hand_over: HandOver, names: str) -> None:
    environ = hand_over(listening(), listening(), names=names)
    with pytest.raises(InheritedError, match="one each for ingest and admin"):
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
    assert written(name) == text


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
        "10.0.0.1:2780",
        "[fe80::1]:1",
        "[::ffff:127.0.0.1]:1",
        "localhost.example:1",
        "1:1",
    ],
)
def test_others_reach(address: str) -> None:
    assert not is_local(address)
