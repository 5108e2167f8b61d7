"""What is wrong with a request that does not show who sends it, and how that is answered.

Invariants:
- Nothing that a request or a file holds is in a message: what was tried as a secret may be one.
- AWS's clients get AWS's codes with 403, which none of them tries again; all others 401, as HTTP has it.
"""

from __future__ import annotations

from forwarder.ingest.errors import BadRequest, Dialect

INCOMPLETE = "IncompleteSignatureException"
INVALID = "InvalidSignatureException"
MISSING = "MissingAuthenticationTokenException"
UNRECOGNIZED = "UnrecognizedClientException"

_ANSWERS = {
    "missing": (
        MISSING,
        "The request has no token and no signature; this listener requires one (ingest.auth).",
    ),
    "malformed": (INCOMPLETE, "The credentials of the request are incomplete or malformed."),
    "unknown": (UNRECOGNIZED, "The security token included in the request is invalid."),
    "scope": (INVALID, "The credential should be scoped to the service that is called."),
    "clock": (INVALID, "The signature has expired, or is not yet current; check the clocks of both hosts."),
    "signature": (
        INVALID,
        "The request signature we calculated does not match the signature you provided. Check your secret "
        "access key and signing method.",
    ),
    "payload": (INVALID, "The body of the request differs from the one that was signed."),
}


class AuthError(Exception):
    """``reason``: one of metrics' UNAUTHENTICATED_REASONS. ``message``: more than its usual sentence."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message or _ANSWERS[reason][1]


def refused(problem: AuthError, dialect: Dialect, schemes: str) -> BadRequest:
    """The answer. ``schemes``: the ways to show it that this listener knows, for WWW-Authenticate."""
    code = _ANSWERS[problem.reason][0]
    if dialect.aws:
        return BadRequest(403, code, problem.message, reason="unauthenticated")
    headers = {"WWW-Authenticate": schemes}
    return BadRequest(401, code, problem.message, reason="unauthenticated", headers=headers)
