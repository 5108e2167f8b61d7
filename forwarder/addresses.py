"""Addresses to listen on, as the configuration and the command line write them.

Invariants:
- An address that is accepted has one meaning on every host: a port alone is all addresses of both families,
  and no IPv4 address hides in another form.
- Pure: whether an address can be had is only known when it is bound.
"""

from __future__ import annotations

import ipaddress
import json
import os.path
import re
from collections.abc import Iterator, Sequence

_LISTEN = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]+)|\*?):(?P<port>\d{1,5})", re.ASCII
)
_LISTEN_FORMS = "host:port, [IPv6]:port, :port for all addresses of both families, or unix:/path"
_NUMERIC = re.compile(r"[0-9.]+", re.ASCII)
_ANY = {"0.0.0.0": ("v4", ""), "::": ("v6", "")}
_LOCALHOST = (("v4", "127.0.0.1"), ("v6", "::1"))


class Listen(str):
    """One of them: ``host:port``, ``[v6]:port``, ``:port`` (also ``*:port``) or ``unix:/path``."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Listen:
        if isinstance(value, str) and (value.startswith("unix:/") or _is_good(value)):
            return cls(value)
        got = json.dumps(value, ensure_ascii=False, default=str)
        raise ValueError(f"must be {_LISTEN_FORMS}, got {got}{_meant(value)}")

    @property
    def socket_path(self) -> str | None:
        """The path of a unix socket, None for TCP."""
        return self.removeprefix("unix:") if self.startswith("unix:") else None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port; the host is "" for all addresses of both families. Only for TCP."""
        host, _, port = self.rpartition(":")
        return host.strip("[]").removeprefix("*"), int(port)

    def overlaps(self, other: Listen) -> bool:
        """Whether both cannot be had at once, as far as their text tells."""
        if self.socket_path is not None or other.socket_path is not None:
            return _same_path(self.socket_path, other.socket_path)
        (_, port), (_, other_port) = self.address, other.address
        if not port or port != other_port:
            return False
        return any(
            family == other_family and (not host or not other_host or host == other_host)
            for family, host in self._hosts()
            for other_family, other_host in other._hosts()
        )

    def _hosts(self) -> Sequence[tuple[str, str]]:
        """Family and canonical address of each; "" is every address of the family."""
        host = self.address[0].lower()
        if not host:
            return tuple(_ANY.values())
        if host == "localhost":
            return _LOCALHOST
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return (("name", host),)
        return (_ANY.get(str(address), (f"v{address.version}", str(address))),)


class Listens(tuple[Listen, ...]):
    """Where a listener listens: one address, or a list of them that do not overlap."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Listens:
        """Raises ValueError; of a list the message begins with ``[index]: ``."""
        if not isinstance(value, list | tuple):
            return cls((Listen.parse(value),))
        if not value:
            raise ValueError(f"must have at least one address: {_LISTEN_FORMS}")
        found = []
        for index, each in enumerate(value):
            try:
                found.append(Listen.parse(each))
            except ValueError as error:
                raise ValueError(f"[{index}]: {error}") from None
        return cls(found)

    def places(self, setting: str) -> Iterator[tuple[str, Listen]]:
        """Each address with the path of its setting: ``ingest.listen``, or ``ingest.listen[1]`` of a list."""
        for index, each in enumerate(self):
            yield (setting if len(self) == 1 else f"{setting}[{index}]"), each

    @property
    def text(self) -> str:
        return ", ".join(self)

    @property
    def setting(self) -> str | list[str]:
        """As a configuration file has it."""
        return str(self[0]) if len(self) == 1 else [str(each) for each in self]


def _is_host(v6: str | None, name: str | None) -> bool:
    """Whether it is a host that means the same everywhere: no ``0``, ``127.1`` or IPv4 inside IPv6."""
    if v6 is None and (name is None or not _NUMERIC.fullmatch(name)):
        return True
    try:
        address = ipaddress.ip_address(v6 or name or "")
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return v6 is None
    return not address.ipv4_mapped


def _same_path(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and os.path.normpath(one or "") == os.path.normpath(other or "")


def _meant(value: object) -> str:
    """The nearest right value, for the usual mistakes."""
    text = str(value).strip()
    if text.isdecimal():
        return f'. Did you mean ":{text}" (all addresses) or "127.0.0.1:{text}" (this machine only)?'
    if text.startswith("/"):
        return f'. Did you mean "unix:{text}"?'
    host, _, port = text.rpartition("://")[2].rstrip("/").rpartition(":")
    bare = host.strip("[]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        nearest = f"{host}:{port}"
    else:
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        own = f"[{bare}]" if address.version == 6 else bare
        nearest = f"{mapped or own}:{port}"
    return f'. Did you mean "{nearest}"?' if nearest != value and _is_good(nearest) else ""


def _is_good(text: str) -> bool:
    match = _LISTEN.fullmatch(text)
    return bool(match and int(match["port"]) <= 65535 and _is_host(match["v6"], match["host"]))
