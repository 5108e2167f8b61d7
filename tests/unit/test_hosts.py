"""Which names a listener answers to."""

from __future__ import annotations

import asyncio

import pytest

from forwarder.hosts import Hosts

LOOPBACK = ["localhost", "LOCALHOST:2781", "a.localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]:2781", "[::1]",
            "[::ffff:127.0.0.1]:2781"]  # fmt: skip
OTHERS = ["evil.test", "evil.test:2781", "127.0.0.1.evil.test", "localhost.evil.test", "0.0.0.0", "10.0.0.1",
          "[::2]:1", "notlocalhost", "[::1].evil.test", "[::1", "[::ffff:10.0.0.1]",
          "192.0.2.1:2781"]  # fmt: skip


@pytest.mark.parametrize("host", [*LOOPBACK, None, ""])
@pytest.mark.parametrize("address", ["127.0.0.1:2781", "[::1]:2781", "localhost:2781"])
def test_a_loopback_listener_answers_to_loopback_names_and_to_requests_without_a_host(
    address: str, host: str | None
) -> None:
    assert Hosts([address]).answers_to(host)


@pytest.mark.parametrize("host", OTHERS)
def test_a_loopback_listener_answers_to_no_other_name(host: str) -> None:
    assert not Hosts(["127.0.0.1:2781"]).answers_to(host)
    assert not Hosts(["127.0.0.1:2781"], ["forwarder"]).answers_to(host)


@pytest.mark.parametrize("address", ["0.0.0.0:2781", "192.0.2.7:2781", "unix:/run/a.sock"])
def test_other_listeners_answer_to_every_name_unless_names_are_configured(address: str) -> None:
    assert Hosts([address]).answers_to("anything.test")
    configured = Hosts([address], ["Forwarder", "metrics.internal"])
    assert configured.answers_to("forwarder:2781")
    assert configured.answers_to("METRICS.internal.")
    assert configured.answers_to("localhost")
    assert not configured.answers_to("anything.test")


class At(asyncio.BaseTransport):
    """A connection that came to this address."""

    def __init__(self, *name: object) -> None:
        super().__init__({"sockname": name} if name else {})


def test_of_several_addresses_each_is_judged_by_itself() -> None:
    hosts = Hosts(["127.0.0.1:2781", "192.0.2.7:2781", "unix:/run/a.sock"])
    assert not hosts.answers_to("evil.test", At("127.0.0.1", 2781))
    assert not hosts.answers_to("evil.test", At()), "it has ended, and nobody can tell"
    assert hosts.answers_to("localhost", At("127.0.0.1", 2781))
    assert hosts.answers_to("anything.test", At("192.0.2.7", 2781))
    assert hosts.answers_to("anything.test", At("", 0))
