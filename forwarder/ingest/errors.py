"""What ingest says when it takes nothing: one error, one table of codes for every dialect.

Invariants:
- A status has one code per cause, the same in every dialect; only the shape around it differs.
- A ``Dialect`` is only that shape: what it says was decided elsewhere.
- ``BadRequest`` is about a whole request; what is wrong with one event of several is a ``Refusal``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from forwarder.model import QueueFull, QueueUnavailable, Refusal

SERIALIZATION = "SerializationException"
VALIDATION = "ValidationException"
MALFORMED = "MalformedHttpRequestException"
NOT_FOUND = "ResourceNotFoundException"
UNKNOWN_OPERATION = "UnknownOperationException"
VERSION = "HttpVersionNotSupportedException"
METHOD = "MethodNotAllowedException"
TIMEOUT = "RequestTimeoutException"
TOO_LARGE = "RequestEntityTooLargeException"
MEDIA_TYPE = "UnsupportedMediaTypeException"
MISMATCH = "IdempotentParameterMismatchException"
THROTTLING = "ThrottlingException"
HEADERS_TOO_LARGE = "RequestHeaderFieldsTooLargeException"
INTERNAL = "InternalFailure"
UNAVAILABLE = "ServiceUnavailable"


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class BadRequest(Exception):
    """A request of which nothing was taken.

    ``close``: the connection cannot be used again. ``headers`` go into the answer; ``refusals``, where the
    dialect has a place for them, say what is wrong with each event; ``members``: the same, rendered before as
    they are many. ``events``: how many to count as
    refused for ``reason``; a body that could not be read counts as one.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        close: bool = False,
        reason: str = "invalid",
        headers: Mapping[str, str] = NO_HEADERS,
        refusals: Sequence[Refusal] = (),
        events: int = 1,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.close = close
        self.reason = reason
        self.headers = headers
        self.refusals = refusals
        self.events = events
        self.members = b""


class Dialect(msgspec.Struct, frozen=True):
    """The shape of answers. ``aws``: with a request id, and the error's code in a header too."""

    content_type: str
    error: Callable[[BadRequest], bytes]
    aws: bool


def too_large(message: str) -> BadRequest:
    return BadRequest(413, TOO_LARGE, message, reason="too_large")


def full(target: str, problem: QueueFull, events: int) -> BadRequest:
    """What a sender hears when a queue took none of its events."""
    message = f"Target {target}: {problem}."
    if problem.never:
        return BadRequest(413, TOO_LARGE, message, reason="too_large", events=events)
    return BadRequest(429, THROTTLING, message, reason="queue_full", events=events)


def unavailable(target: str, problem: QueueUnavailable, events: int) -> BadRequest:
    """What a sender hears when its events could not be stored."""
    return BadRequest(503, UNAVAILABLE, f"Target {target}: {problem}.", reason="storage", events=events)
