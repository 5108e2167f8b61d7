"""The peer of a request: the sender to whose share it counts.

A peer is the authenticated sender (token, access key, client certificate), else the user of a unix socket,
else the address. Behind a trusted proxy the address is the one that its ``X-Forwarded-For`` names.

Invariants:
- A header is believed only on connections of a trusted proxy, and only what trusted proxies wrote into it: it
  is read from the right, up to the first address that is not a trusted proxy's.
- Of an IPv6 network the senders share what a peer may use. What one sends is never taken for a repeat of what
  another sent: for that each has its ``source``.
- If the header cannot be parsed, the connection's own address is the peer.
- Names of different kinds never collide.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from multidict import CIMultiDictProxy

FORWARDED_FOR = "X-Forwarded-For"
UNIX = "unix"
MAX_HOPS = 16
"""Addresses of one header that are looked at, from the right."""
MAX_ADDRESS = 64
"""Characters of one of them: an IPv6 address with a zone, brackets and a port."""
MAX_NAME = 200

IPV6_PREFIX = 64
"""Bits of an IPv6 address that name a peer. A /64 is the smallest network that is given to a customer
(RFC 6177), and one machine may use all of its addresses, a new one for each connection (RFC 8981)."""
NETWORK = f"/{IPV6_PREFIX}"
"""How the name of such a peer ends."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def sender_of(transport: asyncio.BaseTransport) -> str:
    """The other side's address without its port; on a unix socket its user, where the system tells."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return str(peer[0])
    ask = getattr(socket, "SO_PEERCRED", None)
    if ask is None:
        return UNIX
    credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, ask, _CREDENTIALS.size)
    return f"unix user {_CREDENTIALS.unpack(credentials)[1]}"


@lru_cache(maxsize=1024)
def peer_of_address(text: str) -> str:
    """The peer that an address stands for; the text itself where it is none (a unix socket's user)."""
    address = _address(text)
    return text if address is None else _peer(address)


def peer_of_certificate(certificate: Mapping[str, Any] | None) -> str:
    """The peer that a verified client certificate names; "" without one."""
    if not certificate:
        return ""
    names = dict(reversed(certificate.get("subjectAltName", ())))
    subject = {name: value for part in certificate.get("subject", ()) for name, value in part}
    identity = names.get("URI") or subject.get("commonName") or names.get("DNS")
    return f"certificate {identity or certificate.get('serialNumber', '')}"[:MAX_NAME]


def peer_of_sender(name: str) -> str:
    """The peer that a proven sender's name stands for."""
    return f"sender {name}"


class Peers:
    """``trusted``: addresses and networks of proxies; ``unix`` for one that comes over a unix socket."""

    __slots__ = ("_networks", "_unix")

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self._networks: list[Network] = [parse_proxy(each) for each in trusted if each != UNIX]
        self._unix = UNIX in trusted

    def is_proxy(self, sender: str) -> bool:
        """Whether a connection's ``sender_of`` is a trusted proxy."""
        if not self._networks and not self._unix:
            return False
        address = _address(sender)
        return self._unix if address is None else self._trusts(address)

    def behind(self, headers: CIMultiDictProxy[str], proxy: str) -> str:
        """The peer of a request that came over a connection of this trusted proxy (its peer's name)."""
        address = self._address_behind(headers)
        return proxy if address is None else _peer(address)

    def source_of(self, peer: str, headers: CIMultiDictProxy[str], sender: str) -> str:
        """The address of one of several senders that are one peer, "" where the peer is one sender.

        ``sender``: of the connection.
        """
        if not peer.endswith(NETWORK) or " " in peer:  # names of other kinds have a blank
            return ""
        if not self.is_proxy(sender):
            return sender  # parsed for no request: that would cost each of them some microseconds
        return str(self._address_behind(headers) or _address(sender))

    def _address_behind(self, headers: CIMultiDictProxy[str]) -> Address | None:
        """The sender's address by the header, None if it cannot be parsed."""
        address = None
        for text in _hops(headers.getall(FORWARDED_FOR, ())):
            address = _address(_without_port(text))
            if address is None or not self._trusts(address):
                break
        return address

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def parse_proxy(text: str) -> Network:
    """An address or a network of ``ingest.trusted_proxies``. Raises ValueError."""
    return ipaddress.ip_network(text)


def _hops(values: Iterable[str]) -> list[str]:
    """The last addresses of all the header's lines, the nearest first."""
    found: list[str] = []
    for value in reversed(list(values)):
        parts = value.rsplit(",", MAX_HOPS)
        found += [part.strip() for part in reversed(parts[-MAX_HOPS:])]
        if len(found) >= MAX_HOPS:
            break
    return found[:MAX_HOPS]


def _without_port(text: str) -> str:
    """Some proxies add one: ``192.0.2.1:4711``, ``[2001:db8::1]:4711``."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _address(text: str) -> Address | None:
    if len(text) > MAX_ADDRESS:
        return None
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address  # a listener for both families sees IPv4 clients as ::ffff:192.0.2.1


def _peer(address: Address) -> str:
    if isinstance(address, ipaddress.IPv4Address) or address.is_link_local or address.is_loopback:
        return str(address)  # link-local: all machines of a network are in one /64
    bits = 128 - IPV6_PREFIX
    return f"{ipaddress.IPv6Address(int(address) >> bits << bits)}{NETWORK}"
