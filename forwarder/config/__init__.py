"""The configuration: settings, their types, how they are read and checked.

Invariants:
- Everything wrong in a file is reported at once, and nothing of it is used.
- No kind of target is known here; ``load`` is told the types of their options.
"""

from forwarder.addresses import Listen, Listens
from forwarder.config.checks import (
    BODIES_AT_ONCE,
    bound_names,
    default_of_kind,
    exposed,
    queue_memory,
    tokens_in_clear,
    warnings,
)
from forwarder.config.kinds import of_kinds
from forwarder.config.problem import ConfigError, Problem, located
from forwarder.config.reading import Kinds, load, parse, placed, storage_of, urls_from
from forwarder.config.redaction import HIDDEN, Secret, redacted, without_secrets, without_users
from forwarder.config.schema import json_schema
from forwarder.config.settings import (
    AdminConfig,
    AuthConfig,
    Config,
    CorsConfig,
    DeadLettersConfig,
    IngestConfig,
    LogConfig,
    ShutdownConfig,
    StorageConfig,
    TlsConfig,
    empty,
)
from forwarder.config.units import Bytes, Duration
from forwarder.config.values import shown_value

__all__ = [
    "BODIES_AT_ONCE",
    "HIDDEN",
    "AdminConfig",
    "AuthConfig",
    "Bytes",
    "Config",
    "ConfigError",
    "CorsConfig",
    "DeadLettersConfig",
    "Duration",
    "IngestConfig",
    "Kinds",
    "Listen",
    "Listens",
    "LogConfig",
    "Problem",
    "Secret",
    "ShutdownConfig",
    "StorageConfig",
    "TlsConfig",
    "bound_names",
    "default_of_kind",
    "empty",
    "exposed",
    "json_schema",
    "load",
    "located",
    "of_kinds",
    "parse",
    "placed",
    "queue_memory",
    "redacted",
    "shown_value",
    "storage_of",
    "tokens_in_clear",
    "urls_from",
    "warnings",
    "without_secrets",
    "without_users",
]
