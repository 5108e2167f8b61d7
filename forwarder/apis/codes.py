"""AWS's error codes: the closed tables that say what each of them means.

Invariants:
- A code stands in one table per place (whole call, entry of one API); what stands in none means retry.
- Only a code that is AWS's word about the very event is permanent, and only one about the very call REFUSED.
- ``KNOWN`` is closed, so that codes can be labels of metrics.
"""

from __future__ import annotations

import msgspec

from forwarder.model import CallStatus, Kind
from forwarder.states import Reason

# The SDKs' common list of throttle codes (botocore, retries/standard.py, names them too), and two of quotas.
_THROTTLED = """
    Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException
    TooManyRequestsException ProvisionedThroughputExceededException TransactionInProgressException
    RequestLimitExceeded BandwidthLimitExceeded LimitExceededException SlowDown PriorRequestNotComplete
    EC2ThrottledException ServiceQuotaExceededException
"""

# Common Errors of each API reference, and the 5xx errors that the three operations list themselves.
_UNAVAILABLE = """
    InternalException InternalFailure InternalError InternalServerError InternalServerException
    ServiceUnavailable ServiceUnavailableException RequestTimeout RequestTimeoutException
    RequestAbortedException MalformedHttpRequestException ConflictException InvalidStateException
"""

# Common Errors again: keys that AWS does not accept.
_OF_CREDENTIALS = """
    ExpiredToken ExpiredTokenException UnrecognizedClientException InvalidClientTokenId
    InvalidAccessKeyId InvalidSignatureException SignatureDoesNotMatch IncompleteSignature
    IncompleteSignatureException MissingAuthenticationToken MissingAuthenticationTokenException
    AuthFailure
"""

# And the clock, policies, and what does not exist.
_HELD = f"""
    {_OF_CREDENTIALS}
    RequestExpired RequestTimeTooSkewed NotAuthorized OptInRequired
    AccessDenied AccessDeniedException ForbiddenException UnauthorizedOperation
    ResourceNotFoundException NotFoundException UnknownOperation UnknownOperationException
    InvalidAction NoSuchEndpoint
"""

_REFUSED = """
    ValidationException ValidationError SerializationException
    RequestEntityTooLarge RequestEntityTooLargeException PayloadTooLargeException
"""

CALL_CODES: dict[str, CallStatus] = {
    code: status
    for status, codes in (
        (CallStatus.THROTTLED, _THROTTLED),
        (CallStatus.UNAVAILABLE, _UNAVAILABLE),
        (CallStatus.HELD, _HELD),
        (CallStatus.REFUSED, _REFUSED),
    )
    for code in codes.split()
}

OF_CREDENTIALS = frozenset(_OF_CREDENTIALS.split())
"""Of those that hold: what new credentials can end."""

ACCESS_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
NOT_FOUND = frozenset({"NotFoundException", "ResourceNotFoundException"})
OF_A_PART = ACCESS_DENIED | NOT_FOUND | {"configuration", "endpoint"}
"""Of those that hold: what may be true of one bus, app monitor, project or endpoint alone."""

ENDPOINT = "endpoint"
"""A call for a global endpoint that could not be made: it says nothing of calls that go elsewhere."""

# These tell nothing without a code we know; every other 4xx is about configuration, and so is a redirect.
_TELLS_NOTHING = {400, 408, 409, 425, 499}

OVERLOADED = frozenset(
    {
        "InternalException",
        "InternalFailure",
        "InternalServerException",
        "ServiceQuotaExceededException",
        "ThrottlingException",
    }
)
"""Entries of an answered call that fail with these tell of a service that has too much to do."""


class EntryCodes(msgspec.Struct, frozen=True):
    """The codes with which single entries of one API's calls fail. A code that is not here means retry.

    ``overloaded``: the service has too much to do, so fewer calls at once may help. An API that has codes of
    its own for that adds them to ``OVERLOADED``; as the code of a whole call they mean throttled, unless
    ``CALL_CODES`` says otherwise.
    """

    retry: frozenset[str] = frozenset()
    permanent: frozenset[str] = frozenset()
    overloaded: frozenset[str] = OVERLOADED

    def kind(self, code: str) -> Kind:
        return Kind.REJECTED if code in self.permanent else Kind.RETRY

    def known(self, code: str) -> str:
        """The code if it is of a closed set, else ``other``."""
        if code in KNOWN or code in self.retry or code in self.permanent or code in self.overloaded:
            return code
        return OTHER


