"""Addresses to listen on: what may be written, what is meant, and which of them cannot be had at once."""

from __future__ import annotations

import json

import pytest

from forwarder.addresses import Listen, Listens


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:2780", ("127.0.0.1", 2780)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:2780", ("::1", 2780)),
        ("[::]:2780", ("::", 2780)),
        ("[fe80::1%eth0]:2780", ("fe80::1%eth0", 2780)),
        (":2780", ("", 2780)),
        ("*:2780", ("", 2780)),
        ("ingest-1.internal:2780", ("ingest-1.internal", 2780)),
    ],
)
def test_an_address_has_host_and_port_and_no_host_is_all_of_them(text: str, address: tuple[str, int]) -> None:
    listen = Listen.parse(text)
    assert listen.socket_path is None
    assert listen.address == address


def test_an_address_may_be_a_unix_socket() -> None:
    assert Listen.parse("unix:/run/forwarder.sock").socket_path == "/run/forwarder.sock"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2780", '":2780" (all addresses) or "127.0.0.1:2780" (this machine only)'),
        (2780, '":2780" (all addresses) or "127.0.0.1:2780" (this machine only)'),
        ("::1:80", '"[::1]:80"'),
        (":::80", '"[::]:80"'),
        ("http://0.0.0.0:80", '"0.0.0.0:80"'),
        ("tcp://[::]:80/", '"[::]:80"'),
        ("[::ffff:0.0.0.0]:80", '"0.0.0.0:80"'),
        ("[::ffff:127.0.0.1]:80", '"127.0.0.1:80"'),
        ("/run/in.sock", '"unix:/run/in.sock"'),
        ("host:", ""),
        ("host:65536", ""),
        ("unix:relative", ""),
        ("", ""),
        ("a b:1", ""),
        ("0:80", ""),
        ("127.1:80", ""),
        ("1.2.3.4.5:80", ""),
        ("[fe80:::1]:80", ""),
        ("[127.0.0.1]:80", '"127.0.0.1:80"'),
        (None, ""),
    ],
)
def test_what_is_no_address_is_refused_with_the_nearest_that_is(text: object, meant: str) -> None:
    with pytest.raises(ValueError, match=r"must be host:port, \[IPv6\]:port, :port for all") as refused:
        Listen.parse(text)
    got = f"got {json.dumps(text, ensure_ascii=False)}"
    assert str(refused.value).endswith(f"{got}. Did you mean {meant}?" if meant else got)


def test_a_list_has_one_address_at_least_and_names_the_place_of_a_wrong_one() -> None:
    assert Listens.parse([":1", "unix:/x"]) == (":1", "unix:/x")
    assert Listens.parse(":1") == (":1",)
    with pytest.raises(ValueError, match=r"^\[1\]: must be host:port"):
        Listens.parse([":1", "x"])
    with pytest.raises(ValueError, match="must have at least one address"):
        Listens.parse([])


def test_addresses_are_written_as_they_were_read() -> None:
    assert Listens.parse(":1").setting == ":1"
    assert Listens.parse([":1", "unix:/x"]).setting == [":1", "unix:/x"]
    assert [path for path, _ in Listens.parse(":1").places("a.listen")] == ["a.listen"]
    assert [path for path, _ in Listens.parse([":1", ":2"]).places("a")] == ["a[0]", "a[1]"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (":1", "*:1"),
        (":1", "127.0.0.1:1"),
        (":1", "[::1]:1"),
        (":1", "[fe80::1%eth0]:1"),
        ("0.0.0.0:1", "10.0.0.1:1"),
        ("[::]:1", "[0::1]:1"),
        ("[0::1]:1", "[::1]:1"),
        ("[0:0::0]:1", "[::2]:1"),
        ("localhost:1", "127.0.0.1:1"),
        ("LOCALHOST:1", "[::1]:1"),
        ("Name.internal:1", "name.internal:1"),
        ("unix:/run/x", "unix:/run/../run/x"),
    ],
)
def test_addresses_that_share_a_connection_overlap(one: str, other: str) -> None:
    assert Listen(one).overlaps(Listen(other))
    assert Listen(other).overlaps(Listen(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (":1", ":2"),
        (":0", ":0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:1", "[::]:1"),
        ("127.0.0.1:1", "[::1]:1"),
        ("127.0.0.1:1", "127.0.0.2:1"),
        ("[fe80::1%eth0]:1", "[fe80::1%eth1]:1"),
        ("unix:/a", "unix:/b"),
        ("unix:/a", ":1"),
        ("a.internal:1", "b.internal:1"),
    ],
)
def test_addresses_that_can_be_had_at_once_do_not(one: str, other: str) -> None:
    assert not Listen(one).overlaps(Listen(other))
    assert not Listen(other).overlaps(Listen(one))
