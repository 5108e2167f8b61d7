"""What must hold between settings, told by the fields that the options of all kinds share.

Invariants:
- Kinds are not known here: an option that a kind does not have constrains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forwarder.config.reading import ConfigError
from forwarder.config.settings import Config
from forwarder.model import FRONT_BYTES

BODIES_AT_ONCE = 4
"""Request bodies of full size that must fit beside full queues, or uploads would starve each other."""

_BOUND = ("buses", "app_monitors", "projects")


def cross_check(config: Config) -> None:
    """Raise ConfigError with every contradiction between the settings."""
    problems = [*_two_defaults(config), *_bound_twice(config), *_memory(config), *_listeners(config)]
    if problems:
        raise ConfigError(problems)


def _place(options: Any) -> str:
    region = getattr(options, "region", None)
    return f"in {region}" if region else "in the region of the environment"


def _two_defaults(config: Config) -> Iterator[str]:
    seen: dict[tuple[type, str], str] = {}
    for name, options in config.targets.items():
        if getattr(options, "default", None):
            first = seen.setdefault((type(options), _place(options)), name)
            if first != name:
                yield f"targets.{name}.default: {first} is already the default of this kind {_place(options)}"


def _bound_twice(config: Config) -> Iterator[str]:
    seen: dict[tuple[type, str, str], str] = {}
    for name, options in config.targets.items():
        for field in _BOUND:
            for bound in getattr(options, field, None) or ():
                plain = bound.rpartition("/")[2] if bound.startswith("arn:") else bound
                first = seen.setdefault((type(options), _place(options), plain), name)
                if first != name:
                    yield f"targets.{name}.{field}: {bound} is already bound to {first} {_place(options)}"


def _memory(config: Config) -> Iterator[str]:
    """Each queue has its own reserve, so all of them full must fit into the budget."""
    queues = sum(queue_memory(options) for options in config.targets.values())
    bodies = BODIES_AT_ONCE * config.ingest.max_body
    if queues + bodies > config.ingest.memory_budget:
        yield (
            f"ingest.memory_budget: {_mib(config.ingest.memory_budget)} is less than the queues' "
            f"{_mib(queues)} (targets.*.queue_limits.max_bytes, of a disk queue at most {_mib(FRONT_BYTES)}) "
            f"and {BODIES_AT_ONCE} bodies of "
            f"{_mib(config.ingest.max_body)}, {_mib(queues + bodies)} together"
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
