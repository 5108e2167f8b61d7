"""The paths of the daemon's listeners: the servers route by them, and the client and the messages name them.
Also where the sandbox listens, which its command says before it loads the sandbox.

Paths of AWS's APIs are not here: ``apis`` has them.
"""

from __future__ import annotations

# --- the data listener

NATIVE = "/v1/"
"""All paths that are not AWS's begin so. An unknown one gets an error of the native dialect."""
TARGETS, EVENTS = "/v1/targets/", "/events"
CLOUDEVENTS = "/v1/cloudevents/"
OPENAPI = "/v1/openapi.json"


def events_of(target: str) -> str:
    """Where native events for a target are sent. ``target``: percent-encoded where that is needed."""
    return f"{TARGETS}{target}{EVENTS}"


# --- the admin listener

HEALTH = "/health/"
LIVE, READY = "/health/live", "/health/ready"
METRICS, STATUS, HISTORY, CONFIG = "/metrics", "/status", "/history", "/config"

# --- the sandbox

SANDBOX = "127.0.0.1:2790"
"""Where it listens unless told otherwise."""

# --- the control socket

LISTENERS = "/listeners"
TARGET_NAMES = "/targets"
COUNT_LETTERS, PURGE_LETTERS = "/dead-letters/count", "/dead-letters/purge"
COUNT_QUEUE, PURGE_QUEUE = "queue/count", "queue/purge"


def operation_on(target: str, operation: str) -> str:
    """Where one target is controlled: ``pause``, ``resume``, ``flush``, ``replay`` or one of its queue."""
    return f"/targets/{target}/{operation}"
