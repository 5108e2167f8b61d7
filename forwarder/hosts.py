"""Checks the ``Host`` header, so that DNS rebinding cannot read from a listener.

A web page can have its own name resolve to 127.0.0.1 (DNS rebinding). Its browser then takes the listener for
the page's own server and lets the page read every answer; only the ``Host`` header still shows the name.

Invariants:
- Pure: an address and the configured names in, a verdict on one ``Host`` header out.
- A loopback listener answers only to loopback addresses, to ``localhost`` and below, and to configured names.
  Any other listener answers to every name, unless names are configured.
- A request without ``Host`` is answered: browsers always send one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from forwarder.sockets import is_local

LOCALHOST = "localhost"


class Hosts:
    """The names of one listener. ``address``: where it listens, in the form of the configuration."""

    __slots__ = ("_checks", "_names")

    def __init__(self, address: str, names: Sequence[str] = ()) -> None:
        self._names = frozenset(map(_plain, names))
        on_loopback = is_local(address) and not address.startswith(
            "unix:"
        )  # no browser reaches a unix socket
        self._checks = on_loopback or bool(names)

    def answers_to(self, host: str | None) -> bool:
        """Whether a request with this ``Host`` header gets an answer."""
        if not self._checks or not host:
            return True
        name = _plain(host)
        return name in self._names or _is_loopback(name)


def _plain(host: str) -> str:
    """A name or address without its port, brackets and final dot, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() and ":" not in name else host).removesuffix(".")


def _is_loopback(name: str) -> bool:
    if name == LOCALHOST or name.endswith(f".{LOCALHOST}"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
