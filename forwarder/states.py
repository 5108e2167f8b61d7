"""The states of a target and the reasons for them: closed sets, the same in status, page, log and metric.

Invariants:
- Every state but ``open`` has a reason; what a reason is about, and what to do, is in ``cures``.
- ``held``: apart from probes, the target is not called until a person acts. ``backing off``: it goes on
  by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class State(enum.StrEnum):
    OPEN = "open"
    BACKING_OFF = "backing_off"
    HELD = "held"


class Reason(enum.StrEnum):
    """NONE: of an open target.

    THROTTLED: AWS asks for fewer calls. UNAVAILABLE: an answer came, and it is an error of the service.
    UNREACHABLE: no answer came (name, connection, TLS handshake, timeout).
    CREDENTIALS, ACCESS: none that AWS accepts; not allowed. MISSING: the bus, app monitor or project.
    STORAGE: dead letters cannot be written. OPERATOR: paused. CONFIGURATION: all else that a person must fix.
    """

    NONE = ""
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"
    CREDENTIALS = "credentials"
    ACCESS = "access"
    MISSING = "missing"
    STORAGE = "storage"
    OPERATOR = "operator"
    CONFIGURATION = "configuration"


REASONS: Mapping[State, tuple[Reason, ...]] = {
    State.OPEN: (Reason.NONE,),
    State.BACKING_OFF: (Reason.THROTTLED, Reason.UNAVAILABLE, Reason.UNREACHABLE),
    State.HELD: (
        Reason.CREDENTIALS,
        Reason.ACCESS,
        Reason.MISSING,
        Reason.STORAGE,
        Reason.OPERATOR,
        Reason.CONFIGURATION,
    ),
}


def in_words(state: str, reason: str = "") -> str:
    """For people: ``held (credentials)``."""
    words = state.replace("_", " ")
    return f"{words} ({reason})" if reason else words
