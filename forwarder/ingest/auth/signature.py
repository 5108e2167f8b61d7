"""AWS's Signature Version 4, seen from the server's side: what a request claims, and whether its key made it.

Both forms are known: the Authorization header, and the query of a presigned URL.

Invariants:
- What is signed is judged as it came on the wire: the query is not decoded and encoded again, so that two
  ways to write one request have two signatures.
- The host and every header that decides what a request means are among what was signed: ``x-amz-*``,
  ``ce-*``, ``Idempotency-Key``, and ``Content-Encoding`` unless it is identity. So is the body:
  UNSIGNED-PAYLOAD is refused.
- Each header that decides came once: a signature cannot tell one header from its parts.
- What was not signed and may have been added on the way (``Prefer``, trace headers, most content types) is
  not refused, since clients and proxies add it honestly; it is not believed either.
- A signature is compared in constant time.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest, digest
from typing import NamedTuple
from urllib.parse import quote, unquote

from multidict import CIMultiDict, CIMultiDictProxy

from forwarder.ingest.auth.access_keys import AccessKey, AccessKeys
from forwarder.ingest.auth.errors import AuthError
from forwarder.ingest.http.media import is_lines

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
DATE, TOKEN, CONTENT_HASH = "X-Amz-Date", "X-Amz-Security-Token", "X-Amz-Content-Sha256"
SIGNATURE = "X-Amz-Signature"
MAX_LIFETIME_SECONDS = 7 * 86400
"""AWS's own bound on a presigned URL."""

CONTENT_TYPE, IDENTITY = "content-type", "identity"
CLOUDEVENT, CLOUDEVENTS = "ce-", "application/cloudevents"
MAX_NAMED = 200
"""Characters of the names of unsigned headers that an answer lists."""

Headers = CIMultiDictProxy[str]

