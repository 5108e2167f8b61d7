"""Sockets to listen at: made here with their mode, or inherited from the process that started us.

Invariants:
- Each address family has a socket of its own: one for IPv6 never takes IPv4 connections, so a peer's address
  has one form.
- There is no moment in which a socket has a wider mode than its own.
- A file, or a socket that somebody listens at, is never removed.
- What was inherited goes no further: not to a child of ours, nor what the environment says of it.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from forwarder.files import identity

MAX_PATH_BYTES = 107
"""Linux, unix(7): ``sun_path`` has 108 bytes, the last of which is 0."""

LOCALHOST = "localhost"

FIRST_INHERITED = 3
"""sd_listen_fds(3): inherited sockets have the numbers from here on."""


ALL = (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6))
LOOPBACK = (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6))

UNAVAILABLE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
"""How a host refuses an address of a family that it does not have."""

PORT_TRIES = 20
"""For one free port in two families."""

Place = tuple[str, socket.AddressFamily]


class InheritedError(Exception):
    """What was inherited cannot be listened on; the message is for the operator."""


def unix_socket(path: Path, mode: int) -> socket.socket:
    """A bound socket; raises OSError when the path cannot be had."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def tcp_sockets(host: str, port: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Bound sockets for a host; "" is all addresses of both families. Raises OSError when none can be had.

    Of two families one may be missing on this host, so that one configuration works on every host.
    """
    places = _places(host, port)
    for tries in range(PORT_TRIES, 0, -1):
        try:
            return _bound(places, port, reuse_port)
        except OSError as problem:
            if port or problem.errno != errno.EADDRINUSE or tries == 1:
                raise
    raise AssertionError("the last try returns or raises")


def _places(host: str, port: int) -> list[Place]:
    if not host:
        return list(ALL)
    if host.lower() == LOCALHOST:  # not every container has it in /etc/hosts
        return list(LOOPBACK)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((_with_zone(address), family) for family, _, _, _, address in found))


def _with_zone(address: Any) -> str:
    host, *more = address
    return f"{host}%{more[2]}" if len(more) == 3 and more[2] and "%" not in host else str(host)


def _bound(places: Sequence[Place], port: int, reuse_port: bool) -> list[socket.socket]:
    made: list[socket.socket] = []
    missing: OSError | None = None
    for host, family in places:
        try:
            made.append(_tcp_socket(host, port, family, reuse_port))
        except OSError as problem:
            if problem.errno not in UNAVAILABLE:
                for each in made:
                    each.close()
                raise
            missing = missing or problem
            continue
        port = made[-1].getsockname()[1]  # one free port for all of them
    if missing is not None and not made:
        raise missing
    return made


def _tcp_socket(host: str, port: int, family: socket.AddressFamily, reuse_port: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(
            socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4]
        )
    except OSError:
        made.close()
        raise
    return made


class SocketFile:
    """The name of a unix socket of ours, from the moment it was bound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = identity(path)

    def is_there(self) -> bool:
        """Whether clients still find it; True as well when nobody can say."""
        try:
            return identity(self.path) == self._identity
        except OSError:
            return True

    def remove(self) -> None:
        """Take the name away, if it is still ours."""
        with suppress(OSError):  # a broken disk keeps it; the next start replaces it
            if identity(self.path) == self._identity:
                self.path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another program already listens there", str(path))


def inherited(
    names: Sequence[str], environ: MutableMapping[str, str] = os.environ
) -> dict[str, list[socket.socket]]:
    """Listening sockets that were opened for this process, by name, as systemd hands them over.

    A listener may have several. Sockets that all have one unknown name, or none, are the first of ``names``.
    Raises InheritedError.
    """
    pid, count, said = (environ.pop(f"LISTEN_{what}", "") for what in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    numbers = range(FIRST_INHERITED, FIRST_INHERITED + int(count))
    given = said.split(":") if said else [""] * len(numbers)
    if len(set(given)) == 1 and given[0] not in names:
        given = [names[0]] * len(given)
    if len(given) != len(numbers) or not set(given) <= set(names):
        raise InheritedError(
            f"{count} sockets named {said!r} were inherited; each name must be {' or '.join(names)}"
        )
    found: dict[str, list[socket.socket]] = {}
    for number, name in zip(numbers, given, strict=True):
        found.setdefault(name, []).append(_inherited(number, name))
    return found


def _inherited(number: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(number, False)
        listener = socket.socket(fileno=number)
    except OSError as problem:
        raise InheritedError(f"the inherited socket for {name}: {problem.strerror}") from None
    listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listener.type != socket.SOCK_STREAM or not listens:
        listener.close()
        raise InheritedError(f"the inherited socket for {name} is not one that listens for connections")
    return listener


def format_address(name: Any) -> str:
    """What ``getsockname`` says, in the form of the configuration."""
    if not isinstance(name, tuple):
        path = os.fsdecode(name).replace("\0", "@", 1)  # unix(7): an abstract name begins with 0
        return f"unix:{path}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(address: str) -> bool:
    """Whether an address in the form of the configuration is one that only this machine reaches."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = ipaddress.ip_address(host)
        # Python 3.13 calls ::ffff:127.0.0.1 loopback, and earlier releases do not.
        return found.is_loopback and getattr(found, "ipv4_mapped", None) is None
    except ValueError:  # a name; only one has a meaning everywhere (RFC 6761)
        return host.lower() == LOCALHOST


def reachable(address: str) -> list[str]:
    """Where a program on this host finds a listener at this address, or else at this one; the same form."""
    if address.startswith("unix:"):
        return [address]
    host, _, port = url_of(address).removeprefix("http://").rpartition(":")
    hosts = ("127.0.0.1", "[::1]") if host.lower() == LOCALHOST else (host,)
    return [f"{each}:{port}" for each in hosts]


def url_of(address: str, scheme: str = "http") -> str:
    """How a client on this machine reaches a listener at an address in the form of the configuration.

    A URL stays as it is.
    """
    if address.startswith("unix:") or "://" in address:
        return address
    host, colon, port = address.rpartition(":")
    return f"{scheme}://{_HERE.get(host, host)}:{port}" if colon else f"{scheme}://{address}"


_HERE = {"0.0.0.0": "127.0.0.1", "": LOCALHOST, "*": LOCALHOST, "[::]": "[::1]"}
"""A listener on all addresses is reached at its loopback one."""
