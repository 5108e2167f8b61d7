"""Everything the daemon can be told, typed and frozen, with its defaults.

Invariants:
- What a target can be told is not here: each kind declares its own options.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from forwarder.addresses import Listens
from forwarder.config.files import FilePath
from forwarder.config.problem import Problem
from forwarder.config.units import Bytes, Duration
from forwarder.config.values import shown_value
from forwarder.sockets import is_local

Count = Annotated[int, Meta(ge=1)]

MIN_STORAGE_BYTES = 1 << 20
MAX_LINGER = 1.0
MAX_CLOCK_SKEW = 900.0
OWN_DIRECTORY = "data"
CONTROL_NAME = "control.sock"
_is_origin = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?",
    re.ASCII,
).fullmatch
_PORT_OF_SCHEME = re.compile(r"http://.*:80|https://.*:443").fullmatch


class CorsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which web pages may send to RUM's paths from a browser."""

    # RUM is named in these settings because it is the one API of AWS that browsers call.

    origins: Annotated[
        list[str],
        Meta(
            description="Origins such as `https://shop.example.com` or `https://*.example.org`, or `*` "
            "alone for all origins."
        ),
    ] = msgspec.field(default_factory=list)
    max_age: Annotated[
        Duration,
        Meta(
            description="How long a browser may cache the answer; Chromium caches it for two hours at most."
        ),
    ] = Duration(2 * 3600.0)

    def problems(self) -> Iterator[Problem]:
        for number, origin in enumerate(self.origins):
            if problem := _wrong_origin(origin, alone=len(self.origins) == 1):
                yield Problem(f"origins[{number}]", problem)


