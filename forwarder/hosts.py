"""Checks the ``Host`` header, so that DNS rebinding cannot read from a listener.

A web page can have its own name resolve to 127.0.0.1 (DNS rebinding). Its browser then takes the listener for
the page's own server and lets the page read every answer; only the ``Host`` header still shows the name.

Invariants:
- Pure: an address and the configured names in, a verdict on one ``Host`` header out.
- A loopback address answers only to loopback addresses, to ``localhost`` and below, and to configured names.
  Any other address answers to every name, unless names are configured.
- Of a listener with several addresses, each is judged by itself.
- A request without ``Host`` is answered: browsers always send one.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from forwarder.sockets import LOCALHOST, format_address, is_local


class Hosts:
    """The names of one listener. ``addresses``: where it listens, in the form of the configuration."""

    __slots__ = ("_always", "_loopback", "_names")

    def __init__(self, addresses: Sequence[str], names: Sequence[str] = ()) -> None:
        self._names = frozenset(map(_plain, names))
        on_loopback = [each for each in addresses if is_local(each) and not each.startswith("unix:")]
        self._loopback = frozenset(on_loopback)  # no browser reaches a unix socket
        self._always = bool(names) or 0 < len(on_loopback) == len(addresses)

    def answers_to(self, host: str | None, transport: asyncio.BaseTransport | None = None) -> bool:
        """Whether a request with this ``Host`` header gets an answer. ``transport``: of its connection."""
        if not host or not (self._always or self._came_by_loopback(transport)):
            return True
        name = _plain(host)
        return name in self._names or _is_loopback(name)

    def _came_by_loopback(self, transport: asyncio.BaseTransport | None) -> bool:
        if not self._loopback:
            return False
        name = None if transport is None else transport.get_extra_info("sockname")
        return name is None or format_address(name) in self._loopback  # without a name it has ended


def _plain(host: str) -> str:
    """A name or address without its port, brackets and final dot, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        return name if closed and _is_port(port) else host
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() and ":" not in name else host).removesuffix(".")


def _is_port(text: str) -> bool:
    """Whether this may follow an address in brackets."""
    return not text or (text[0] == ":" and text[1:].isdecimal())


def _is_loopback(name: str) -> bool:
    if name == LOCALHOST or name.endswith(f".{LOCALHOST}"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback  # Python before 3.13 does not look into ::ffff:127.0.0.1