_DECISIVE_PREFIXES = ("x-amz-", CLOUDEVENT)
_DECISIVE = frozenset({"idempotency-key"})
_ADDED_ON_THE_WAY = frozenset({"prefer", "traceparent", "tracestate", "baggage", "x-amzn-trace-id"})

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} +Credential=([^\s,]+) *, *SignedHeaders=([^\s,]+) *, *Signature=([^\s,]+)", re.ASCII
)
_CREDENTIAL = re.compile(
    rf"([A-Za-z0-9_-]{{1,128}})/(\d{{8}})/([a-z0-9-]{{1,64}})/([a-z0-9-]{{1,64}})/{TERMINATOR}", re.ASCII
)
_SIGNED_HEADERS = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+(?:;[a-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_spaces = re.compile("[ \t]+").sub
"""Only these: other white space is part of a value, and one must not become another on the way."""
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII)
_OF_QUERY = ["X-Amz-Algorithm", "X-Amz-Credential", DATE, "X-Amz-Expires", "X-Amz-SignedHeaders", SIGNATURE]


class Request(NamedTuple):
    """What of a request is signed, as it came. ``path`` and ``query`` are percent-encoded."""

    method: str
    path: str
    query: str
    headers: Headers


class Claim(NamedTuple):
    """What a signed request says of itself. ``query``: in canonical form, without the signature.

    ``lifetime``: seconds from its time on, only of a presigned URL. ``content_hash``: "" when not given.
    """

    key_id: str
    day: str
    region: str
    service: str
    signed_headers: str
    signature: str
    time: str
    lifetime: int | None
    session_token: str
    content_hash: str
    query: str


def claim_of(request: Request) -> Claim | None:
    """The claim of a request; None when it is not signed. Raises AuthError."""
    authorization = request.headers.get("Authorization", "")
    in_header, in_query = authorization.startswith(ALGORITHM), f"{SIGNATURE}=" in request.query
    if in_header and in_query:
        raise AuthError("malformed", "The request is signed twice, in its headers and in its query.")
    if in_query:
        return _of_query(request)
    return _of_headers(request, authorization) if in_header else None


def _of_headers(request: Request, authorization: str) -> Claim:
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        raise AuthError("malformed", "Authorization must have Credential, SignedHeaders and Signature.")
    headers = request.headers
    return _claim(
        *match.groups(),
        time=headers.get(DATE, ""),
        lifetime=None,
        session_token=headers.get(TOKEN, ""),
        content_hash=headers.get(CONTENT_HASH, ""),
        query=_canonical_query(request.query),
    )


def _of_query(request: Request) -> Claim:
    pairs = [pair.partition("=")[::2] for pair in request.query.split("&")]
    given = {name: unquote(value) for name, value in pairs if name.startswith("X-Amz-")}
    if len(given) != sum(name.startswith("X-Amz-") for name, _ in pairs) or not given.keys() >= {*_OF_QUERY}:
        raise AuthError("malformed", f"A signed query must have each of these once: {', '.join(_OF_QUERY)}.")
    if given["X-Amz-Algorithm"] != ALGORITHM or not re.fullmatch("[1-9][0-9]{0,5}", given["X-Amz-Expires"]):
        message = f"X-Amz-Algorithm must be {ALGORITHM}, and X-Amz-Expires a number of seconds."
        raise AuthError("malformed", message)
    if int(given["X-Amz-Expires"]) > MAX_LIFETIME_SECONDS:
        raise AuthError("malformed", f"X-Amz-Expires must be at most {MAX_LIFETIME_SECONDS}.")
    return _claim(
        given["X-Amz-Credential"],
        given["X-Amz-SignedHeaders"],
        given[SIGNATURE],
        time=given[DATE],
        lifetime=int(given["X-Amz-Expires"]),
        session_token=given.get(TOKEN, ""),
        content_hash=given.get(CONTENT_HASH, request.headers.get(CONTENT_HASH, "")),
        query=_canonical_query(request.query, without=SIGNATURE),
    )


def _claim(
    credential: str,
    signed_headers: str,
    signature: str,
    *,
    time: str,
    lifetime: int | None,
    session_token: str,
    content_hash: str,
    query: str,
) -> Claim:
    scope = _CREDENTIAL.fullmatch(credential)
    if scope is None or not _SIGNED_HEADERS.fullmatch(signed_headers) or not _HASH.fullmatch(signature):
        raise AuthError("malformed", "Credential, SignedHeaders or Signature is malformed.")
    if content_hash and not _HASH.fullmatch(content_hash):
        raise AuthError(
            "payload", "The body must be signed: its SHA-256 in hexadecimal, not UNSIGNED-PAYLOAD."
        )
    key_id, day, region, service = scope.groups()
    return Claim(
        key_id,
        day,
        region,
        service,
        signed_headers,
        signature,
        time,
        lifetime,
        session_token,
        content_hash,
        query,
    )


def _canonical_query(query: str, without: str | None = None) -> str:
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    return "&".join([f"{name}={value}" for name, value in sorted(pairs) if name != without])


# --- the head


def check_head(
    claim: Claim, request: Request, keys: AccessKeys, service: str, now: float, skew: float
) -> AccessKey:
    """The key that must have signed. Raises AuthError for all that shows without the body.

    ``service``: what the request is for, "" where any will do.
    """
    key = keys.get(claim.key_id)
    if key is None or not compare_digest(_bytes(claim.session_token), key.session_token.encode()):
        raise AuthError("unknown")
    if service and claim.service != service:
        raise AuthError("scope", f"Credential should be scoped to correct service: '{service}'.")
    _check_time(claim, now, skew)
    signed = set(claim.signed_headers.split(";"))
    decisive = {name for name in map(str.lower, request.headers) if _decides(name)}
    if unsigned := sorted({"host", *decisive, *_codings(request.headers)} - signed):
        raise AuthError("signature", f"These headers must be signed: {', '.join(unsigned)[:MAX_NAMED]}.")
    # Two headers ``a`` and ``b`` are signed like one ``a,b``.
    if repeated := sorted(name for name in decisive if len(request.headers.getall(name)) > 1):
        message = f"In a signed request, these headers must be sent once: {', '.join(repeated)[:MAX_NAMED]}."
        raise AuthError("signature", message)
    if claim.content_hash and not is_signed(claim, request, key, claim.content_hash):
        raise AuthError("signature")
    return key


def _codings(headers: Headers) -> list[str]:
    """Content-Encoding, where it decides what the body means."""
    codings = ",".join(headers.getall("Content-Encoding", ())).split(",")
    return ["content-encoding"] if any(each.strip().lower() not in ("", IDENTITY) for each in codings) else []


def _decides(name: str) -> bool:
    """Whether a header of this name (in lower case) decides what a request means."""
    return name.startswith(_DECISIVE_PREFIXES) or name in _DECISIVE


def believed(claim: Claim, headers: Headers) -> Headers:
    """The headers of a signed request without those that anybody on the way may have added.

    An unsigned Content-Type stays where the body has only one valid reading whatever it says: lines of JSON,
    or a CloudEvent in the JSON format (structured or batched) that has no ``ce-*`` header.
    """
    signed = set(claim.signed_headers.split(";"))
    dropped = {name for name in _ADDED_ON_THE_WAY if name in headers and name not in signed}
    if CONTENT_TYPE in headers and CONTENT_TYPE not in signed and not _has_one_reading(headers):
        dropped.add(CONTENT_TYPE)
    if not dropped:
        return headers
    rest = CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)
    return CIMultiDictProxy(rest)


