"""What every kind of target can be told, and how it is grouped in the configuration.

Invariants:
- The same words mean the same for every kind; a kind overrides defaults and adds what only it has.
- A kind's name is its tag, and the value of ``kind`` in the configuration.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from forwarder.apis.api import Api
from forwarder.config import Bytes, Duration, Secret, without_users
from forwarder.model import Limits

QUEUE_BYTES = {"memory": Bytes(64 << 20), "disk": Bytes(1 << 30)}
Count = Annotated[int, msgspec.Meta(ge=1)]
_HOST = r"[A-Za-z0-9._:-]+"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+")
Rate = Annotated[float, msgspec.Meta(gt=0)]


def positive(options: msgspec.Struct, *names: str) -> None:
    """Raise ValueError for durations and sizes of 0."""
    if zeros := [name for name in names if getattr(options, name) <= 0]:
        raise ValueError("; ".join(f"{name} is more than 0" for name in zeros))


def ordered(options: msgspec.Struct, least: str, most: str) -> None:
    """Raise ValueError when the one duration is longer than the other."""
    low, high = getattr(options, least), getattr(options, most)
    if low > high:
        raise ValueError(f"{least} is at most {most}, {high.text}; got {low.text}")


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait for this target.

    ``max_events``: when so many wait, senders get 429.
    ``max_bytes``: the same for their bytes; unset, 64MiB in memory, 1GiB on disk.
    """

    max_events: Count = 100_000
    max_bytes: Bytes | None = None

    def __post_init__(self) -> None:
        if self.max_bytes is not None:
            positive(self, "max_bytes")


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When to try again, with full jitter, and when to stop trying.

    ``base``: the first back-off; each further one is twice as long.
    ``cap``: the longest back-off.
    ``max_age``: an older event becomes a dead letter.
    ``max_attempts``: an event that AWS answered and refused so often becomes a dead letter; throttling counts
    nothing.
    """

    base: Duration = Duration(0.2)
    cap: Duration = Duration(30.0)
    max_age: Duration = Duration(86_400.0)
    max_attempts: Count | None = None

    def __post_init__(self) -> None:
        positive(self, "base", "cap", "max_age")
        ordered(self, "base", "cap")


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """How often to ask while only a person can help (credentials, access, something missing).

    ``probe``: the pause before the first try of a held target.
    ``probe_cap``: the longest pause between tries.
    """

    probe: Duration = Duration(30.0)
    probe_cap: Duration = Duration(300.0)

    def __post_init__(self) -> None:
        positive(self, "probe", "probe_cap")
        ordered(self, "probe", "probe_cap")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long one call may take.

    ``connect``: to connect to AWS.
    ``read``: to answer.
    """

    connect: Duration = Duration(3.0)
    read: Duration = Duration(15.0)

    def __post_init__(self) -> None:
        positive(self, "connect", "read")


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role to assume for this target, with the credentials that the usual chain finds.

    ``arn``: the role.
    ``external_id``: what the role's trust policy may ask for.
    ``session_name``: how CloudTrail names the session.
    """

    arn: str
    external_id: Secret | None = None
    session_name: str = "event-forwarder"

    def __post_init__(self) -> None:
        if _ROLE.fullmatch(self.arn) is None:
            raise ValueError(f"arn is one like arn:aws:iam::123456789012:role/name, got {self.arn!r}")


class TargetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that all kinds share.

    ``default``: takes what is bound nowhere; unset, the only target of its kind that binds nothing does.
    ``only_bound``: refuse events for names that are not in `buses`, `app_monitors` or `projects`.
    ``region``: of the endpoint and the signature; unset, the environment's.
    ``endpoint_url``: an endpoint in place of AWS's own; for Evidently, which AWS ended, it must be given.
    ``profile``: of the shared files, for credentials.
    ``use_fips``: AWS's FIPS hosts; unset, as the environment says.
    ``use_dualstack``: AWS's hosts with IPv6 too; unset, as the environment says.
    ``transport``: `fast` repeats a call that the SDK prepared, and holds the target where that is not
    possible; `plain` lets the SDK make every call; `auto` is `fast` where possible, else `plain`.
    ``queue``: where events wait, and so what a 2xx survives: a kill and a power cut with `disk`.
    ``ack``: `queued` answers when the event is in its queue; `delivered` waits, up to 10s, for AWS's word.
    ``workers``: calls in flight, at most.
    ``min_workers``: calls in flight, at least; equal to ``workers`` it is a fixed number.
    """

    api: ClassVar[type[Api]]

    default: bool | None = None
    only_bound: bool = False
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    role: Role | None = None
    use_fips: bool | None = None
    use_dualstack: bool | None = None
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)
    transport: Literal["auto", "fast", "plain"] = "auto"
    queue: Literal["memory", "disk"] = "memory"
    ack: Literal["queued", "delivered"] = "queued"
    queue_limits: QueueLimits = msgspec.field(default_factory=QueueLimits)
    hold: Hold = msgspec.field(default_factory=Hold)
    workers: Count = 32
    min_workers: Count = 1

    def __post_init__(self) -> None:
        """What must hold for every kind. The configuration tells the ValueError with its place."""
        problems = []
        if self.endpoint_url is not None and not _is_url(self.endpoint_url):
            given = without_users(self.endpoint_url)
            problems.append(f"endpoint_url is http:// or https:// and a host, without a user, got {given!r}")
        if self.endpoint_url is not None and (self.use_fips or self.use_dualstack):
            problems.append("use_fips and use_dualstack choose an AWS host, so not with an endpoint_url")
        if self.region is not None and self.endpoint_url is None and not _is_region(self.region):
            problems.append(f"region is a name like eu-west-1, got {self.region!r}")
        if self.min_workers > self.workers:
            problems.append(f"min_workers is at most workers, {self.workers}; got {self.min_workers}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def queue_bytes(self) -> int:
        """The bound of the queue in bytes."""
        given = self.queue_limits.max_bytes
        return int(QUEUE_BYTES[self.queue] if given is None else given)

    @property
    def bound_by(self) -> str:
        """The option that lists the names whose events come to this target."""
        return self.api.bound_by

    @property
    def bound(self) -> tuple[str, ...]:
        """The names whose events come to this target, whatever they are names of."""
        return tuple(getattr(self, self.bound_by))

    @property
    def takes_others(self) -> bool:
        """Whether the target takes names that it does not list, as far as its own options tell."""
        return not self.bound if self.default is None else self.default

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


_is_region = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+").fullmatch


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port  # raises for what is no port
    except ValueError:
        return False
    if "@" in url.netloc:  # a call has room for one proof of who calls, and that is the signature
        return False
    return url.scheme in ("http", "https") and re.fullmatch(_HOST, url.hostname or "") is not None


def call_limits(max_events: int, max_bytes: Bytes, max_wait: Duration) -> Limits:
    """The limits of a target whose single event may fill a call."""
    return Limits(max_events, int(max_bytes), int(max_bytes), float(max_wait))