def _wrong_origin(origin: str, *, alone: bool) -> str:
    if origin == "*":
        return "" if alone else 'must be alone in the list, because "*" is every origin'
    if not _is_origin(origin):
        forms = "https://shop.example.com, https://*.example.com or *"
        meant = origin.lower().rstrip("/")
        near = f'. Did you mean "{meant}"?' if _is_origin(meant) else ""
        must = f"must be an origin such as {forms}, in lower case and without a path"
        return f"{must}, got {shown_value(origin)}{near}"
    if _PORT_OF_SCHEME(origin):
        meant = origin.rpartition(":")[0]
        return f'must be without the port of its scheme, got "{origin}". Did you mean "{meant}"?'
    return ""


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who may send: holders of a bearer token in one file, or of an access key in the other."""

    tokens: Annotated[
        FilePath | None,
        Meta(
            description="File of bearer tokens, one line for each sender; `forwarder token NAME` prints "
            "such a line."
        ),
    ] = None
    access_keys: Annotated[
        FilePath | None,
        Meta(description="File of access keys, in the format of ~/.aws/credentials."),
    ] = None
    clock_skew: Annotated[
        Duration,
        Meta(description="How far the time of a signature may differ from this host's clock."),
    ] = Duration(300.0)
    allow_unauthenticated: Annotated[
        bool,
        Meta(description="Accept events from anyone who can reach the listener, also from other machines."),
    ] = False
    behind_tls: Annotated[
        bool,
        Meta(
            description="A proxy in front terminates TLS, so bearer tokens without `ingest.tls` cause no "
            "warning."
        ),
    ] = False

    def problems(self) -> Iterator[Problem]:
        if self.clock_skew > MAX_CLOCK_SKEW:
            yield Problem(
                "clock_skew",
                f"must be at most 15m, got {self.clock_skew.text}, because a captured request can be "
                "repeated for this long",
            )
        yield from empty(self, "tokens", "access_keys")

    @property
    def asks(self) -> bool:
        """Whether a request must show who sends it."""
        return self.tokens is not None or self.access_keys is not None


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """TLS on the data listener; all files in PEM."""

    certificate: Annotated[FilePath, Meta(description="Certificate of the listener, with its chain.")]
    key: Annotated[FilePath, Meta(description="Private key of the certificate, without a password.")]
    client_ca: Annotated[
        FilePath | None,
        Meta(description="Certificate authorities; each client needs a certificate signed by one of them."),
    ] = None

    def problems(self) -> Iterator[Problem]:
        yield from empty(self, "certificate", "key", "client_ca")


class IngestConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The data listener: where programs send their events."""

    listen: Annotated[
        Listens,
        Meta(
            description="Address for programs that send events, or a list of addresses; a unix socket has "
            "mode 0660."
        ),
    ] = Listens.parse("127.0.0.1:2780")
    reuse_port: Annotated[
        bool,
        Meta(description="Share the port with other daemons; the kernel spreads connections over them."),
    ] = False
    max_body: Annotated[
        Bytes,
        Meta(description="Maximum body size of a request, compressed and uncompressed."),
    ] = Bytes(8 << 20)
    max_events: Annotated[
        Count,
        Meta(description="Maximum events in a request; a request with more is refused with 413."),
    ] = 65_536
    max_header_bytes: Annotated[Bytes, Meta(description="Maximum total size of a request's headers.")] = (
        Bytes(16 << 10)
    )
    read_timeout: Annotated[
        Duration,
        Meta(description="Time limit for the headers of a request, and again for its body."),
    ] = Duration(30.0)
    keep_alive: Annotated[
        Duration,
        Meta(
            description="How long a connection may be idle; must be longer than in load balancers in front."
        ),
    ] = Duration(75.0)
    hosts: Annotated[
        list[str],
        Meta(
            description="Host names allowed in GET requests besides loopback names; if any is set, other "
            "names get 421."
        ),
    ] = msgspec.field(default_factory=list)
    browsers: Annotated[
        Literal["refuse", "allow"],
        Meta(description="Refuse or allow events from web pages on paths other than RUM's."),
    ] = "refuse"
    max_connections: Annotated[
        Count,
        Meta(
            description="Maximum connections; beyond it, an idle one is closed for a new one, or the new one "
            "gets 503."
        ),
    ] = 1024
    trusted_proxies: Annotated[
        list[str],
        Meta(
            description="Addresses and networks of proxies whose `X-Forwarded-For` is trusted; `unix` for a "
            "proxy that connects over the unix socket of `ingest.listen`."
        ),
    ] = msgspec.field(default_factory=list)
    memory_budget: Annotated[
        Bytes,
        Meta(
            description="Memory for requests and queues; full memory queues, 16MiB of each disk queue, and "
            "four bodies must fit."
        ),
    ] = Bytes(256 << 20)
    cors: CorsConfig = msgspec.field(default_factory=CorsConfig)
    auth: AuthConfig = msgspec.field(default_factory=AuthConfig)
    tls: TlsConfig | None = None

    def problems(self) -> Iterator[Problem]:
        for number, proxy in enumerate(self.trusted_proxies):
            if problem := _wrong_proxy(proxy):
                yield Problem(f"trusted_proxies[{number}]", problem)

    @property
    def sends_tokens_in_clear(self) -> bool:
        """Whether bearer tokens may cross a network unencrypted."""
        encrypted = self.tls is not None or self.auth.behind_tls
        return self.auth.tokens is not None and not encrypted and not all(map(is_local, self.listen))

    @property
    def is_guarded(self) -> bool:
        """Whether senders are told apart from others: then the listener may have any address."""
        return self.auth.asks or (self.tls is not None and self.tls.client_ca is not None)

    @property
    def is_for_all(self) -> bool:
        """Whether a listener that other machines reach is meant to be."""
        return self.is_guarded or self.auth.allow_unauthenticated


