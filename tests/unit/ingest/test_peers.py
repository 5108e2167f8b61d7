"""Whose a request is, as far as shares go."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from forwarder.config import IngestConfig
from forwarder.ingest.http.peers import MAX_HOPS, Peers, peer_of_address, peer_of_certificate, peer_of_sender
from tests.support.ingest import EVENT, NATIVE, serving


def forwarded(*values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([("X-Forwarded-For", value) for value in values]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("::1", "127.0.0.1", False),
        ("unix user 1000", "unix user 1001", False),
    ],
)
def test_an_address_is_a_peer_and_of_ipv6_a_network_of_64_bits_is(one: str, other: str, same: bool) -> None:
    assert (peer_of_address(one) == peer_of_address(other)) is same


TRUSTED = Peers(["10.0.0.0/8", "192.0.2.9", "fd00::/8"])


@pytest.mark.parametrize(
    ("values", "peer"),
    [
        (["198.51.100.7"], "198.51.100.7"),
        (["203.0.113.1, 198.51.100.7"], "198.51.100.7"),
        (["203.0.113.1, 198.51.100.7, 10.1.1.1"], "198.51.100.7"),
        (["203.0.113.1", "198.51.100.7", "192.0.2.9"], "198.51.100.7"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (["[2001:db8::1]:4711"], "2001:db8::/64"),
        (["2001:db8::1"], "2001:db8::/64"),
        (["10.0.0.5, 10.0.0.6"], "10.0.0.5"),
        (["nonsense"], "proxy"),
        (["198.51.100.7, nonsense"], "proxy"),
        (["nonsense, 198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7,"], "proxy"),
        ([""], "proxy"),
        ([], "proxy"),
        (["1" * 5000], "proxy"),
        (["unix:"], "proxy"),
        (["a," * 4000 + "198.51.100.7"], "198.51.100.7"),
    ],
)
def test_behind_a_trusted_proxy_the_first_address_from_the_right_that_is_none_is_the_peer(
    values: list[str], peer: str
) -> None:
    assert TRUSTED.behind(forwarded(*values), "proxy") == peer


def test_of_a_long_list_of_proxies_only_the_last_are_looked_at() -> None:
    hops = ", ".join(["198.51.100.7"] + ["10.0.0.1"] * MAX_HOPS)
    assert TRUSTED.behind(forwarded(hops), "proxy") == "10.0.0.1"


def test_a_unix_socket_is_a_trusted_proxy_only_where_it_is_named() -> None:
    assert Peers(["unix"]).is_proxy("unix user 33")
    assert not Peers(["unix"]).is_proxy("10.0.0.1")
    assert not TRUSTED.is_proxy("unix user 33")
    assert TRUSTED.is_proxy("::ffff:10.9.8.7")
    assert not Peers().is_proxy("10.0.0.1")


@pytest.mark.parametrize(
    ("certificate", "peer"),
    [
        (None, ""),
        ({}, ""),
        ({"subject": ((("commonName", "till"),),)}, "certificate till"),
        (
            {"subject": ((("commonName", "x"),),), "subjectAltName": (("URI", "spiffe://a/b"),)},
            "certificate spiffe://a/b",
        ),
        ({"subjectAltName": (("DNS", "a.test"), ("DNS", "b.test"))}, "certificate a.test"),
        ({"serialNumber": "0A"}, "certificate 0A"),
    ],
)
def test_a_client_certificate_names_its_peer(certificate: dict[str, object] | None, peer: str) -> None:
    assert peer_of_certificate(certificate) == peer


def test_a_sender_called_like_an_address_is_another_peer() -> None:
    assert peer_of_sender("192.0.2.1") != peer_of_address("192.0.2.1")


@pytest.mark.parametrize("wrong", ["proxy.local", "10.0.0.1/8", "", "unix:/run/x", "10.0.0.0/33"])
def test_a_trusted_proxy_that_is_no_address_is_refused_with_what_is_allowed(wrong: str) -> None:
    (problem,) = IngestConfig(trusted_proxies=["unix", wrong]).problems()
    assert str(problem).startswith("trusted_proxies[1]: must be an address ")
    assert f'got "{wrong}"' in problem.message


def test_of_a_network_with_bits_of_a_host_the_network_is_named() -> None:
    (problem,) = IngestConfig(trusted_proxies=["10.0.0.1/8"]).problems()
    assert problem.message.endswith('Did you mean "10.0.0.0/8"?')


async def peers_of(address: str | None, proxies: list[str], *headers: str, listen: str) -> set[str]:
    async with serving(listen=listen, trusted_proxies=proxies) as ingest:
        for value in headers:
            answer = await ingest.post(NATIVE, EVENT, {"X-Forwarded-For": value}, source=address)
            assert answer.status == 202
        return {event.peer for batch in ingest.batches() for event in batch.events}


async def test_events_carry_the_peer_that_a_trusted_proxy_names() -> None:
    found = await peers_of("127.0.0.9", ["127.0.0.9"], "192.0.2.1", "192.0.2.2", listen="127.0.0.1:0")
    assert found == {"192.0.2.1", "192.0.2.2"}


async def test_nobody_else_can_name_another_peer() -> None:
    found = await peers_of("127.0.0.8", ["127.0.0.9"], "192.0.2.1", "192.0.2.2", listen="127.0.0.1:0")
    assert found == {"127.0.0.8"}


async def test_a_proxy_on_our_unix_socket_may_name_peers(tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/ingest.sock"
    assert await peers_of(None, ["unix"], "192.0.2.1", listen=path) == {"192.0.2.1"}
    (user,) = await peers_of(None, [], "192.0.2.1", listen=path)
    assert user.startswith("unix user ")


@pytest.mark.parametrize(
    "peer", ["192.0.2.1", "certificate spiffe://a/64", "sender a/64", "unix user 64", "fe80::1"]
)
def test_a_peer_that_is_one_sender_has_no_source(peer: str) -> None:
    assert TRUSTED.source_of(peer, forwarded("2001:db8::1"), "10.0.0.1") == ""


def test_the_source_is_the_address_of_the_header_of_a_trusted_proxy_only() -> None:
    network, header = "2001:db8::/64", forwarded("2001:db8::1")
    assert TRUSTED.source_of(network, header, "10.0.0.1") == "2001:db8::1"
    assert TRUSTED.source_of(network, header, "2001:db8::9") == "2001:db8::9"


IN_ONE_NETWORK = ("2001:db8::1", "2001:db8::2")


@pytest.mark.parametrize("header", ["Idempotency-Key", "amz-sdk-invocation-id"])
async def test_two_senders_of_one_ipv6_network_have_keys_of_their_own(header: str) -> None:
    async with serving(trusted_proxies=["127.0.0.1"]) as ingest:
        one, two = ({"X-Forwarded-For": each, header: "k"} for each in IN_ONE_NETWORK)
        assert (await ingest.post(NATIVE, EVENT, one)).status == 202
        assert (await ingest.post(NATIVE, [EVENT, EVENT], two)).status == 202
        assert (await ingest.post(NATIVE, EVENT, one)).status == 202
        assert (
            await ingest.post(NATIVE, EVENT, {**two, "X-Forwarded-For": "[2001:DB8:0::2]:9"})
        ).status == 422
        assert ingest.count("orders") == 3
        assert {event.peer for batch in ingest.batches() for event in batch.events} == {"2001:db8::/64"}


async def test_the_same_cloudevent_of_two_senders_of_one_ipv6_network_is_two_events() -> None:
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
    async with serving(trusted_proxies=["127.0.0.1"]) as ingest:
        for address in (*IN_ONE_NETWORK, *IN_ONE_NETWORK):
            headers = {"Content-Type": "application/cloudevents+json", "X-Forwarded-For": address}
            assert (await ingest.post("/v1/cloudevents/orders", event, headers)).status == 202
        assert ingest.count("orders") == 2
