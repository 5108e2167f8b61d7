"""What must hold between settings, told by the fields that the options of all kinds share.

Invariants:
- Kinds are not known here: an option that a kind does not have constrains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from forwarder.addresses import Listen
from forwarder.config.problem import Problem
from forwarder.config.settings import Config, IngestConfig
from forwarder.nearest import SHOWN, listed, others
from forwarder.sockets import MAX_PATH_BYTES, is_local
from forwarder.urls import events_of

BODIES_AT_ONCE = 4
"""Request bodies of full size that must fit beside full queues, or uploads would starve each other."""

_PLACED = ("region", "default")


def problems(config: Config) -> list[Problem]:
    """Every contradiction between the settings."""
    return [
        *_two_defaults(config.targets),
        *_bound_twice(config.targets),
        *_elsewhere(config.targets),
        *_only_bound(config.targets),
        *_memory(config),
        *_listeners(config),
        *_senders(config.ingest),
        *_control(config),
    ]


def warnings(config: Config) -> list[Problem]:
    """What is allowed, and is probably not meant."""
    return [*_reached_by_name_only(config.targets), *tokens_in_clear(config.ingest)]


def tokens_in_clear(ingest: IngestConfig) -> Iterator[Problem]:
    """A warning where bearer tokens may cross a network unencrypted."""
    if ingest.sends_tokens_in_clear:
        open_to_others = ", ".join(each for each in ingest.listen if not is_local(each))
        yield Problem(
            "ingest.auth.tokens",
            f"{open_to_others} can be reached from other machines without TLS, so bearer tokens can be read "
            "on the network: set ingest.tls, or ingest.auth.behind_tls: true where a proxy encrypts",
        )


def default_of_kind(targets: Mapping[str, Any], name: str) -> bool:
    """Whether a target takes what is bound nowhere: as configured; else if it is the only one of its kind and
    binds nothing."""
    options = targets[name]
    if options.default is not None:
        return bool(options.default)
    others = [each for each in targets if type(targets[each]) is type(options) and each != name]
    return not others and not bound_names(options)


def bound_names(options: Any) -> tuple[str, ...]:
    """The names that the options list, by the option that their kind has for that (``bound_by``)."""
    return tuple(getattr(options, getattr(options, "bound_by", ""), None) or ())


def _reached_by_name_only(targets: Mapping[str, Any]) -> Iterator[Problem]:
    """Targets that no SDK call is for, though nobody said ``default: false``; those of one kind together."""
    unreached: dict[type, list[str]] = {}
    for name, options in targets.items():
        if not bound_names(options) and options.default is None and not default_of_kind(targets, name):
            unreached.setdefault(type(options), []).append(name)
    for names in unreached.values():
        first = names[0]
        field = getattr(targets[first], "bound_by", "names")
        yield Problem(
            f"targets.{first}",
            f"SDK calls for this target are refused: it lists no {field}, and other targets have the same "
            f"kind. List {field}, or set default: true in one target of each kind and region. If POST "
            f"{events_of(first)} is enough, set default: false{others(names)}",
        )


def _only_bound(targets: Mapping[str, Any]) -> Iterator[Problem]:
    for name, options in targets.items():
        if not getattr(options, "only_bound", False):
            continue
        if options.default:
            yield Problem(
                f"targets.{name}.only_bound",
                "must not be true together with default: true",
                about=(f"targets.{name}.default",),
            )
        if not bound_names(options):
            yield Problem(
                f"targets.{name}.only_bound",
                f"must not be true while {options.bound_by} is empty",
                about=(f"targets.{name}.{options.bound_by}",),
            )


def _elsewhere(targets: Mapping[str, Any]) -> Iterator[Problem]:
    for name, options in targets.items():
        region = getattr(options, "region", None)
        for number, bound in enumerate(bound_names(options)):
            parts = bound.split(":")
            if region and len(parts) > 3 and parts[0] == "arn" and parts[3] not in ("", region):
                yield Problem(
                    f"targets.{name}.{options.bound_by}[{number}]",
                    f'must be in the region of the target, {region}, got "{bound}", which is in {parts[3]}',
                    about=(f"targets.{name}.region",),
                )


def _place(options: Any) -> str:
    region = getattr(options, "region", None)
    return f"in {region}" if region else "in the region from AWS_REGION or the profile"


def _two_defaults(targets: Mapping[str, Any]) -> Iterator[Problem]:
    seen: dict[tuple[type, str], str] = {}
    for name, options in targets.items():
        if getattr(options, "default", None):
            first = seen.setdefault((type(options), _place(options)), name)
            if first != name:
                yield Problem(
                    f"targets.{name}.default",
                    f"{first} is already the default target of this kind {_place(options)}",
                    about=tuple(f"targets.{each}.{field}" for each in (name, first) for field in _PLACED),
                )


def _bound_twice(targets: Mapping[str, Any]) -> Iterator[Problem]:
    """An ARN and a plain name, or twice the same. ARNs of different accounts are different buses."""
    seen: dict[tuple[type, str, str], dict[str, str]] = {}
    for name, options in targets.items():
        for number, bound in enumerate(bound_names(options)):
            plain = bound.rpartition("/")[2] if bound.startswith("arn:") else bound
            others = seen.setdefault((type(options), _place(options), plain), {})
            first = next((others[each] for each in others if plain in (each, bound) or each == bound), name)
            others.setdefault(bound, name)
            if first != name:
                yield Problem(
                    f"targets.{name}.{options.bound_by}[{number}]",
                    f"{bound} is already bound to {first} {_place(options)}",
                    about=(f"targets.{name}.region", f"targets.{first}.region"),
                )


def _memory(config: Config) -> Iterator[Problem]:
    """Each queue has its own reserve, so all of them full must fit into the budget."""
    queues = sum(queue_memory(options) for options in config.targets.values())
    bodies = BODIES_AT_ONCE * config.ingest.max_body
    if queues + bodies > config.ingest.memory_budget:
        judged = ("queue", "queue_limits")
        yield Problem(
            "ingest.memory_budget",
            f"must be at least {_mib(queues + bodies)}, got {config.ingest.memory_budget.text}: the queues "
            f"need {_mib(queues)} of memory when they are full ({_each(config.targets)}), and "
            f"{BODIES_AT_ONCE} bodies of {config.ingest.max_body.text} need the rest. "
            "Raise it, or lower targets.*.queue_limits.max_bytes or ingest.max_body",
            about=(
                "ingest.max_body",
                *(f"targets.{name}.{field}" for name in config.targets for field in judged),
            ),
        )


def queue_memory(options: Any) -> int:
    """Bytes that a target's full queue has in memory, where its kind has one."""
    return int(getattr(options, "queue_memory", 0))