def _wrong_proxy(proxy: str) -> str:
    if proxy == "unix":
        return ""
    forms = "an address like 10.0.0.7, a network like 10.0.0.0/8 or fd00::/8, or unix"
    try:
        ipaddress.ip_network(proxy)
    except ValueError:
        with contextlib.suppress(ValueError):
            meant = ipaddress.ip_network(proxy, False)
            return f'must be {forms}, got {shown_value(proxy)}. Did you mean "{meant}"?'
        return f"must be {forms}, got {shown_value(proxy)}"
    return ""


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The read-only listener: metrics, health, status."""

    listen: Annotated[
        Listens,
        Meta(description="Address for probes and scrapers, or a list of addresses."),
    ] = Listens.parse("127.0.0.1:2781")
    hosts: Annotated[
        list[str],
        Meta(description="Host names allowed besides loopback names; if any is set, other names get 421."),
    ] = msgspec.field(default_factory=list)


class DeadLettersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters are kept, and for how long."""

    max_bytes: Annotated[
        Bytes,
        Meta(
            description="Size limit; beyond it, the oldest are deleted. At most half of `storage.max_bytes` "
            "is used."
        ),
    ] = Bytes(256 << 20)
    max_age: Annotated[Duration, Meta(description="Age limit; older ones are deleted.")] = Duration(
        14 * 86400.0
    )


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The directory of the daemon's file, which holds disk queues and dead letters."""

    path: Annotated[
        FilePath | None,
        Meta(
            description="Parent directory of `data`, which holds the daemon's files and control socket. `~` "
            "is a home directory; a relative path starts at the directory of the configuration. "
            "If unset: $STATE_DIRECTORY, else $XDG_STATE_HOME/forwarder, else "
            "~/.local/state/forwarder."
        ),
    ] = None
    max_bytes: Annotated[
        Bytes,
        Meta(
            description="Size limit of the storage file, plus 8MiB of ballast; when full, senders to disk "
            "queues get 503."
        ),
    ] = Bytes(2 << 30)
    linger: Annotated[
        Duration,
        Meta(
            description="How long to collect events for one commit to disk; each "
            "response takes this much longer."
        ),
    ] = Duration(0.003)
    dead_letters: DeadLettersConfig = msgspec.field(default_factory=DeadLettersConfig)

    def problems(self) -> Iterator[Problem]:
        if self.max_bytes < MIN_STORAGE_BYTES:
            yield Problem("max_bytes", f"must be at least 1MiB, got {self.max_bytes.text}")
        if self.linger > MAX_LINGER:
            yield Problem(
                "linger", f"must be at most 1s, got {self.linger.text}, because every answer waits for it"
            )
        try:
            self.parent()
        except RuntimeError:  # no home
            yield Problem("path", "is required, because this user has no home directory")

    @property
    def dead_letters_bytes(self) -> int:
        """What the dead letters may hold: never so much that the file has no room for events."""
        return min(self.dead_letters.max_bytes, self.max_bytes // 2)

    def directory(self, environ: Mapping[str, str] = os.environ) -> Path:
        """The daemon's own directory, below the one that is configured."""
        return self.parent(environ) / OWN_DIRECTORY

    def parent(self, environ: Mapping[str, str] = os.environ) -> Path:
        """The directory that is configured; it may be a volume that others share."""
        if self.path:
            return Path(self.path)
        if given := environ.get("STATE_DIRECTORY"):
            return Path(given.split(":")[0])
        home = environ.get("XDG_STATE_HOME")
        return (Path(home) if home else Path.home() / ".local" / "state") / "forwarder"

    def control_socket(self, environ: Mapping[str, str] = os.environ) -> Path:
        """Where a running daemon takes what changes its state."""
        return self.directory(environ) / CONTROL_NAME


class ShutdownConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the daemon stops."""

    input_grace: Annotated[Duration, Meta(description="How long new events are still accepted.")] = Duration(
        2.0
    )
    drain_timeout: Annotated[Duration, Meta(description="How long queued events are then still sent.")] = (
        Duration(20.0)
    )


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged on stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="Lowest level that is logged."),
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        Meta(description="`console`, or `json` lines; `auto` is `console` on a terminal, else `json`."),
    ] = "auto"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the daemon is told. Targets are name to the options of its kind, in the file's order."""

    targets: dict[str, Any]
    ingest: IngestConfig = msgspec.field(default_factory=IngestConfig)
    admin: AdminConfig = msgspec.field(default_factory=AdminConfig)
    storage: StorageConfig = msgspec.field(default_factory=StorageConfig)
    shutdown: ShutdownConfig = msgspec.field(default_factory=ShutdownConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)


def empty(settings: msgspec.Struct, *names: str) -> Iterator[Problem]:
    """A problem for each of these settings that is set to nothing."""
    return (Problem(name, 'must not be empty, got ""') for name in names if getattr(settings, name) == "")