def _has_one_reading(headers: Headers) -> bool:
    plain = headers[CONTENT_TYPE].partition(";")[0].strip().lower()
    if is_lines(plain):
        return True
    has_attributes = any(name[:3].lower() == CLOUDEVENT for name in headers)
    return plain.startswith(CLOUDEVENTS) and not has_attributes


def _check_time(claim: Claim, now: float, skew: float) -> None:
    signed_at = _seconds(claim.time)
    if signed_at is None or claim.time[:8] != claim.day:
        raise AuthError(
            "malformed", f"{DATE} must be like 20261121T123000Z, on the same day as in the Credential."
        )
    if signed_at > now + skew:
        raise AuthError("clock", f"Signature not yet current: {claim.time} is later than this host's clock.")
    if signed_at + (skew if claim.lifetime is None else claim.lifetime) < now:
        raise AuthError("clock", f"Signature expired: {claim.time} is too long ago by this host's clock.")


def _seconds(time: str) -> int | None:
    match = _TIME.fullmatch(time)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    if not (year and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    return calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))


# --- the signature


def check_body(claim: Claim, request: Request, key: AccessKey, body: bytes) -> None:
    """Raises AuthError when the body, as it came, is not what was signed."""
    content_hash = sha256(body).hexdigest()
    if claim.content_hash:  # the head was judged with it
        if not compare_digest(claim.content_hash, content_hash):
            raise AuthError("payload")
    elif not is_signed(claim, request, key, content_hash):
        raise AuthError("signature")


def is_signed(claim: Claim, request: Request, key: AccessKey, content_hash: str) -> bool:
    """Whether the key made the claim's signature for this request with a body of this hash."""
    canonical = "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            claim.query,
            *_canonical_headers(claim.signed_headers, request.headers),
            "",
            claim.signed_headers,
            content_hash,
        )
    )
    scope = f"{claim.day}/{claim.region}/{claim.service}/{TERMINATOR}"
    text = f"{ALGORITHM}\n{claim.time}\n{scope}\n{sha256(_bytes(canonical)).hexdigest()}"
    expected = digest(
        _signing_key(key.secret, claim.day, claim.region, claim.service), text.encode(), "sha256"
    )
    return compare_digest(expected.hex(), claim.signature)


@lru_cache(maxsize=256)
def _signing_key(secret: str, *scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*scope, TERMINATOR):
        key = digest(key, part.encode(), "sha256")
    return key


def _canonical_path(path: str) -> str:
    """Encoded once more, without dots and doubled slashes, as every service but S3 has it."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    start = "/" if path.startswith("/") else ""
    end = "/" if path.endswith("/") and parts else ""
    return quote(_bytes(f"{start}{'/'.join(parts)}{end}"), safe="/~")


def _canonical_headers(signed: str, headers: Headers) -> Iterator[str]:
    for name in signed.split(";"):
        values = [_spaces(" ", value).strip(" ") for value in headers.getall(name, ())]
        yield f"{name}:{','.join(values)}"


def _bytes(text: str) -> bytes:
    """As it came: what is not UTF-8 was decoded to half surrogates."""
    return text.encode("utf-8", "surrogateescape")