def _each(targets: Mapping[str, Any]) -> str:
    """The targets whose queues need most, with what they need."""
    ordered = sorted(targets, key=lambda name: queue_memory(targets[name]), reverse=True)
    return listed([f"{name}: {_mib(queue_memory(targets[name]))}" for name in ordered], SHOWN)


def _mib(size: int) -> str:
    """As it can be written in the configuration: in whole MiB, which are no less."""
    return f"{-(-size >> 20)}MiB"


def _listeners(config: Config) -> Iterator[Problem]:
    """Each address must not overlap one before it, of either listener."""
    before: list[tuple[str, Listen]] = []
    for setting, listens in (("ingest.listen", config.ingest.listen), ("admin.listen", config.admin.listen)):
        for path, each in listens.places(setting):
            overlapped = next((other for other in before if each.overlaps(other[1])), None)
            if overlapped is not None:
                yield _overlap(path, each, *overlapped)
            before.append((path, each))
            if (size := len(os.fsencode(each.socket_path or ""))) > MAX_PATH_BYTES:
                limit = f"the path of a unix socket must have at most {MAX_PATH_BYTES} bytes"
                yield Problem(path, f"{limit}, got {size}: {each}")
    if config.ingest.reuse_port:
        for path, each in config.ingest.listen.places("ingest.listen"):
            if each.socket_path:
                where = each if path == "ingest.listen" else f"{path} {each}"
                message = f"{where} is a unix socket; only a TCP port can be shared"
                yield Problem("ingest.reuse_port", message, about=(path,))


def _overlap(path: str, each: Listen, other_path: str, other: Listen) -> Problem:
    if each == other:
        message = f"{each} is already {other_path}: use another port"
    else:
        message = f"{each} overlaps {other_path}, which is {other}: remove one, or use another port"
    return Problem(path, message, about=(other_path,))


def _senders(ingest: IngestConfig) -> Iterator[Problem]:
    if ingest.auth.allow_unauthenticated and ingest.is_guarded:
        yield Problem(
            "ingest.auth.allow_unauthenticated",
            "must not be true together with ingest.auth.tokens, ingest.auth.access_keys or "
            "ingest.tls.client_ca, which authenticate senders: remove this setting, or remove those",
        )
    if not ingest.is_for_all:
        for path, each in ingest.listen.places("ingest.listen"):
            if not is_local(each):
                yield exposed(each, path)


def exposed(address: str, path: str = "ingest.listen") -> Problem:
    """Why a listener is refused that others than this machine reach."""
    return Problem(
        path,
        f"{address} can be reached from other machines, and nothing asks who sends: listen on "
        "127.0.0.1, [::1] or unix:/path, set ingest.auth.tokens, ingest.auth.access_keys or "
        "ingest.tls.client_ca, or say ingest.auth.allow_unauthenticated: true",
        about=("ingest.auth", "ingest.tls"),
    )


def _control(config: Config) -> Iterator[Problem]:
    try:
        path = config.storage.control_socket()
    except RuntimeError:  # no home, which is a problem of storage.path already
        return
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        yield Problem(
            "storage.path",
            "must have at most "
            f"{MAX_PATH_BYTES - size + len(os.fsencode(config.storage.parent()))} bytes: the unix socket "
            f"{path} has a path of {size} bytes, and Linux allows {MAX_PATH_BYTES}",
        )
