"""The options of every kind of target, and how the configuration groups them.

Invariants:
- The same words mean the same for every kind; a kind overrides defaults and adds what only it has.
- A kind's name is its tag, and the value of ``kind`` in the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from forwarder.apis.api import Api
from forwarder.config import Bytes, Duration, Problem, Secret, empty, of_kinds, shown_value
from forwarder.model import Limits
from forwarder.queues.building import QueueOptions
from forwarder.queues.kinds import queue_types
from forwarder.queues.memory import MemoryOptions

Count = Annotated[int, Meta(ge=1)]
_HOST = r"[A-Za-z0-9._:-]+"
_SESSION = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+")
Rate = Annotated[float, Meta(gt=0)]
MaxAge = Annotated[Duration, Meta(description="Events older than this become dead letters.")]


def positive(options: msgspec.Struct, *names: str) -> Iterator[Problem]:
    """A problem for each of these durations and sizes that is 0."""
    for name in names:
        if (value := getattr(options, name)) <= 0:
            got = "0s" if isinstance(value, Duration) else "0"
            yield Problem(name, f"must be greater than 0, got {got}")


def ordered(options: msgspec.Struct, least: str, most: str) -> Iterator[Problem]:
    """A problem where the one duration is longer than the other."""
    low, high = getattr(options, least), getattr(options, most)
    if low > high:
        yield Problem(least, f"must be at most {most}, which is {high.text}, got {low.text}", about=(most,))


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be queued for this target."""

    max_events: Annotated[
        Count, Meta(description="Most events in the queue; when it is full, senders get 429.")
    ] = 100_000
    max_bytes: Annotated[
        Bytes | None,
        Meta(description="Most bytes in the queue; if unset, 64MiB in memory, 1GiB on disk."),
    ] = None

    def problems(self) -> Iterator[Problem]:
        if self.max_bytes is not None:
            yield from positive(self, "max_bytes")


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """When to try again, with full jitter, and when to stop trying."""

    base: Annotated[
        Duration,
        Meta(description="First back-off; each next one is twice as long."),
    ] = Duration(0.2)
    cap: Annotated[Duration, Meta(description="Longest back-off.")] = Duration(30.0)
    max_age: MaxAge = Duration(86_400.0)
    max_attempts: Annotated[
        Count | None,
        Meta(
            description="An event that failed in this many answered calls becomes a dead letter; throttling "
            "does not count."
        ),
    ] = None

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "base", "cap", "max_age")
        yield from ordered(self, "base", "cap")


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """How often a held target is tried (credentials, access, or something missing)."""

    probe: Annotated[
        Duration,
        Meta(description="How long a target is held before the first attempt to send again."),
    ] = Duration(30.0)
    probe_cap: Annotated[Duration, Meta(description="Longest pause between tries.")] = Duration(300.0)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "probe", "probe_cap")
        yield from ordered(self, "probe", "probe_cap")


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long one call may take."""

    connect: Annotated[Duration, Meta(description="Time limit to connect to AWS.")] = Duration(3.0)
    read: Annotated[Duration, Meta(description="Time limit for the answer.")] = Duration(15.0)

    def problems(self) -> Iterator[Problem]:
        yield from positive(self, "connect", "read")


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A role to assume for this target, with the credentials that the usual chain finds."""

    arn: Annotated[str, Meta(description="ARN of the role.")]
    external_id: Annotated[
        Secret | None,
        Meta(description="External id, if the role's trust policy requires one."),
    ] = None
    session_name: Annotated[str, Meta(description="Name of the session in CloudTrail.")] = "event-forwarder"

    def problems(self) -> Iterator[Problem]:
        if _ROLE.fullmatch(self.arn) is None:
            form = "arn:aws:iam::123456789012:role/name"
            yield Problem("arn", f"must be the ARN of a role, such as {form}, got {shown_value(self.arn)}")
        if _SESSION.fullmatch(self.session_name) is None:
            yield Problem(
                "session_name",
                f"must be 2 to 64 letters, digits or _+=,.@-, got {shown_value(self.session_name)}",
            )


class TargetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of all kinds of targets."""

    api: ClassVar[type[Api]]

    default: Annotated[
        bool | None,
        Meta(
            description="Accept names that are in no target's list; if unset, this is true for the only "
            "target of its kind, if that has no list."
        ),
    ] = None
    only_bound: Annotated[
        bool,
        Meta(description="Refuse events for names that are not in `buses`, `app_monitors` or `projects`."),
    ] = False
    region: Annotated[
        str | None,
        Meta(description="AWS region of the endpoint and the signature; if unset, the environment's."),
    ] = None
    endpoint_url: Annotated[
        str | None,
        Meta(description="Endpoint to use instead of AWS's; required for Evidently (AWS ended the service)."),
    ] = None
    profile: Annotated[str | None, Meta(description="Profile of the shared AWS files, for credentials.")] = (
        None
    )
    role: Role | None = None
    use_fips: Annotated[
        bool | None,
        Meta(description="Use AWS's FIPS hosts; if unset, the environment decides."),
    ] = None
    use_dualstack: Annotated[
        bool | None,
        Meta(description="Use AWS's hosts that have IPv6 too; if unset, the environment decides."),
    ] = None
    timeouts: Timeouts = msgspec.field(default_factory=Timeouts)
    transport: Annotated[
        Literal["auto", "fast", "plain"],
        Meta(
            description="`plain`: the SDK makes every call. `fast`: calls are copies of one that the SDK "
            "prepared; where that is impossible, nothing is sent. `auto`: `fast` if possible, else `plain`."
        ),
    ] = "auto"
    queue: Annotated[
        QueueOptions,
        of_kinds(
            queue_types,
            description="Where events are queued. With `disk`, accepted events survive a kill and a power "
            "cut. `disk` is short for `{kind: disk}`.",
        ),
    ] = msgspec.field(default_factory=MemoryOptions)
    ack: Annotated[
        Literal["queued", "delivered"],
        Meta(
            description="`queued` answers when the event is in its queue; `delivered` waits up to 10s for "
            "delivery to AWS."
        ),
    ] = "queued"
    queue_limits: QueueLimits = msgspec.field(default_factory=QueueLimits)
    hold: Hold = msgspec.field(default_factory=Hold)
    workers: Annotated[Count, Meta(description="The maximum number of calls in flight.")] = 32
    min_workers: Annotated[
        Count,
        Meta(
            description="Fewest calls in flight that throttling can leave; set it to `workers` for a fixed "
            "number."
        ),
    ] = 1

    def problems(self) -> Iterator[Problem]:
        """What must hold for every kind."""
        yield from self._wrong_place()
        if self.min_workers > self.workers:
            yield Problem(
                "min_workers",
                f"must be at most workers, which is {self.workers}, got {self.min_workers}",
                about=("workers",),
            )
        yield from empty(self, "profile")

    def _wrong_place(self) -> Iterator[Problem]:
        if self.endpoint_url is None:
            if self.region is not None and not _is_region(self.region):
                near = _near_region(self.region)
                message = f"must be a name such as eu-west-1, got {shown_value(self.region)}{near}"
                yield Problem("region", message)
            return
        if why := _wrong_url(self.endpoint_url):
            form = "http:// or https:// with a host, such as https://events.eu-west-1.amazonaws.com"
            yield Problem("endpoint_url", f"must be {form}, {why}, got {shown_value(self.endpoint_url)}")
        for name in ("use_fips", "use_dualstack"):
            if getattr(self, name):
                yield Problem(
                    name,
                    "must not be true together with endpoint_url, because this setting selects an AWS host",
                    about=("endpoint_url",),
                )

    @property
    def queue_bytes(self) -> int:
        """The bound of the queue in bytes."""
        given = self.queue_limits.max_bytes
        return int(self.queue.default_bytes if given is None else given)

    @property
    def queue_memory(self) -> int:
        """Bytes of memory that the full queue needs."""
        return self.queue.memory_bytes(self.queue_bytes)

    @property
    def way(self) -> tuple[object, ...]:
        """What decides where calls go, whom they trust and who signs them: the same for targets that reach
        AWS in the same way."""
        place = (self.region, self.endpoint_url, self.use_fips, self.use_dualstack)
        return (self.kind, *place, self.profile, self.role, self.timeouts, self.transport)

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


def _near_region(text: str) -> str:
    """What was probably meant, to append: other case or separators, or the zone of a region."""
    near = text.strip().lower().replace("_", "-").replace(" ", "-")
    near = near if _is_region(near) else near.rstrip("abcdef")
    return f'. Did you mean "{near}"?' if _is_region(near) else ""


def _wrong_url(text: str) -> str:
    """What is wrong with the URL of an endpoint; "" for a good one."""
    try:
        url = urlsplit(text)
        _ = url.port  # raises for what is no port
    except ValueError as error:
        return f"with a valid host and port ({error})"
    if "@" in url.netloc:  # a call has room for one proof of who calls, and that is the signature
        return "without a user"
    if url.query or text.endswith("?"):
        return "without a query"
    if url.fragment or text.endswith("#"):
        return "without a fragment"
    if url.scheme not in ("http", "https") or re.fullmatch(_HOST, url.hostname or "") is None:
        return "complete"
    return ""


def call_limits(max_events: int, max_bytes: Bytes, max_wait: Duration) -> Limits:
    """The limits of a target whose single event may fill a call."""
    return Limits(max_events, int(max_bytes), int(max_bytes), float(max_wait))


def wrong_names(
    field: str, names: Sequence[str], is_good: Callable[[str], object], forms: str
) -> Iterator[Problem]:
    """A problem for each bus, app monitor or project that AWS cannot have. ``forms``: what it can be."""
    for number, name in enumerate(names):
        if not is_good(name):
            yield Problem(f"{field}[{number}]", f"must be {forms}, got {shown_value(name)}")
