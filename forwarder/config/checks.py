"""What must hold between settings, told by the fields that the options of all kinds share.

Invariants:
- Kinds are not known here: an option that a kind does not have constrains nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forwarder.config.settings import Config, IngestConfig
from forwarder.model import FRONT_BYTES
from forwarder.sockets import MAX_PATH_BYTES, is_local

BODIES_AT_ONCE = 4
"""Request bodies of full size that must fit beside full queues, or uploads would starve each other."""


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` names every reason."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def problems(config: Config) -> list[str]:
    """Every contradiction between the settings."""
    return [
        *between_targets(config.targets),
        *_memory(config),
        *_listeners(config),
        *_senders(config.ingest),
        *_control(config),
    ]


def tokens_in_clear(ingest: IngestConfig) -> str:
    """A warning where bearer tokens may cross a network unencrypted; "" where they do not."""
    if not ingest.sends_tokens_in_clear:
        return ""
    return (
        f"ingest.auth.tokens: {ingest.listen} can be reached from other machines without TLS, so bearer "
        "tokens can be read on the network: set ingest.tls, or ingest.auth.behind_tls: true where a proxy "
        "encrypts"
    )


def between_targets(targets: Mapping[str, Any]) -> list[str]:
    """What contradicts itself between targets, and in what a target binds."""
    return [*_two_defaults(targets), *_bound_twice(targets), *_elsewhere(targets), *_only_bound(targets)]


def _only_bound(targets: Mapping[str, Any]) -> Iterator[str]:
    for name, options in targets.items():
        if not getattr(options, "only_bound", False):
            continue
        if options.default:
            yield f"targets.{name}.only_bound: must not be true together with default: true"
        if not _bound(options):
            yield f"targets.{name}.only_bound: must not be true while {options.bound_by} is empty"


def _elsewhere(targets: Mapping[str, Any]) -> Iterator[str]:
    for name, options in targets.items():
        region = getattr(options, "region", None)
        for bound in _bound(options):
            parts = bound.split(":")
            if region and len(parts) > 3 and parts[0] == "arn" and parts[3] not in ("", region):
                yield f"targets.{name}.{options.bound_by}: {bound} is in {parts[3]}, the target in {region}"


def _bound(options: Any) -> Sequence[str]:
    """The names that the options list, by the option that their kind has for that (``bound_by``)."""
    return getattr(options, getattr(options, "bound_by", ""), ())


def _place(options: Any) -> str:
    region = getattr(options, "region", None)
    return f"in {region}" if region else "in the region of the environment"


def _two_defaults(targets: Mapping[str, Any]) -> Iterator[str]:
    seen: dict[tuple[type, str], str] = {}
    for name, options in targets.items():
        if getattr(options, "default", None):
            first = seen.setdefault((type(options), _place(options)), name)
            if first != name:
                yield f"targets.{name}.default: {first} is already the default of this kind {_place(options)}"


def _bound_twice(targets: Mapping[str, Any]) -> Iterator[str]:
    """An ARN and a plain name, or twice the same. ARNs of different accounts are different buses."""
    seen: dict[tuple[type, str, str], dict[str, str]] = {}
    for name, options in targets.items():
        for bound in _bound(options):
            plain = bound.rpartition("/")[2] if bound.startswith("arn:") else bound
            others = seen.setdefault((type(options), _place(options), plain), {})
            first = next((others[each] for each in others if plain in (each, bound) or each == bound), name)
            others.setdefault(bound, name)
            if first != name:
                where = _place(options)
                yield f"targets.{name}.{options.bound_by}: {bound} is already bound to {first} {where}"


def _memory(config: Config) -> Iterator[str]:
    """Each queue has its own reserve, so all of them full must fit into the budget."""
    queues = sum(queue_memory(options) for options in config.targets.values())
    bodies = BODIES_AT_ONCE * config.ingest.max_body
    if queues + bodies > config.ingest.memory_budget:
        yield (
            f"ingest.memory_budget: {_mib(config.ingest.memory_budget)} is less than the queues' "
            f"{_mib(queues)} (targets.*.queue_limits.max_bytes, of a disk queue at most {_mib(FRONT_BYTES)}) "
            f"and {BODIES_AT_ONCE} bodies of {_mib(config.ingest.max_body)}, {_mib(queues + bodies)} together"
            ": raise it, or lower the others"
        )


def queue_memory(options: Any) -> int:
    """Bytes that a target's full queue has in memory; of a disk queue only its front is there."""
    size = int(getattr(options, "queue_bytes", 0))
    return min(size, FRONT_BYTES) if getattr(options, "queue", None) == "disk" else size


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g}MiB"


def _listeners(config: Config) -> Iterator[str]:
    same = config.ingest.listen == config.admin.listen
    if same and (config.ingest.listen.socket_path or config.ingest.listen.address[1] != 0):
        yield f"admin.listen: {config.admin.listen} is already ingest.listen"
    if config.ingest.reuse_port and config.ingest.listen.socket_path:
        yield f"ingest.reuse_port: {config.ingest.listen} is a unix socket; only a TCP port can be shared"


def _senders(ingest: IngestConfig) -> Iterator[str]:
    if ingest.auth.allow_unauthenticated and ingest.is_guarded:
        yield (
            "ingest.auth.allow_unauthenticated: is true, but ingest.auth.tokens, ingest.auth.access_keys or "
            "ingest.tls.client_ca asks who sends: remove it, or them"
        )
    if not is_local(ingest.listen) and not ingest.is_for_all:
        yield exposed(ingest.listen)


def exposed(address: str) -> str:
    """Why a listener is refused that others than this machine reach."""
    return (
        f"ingest.listen: {address} can be reached from other machines, and nothing asks who sends: listen on "
        "127.0.0.1, [::1] or unix:/path, set ingest.auth.tokens, ingest.auth.access_keys or "
        "ingest.tls.client_ca, or say ingest.auth.allow_unauthenticated: true"
    )


def _control(config: Config) -> Iterator[str]:
    path = config.storage.control_socket()
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        yield (
            "storage.path: must have at most "
            f"{MAX_PATH_BYTES - size + len(os.fsencode(config.storage.parent()))} bytes, because the path of "
            f"the unix socket {path} may have at most {MAX_PATH_BYTES} bytes, and has {size}"
        )