PUT_EVENTS = EntryCodes(
    retry=frozenset({"InternalFailure", "InternalException", "ThrottlingException"}),
    permanent=frozenset(
        {
            "AccessDeniedException",
            "InvalidAccountIdException",
            "InvalidArgument",
            "MalformedDetail",
            "NotAuthorizedForDetailTypeException",
            "NotAuthorizedForSourceException",
            "RedactionFailure",
        }
    ),
)

# Evidently's entries fail with the codes of whole calls. Access, missing and conflicting resources are about
# the project, which can be mended; only a validation is about the event.
PUT_PROJECT_EVENTS = EntryCodes(
    retry=frozenset(
        {
            "AccessDeniedException",
            "ConflictException",
            "InternalServerException",
            "ResourceNotFoundException",
            "ServiceQuotaExceededException",
            "ThrottlingException",
        }
    ),
    permanent=frozenset({"ValidationException"}),
)

NO_ENTRY_CODES = EntryCodes()
"""Of an API that answers no results: only whole calls fail."""

OTHER = "other"
WRONG_SHAPE = "wrong_shape"
OWN = frozenset(
    {OTHER, WRONG_SHAPE, "timeout", "connection", "credentials", "configuration", "endpoint", "tls", "verify"}
)
"""What the forwarder itself calls troubles that no AWS code names."""

_STATUSES = frozenset(map(str, (301, 302, 303, 307, 308, *range(400, 432), *range(500, 512))))
"""SDKs make the HTTP status the code of an answer that has none."""

KNOWN = frozenset(CALL_CODES) | OWN | _STATUSES
"""Of every API; each adds its own ``EntryCodes``."""


def call_status(code: str, status: int, codes: EntryCodes = NO_ENTRY_CODES) -> CallStatus:
    """What became of a call that failed: by its code (a throttle may be a 400), else by its HTTP status.
    ``codes``: of its API."""
    found = CALL_CODES.get(code)
    if found is None and code in codes.overloaded:
        return CallStatus.THROTTLED
    return found or _by_http(status)


def _by_http(status: int) -> CallStatus:
    if status == 429:
        return CallStatus.THROTTLED
    if status == 413:
        return CallStatus.REFUSED
    if 300 <= status < 500 and status not in _TELLS_NOTHING:
        return CallStatus.HELD
    return CallStatus.UNAVAILABLE


_ON_THE_WAY = frozenset({"timeout", "connection", "tls"})
"""Of those that are tried again: no answer came."""

_HELD_FOR = {
    **dict.fromkeys(OF_CREDENTIALS | {"credentials", "401"}, Reason.CREDENTIALS),
    # a clock that is wrong makes every signature wrong
    **dict.fromkeys(("RequestExpired", "RequestTimeTooSkewed"), Reason.CREDENTIALS),
    **dict.fromkeys(ACCESS_DENIED | {"403"}, Reason.ACCESS),
    **dict.fromkeys(("NotAuthorized", "OptInRequired"), Reason.ACCESS),
    **dict.fromkeys(("ForbiddenException", "UnauthorizedOperation"), Reason.ACCESS),
    **dict.fromkeys(NOT_FOUND, Reason.MISSING),
}
"""Why a target is held, by the code of the call; every other code is about the configuration."""


def reason_of(status: CallStatus, code: str) -> Reason:
    """Why a target is backing off or held after a call with this status and code."""
    if status is CallStatus.THROTTLED:
        return Reason.THROTTLED
    if status is CallStatus.UNAVAILABLE:
        return Reason.UNREACHABLE if code in _ON_THE_WAY else Reason.UNAVAILABLE
    return _HELD_FOR.get(code, Reason.CONFIGURATION)
