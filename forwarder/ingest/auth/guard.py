"""Asks each request who sends it, before anything else of it is looked at.

Invariants:
- A request whose head does not show it is told no more than that, and its body is not read.
- A signature is of the body as it came: it is judged before the body is unpacked or looked into.
- A browser's preflight (OPTIONS) is not asked: it can carry no credentials, and takes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import structlog
from aiohttp import web

from forwarder.ingest.auth import signature
from forwarder.ingest.auth.access_keys import AccessKeys
from forwarder.ingest.auth.errors import AuthError, refused
from forwarder.ingest.auth.files import SecretFile
from forwarder.ingest.auth.signature import ALGORITHM, Claim, Headers, Request
from forwarder.ingest.auth.tokens import Tokens
from forwarder.ingest.errors import MALFORMED, BadRequest, Dialect
from forwarder.logs import limited
from forwarder.metrics import SenderMetrics
from forwarder.model import Clock

REALM = 'realm="event-forwarder"'


class Admission(NamedTuple):
    """Who sends. ``check_body``: what is still to be asked of the body, as it came.

    ``proven``: what is asked of the body is only whether it is the one that the sender signed.
    ``headers``: those that can be believed, None for all.
    """

    sender: str = ""
    check_body: Callable[[bytes], None] | None = None
    proven: bool = True
    headers: Headers | None = None

    def check_nothing(self) -> None:
        """Of a request whose body is not read: that it has none is what must have been signed."""
        if self.check_body is not None:
            self.check_body(b"")


ANYONE = Admission()


class Guard:
    """Lets in whoever has a token or a key of the files; either may be None, not both."""

    def __init__(
        self,
        tokens: SecretFile[Tokens] | None,
        access_keys: SecretFile[AccessKeys] | None,
        clock_skew: float,
        clock: Clock,
        metrics: SenderMetrics,
    ) -> None:
        self._tokens = tokens
        self._access_keys = access_keys
        self._clock_skew = clock_skew
        self._clock = clock
        self._metrics = metrics
        self._log = structlog.get_logger("ingest")
        schemes = [f"Bearer {REALM}"] * (tokens is not None) + [ALGORITHM] * (access_keys is not None)
        self._schemes = ", ".join(schemes)

    def admit(self, request: web.BaseRequest, dialect: Dialect, service: str, peer: str) -> Admission:
        """Who sends it; BadRequest when it does not show that. ``service``: what requests of its operation
        must be signed for, "" for any."""
        if request.method == "OPTIONS":
            return ANYONE
        try:
            return self._judge(request, dialect, service, peer)
        except AuthError as problem:
            raise self._refuse(problem, dialect, peer) from None

    def _judge(self, request: web.BaseRequest, dialect: Dialect, service: str, peer: str) -> Admission:
        if len(request.headers.getall("Authorization", ())) > 1:
            message = "Send one Authorization header, not several."
            raise BadRequest(400, MALFORMED, message, reason="unauthenticated")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._by_token(token.strip())
        url = request.rel_url
        signed = Request(request.method, url.raw_path, url.raw_query_string, request.headers)
        claim = signature.claim_of(signed)
        if claim is not None:
            return self._by_signature(claim, signed, dialect, service, peer)
        raise AuthError("malformed" if scheme else "missing")

    def _by_token(self, token: str) -> Admission:
        if self._tokens is None:
            raise AuthError("unknown", "This listener does not accept bearer tokens; sign the request.")
        sender = self._tokens.value.sender(token)
        self._metrics.request(sender)
        return Admission(sender)

    def _by_signature(
        self, claim: Claim, request: Request, dialect: Dialect, service: str, peer: str
    ) -> Admission:
        if self._access_keys is None:
            raise AuthError("unknown", "This listener does not accept signatures; send a bearer token.")
        now = self._clock.wall()
        keys = self._access_keys.value
        key = signature.check_head(claim, request, keys, service, now, self._clock_skew)

        def check_body(body: bytes) -> None:
            try:
                signature.check_body(claim, request, key, body)
            except AuthError as problem:
                raise self._refuse(problem, dialect, peer) from None
            self._metrics.request(key.sender)

        headers = signature.believed(claim, request.headers)
        return Admission(key.sender, check_body, bool(claim.content_hash), headers)

    def _refuse(self, problem: AuthError, dialect: Dialect, peer: str) -> BadRequest:
        self._metrics.refused[problem.reason] += 1
        log = limited(self._log, f"unauthenticated {problem.reason}")
        log.warning("unauthenticated request refused", reason=problem.reason, peer=peer)
        return refused(problem, dialect, self._schemes)
