"""The configuration: settings, their types, how they are read and checked.

Invariants:
- Everything wrong in a file is said at once, and nothing of it is used.
- No kind of target is known here; ``load`` is told the types of their options.
"""

from forwarder.config.checks import (
    BODIES_AT_ONCE,
    ConfigError,
    exposed,
    problems,
    queue_memory,
    tokens_in_clear,
)
from forwarder.config.reading import Kinds, admin_listen, load, parse
from forwarder.config.redaction import HIDDEN, Secret, shown, without_secrets, without_users
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
)
from forwarder.config.units import Bytes, Duration, Listen

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
    "LogConfig",
    "Secret",
    "ShutdownConfig",
    "StorageConfig",
    "TlsConfig",
    "admin_listen",
    "exposed",
    "json_schema",
    "load",
    "parse",
    "problems",
    "queue_memory",
    "shown",
    "tokens_in_clear",
    "without_secrets",
    "without_users",
]
