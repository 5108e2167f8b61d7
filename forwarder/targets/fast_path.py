"""The fast call path: the SDK shows once how it makes a call, which is then repeated without it.

Invariants:
- Host, path, headers, region, TLS and pool of a call are those of the SDK's own: its signed request is caught
  at the door of its HTTP session, before it is sent. Only the body, the time and the signature change.
- A route is taken only when our signature of the SDK's request was the SDK's, byte for byte.
- What the SDK does in another way (a proxy, SigV4A, a bearer token, a release this was not tested with) is
  left to it, and ``unfit`` says why.
- Every call is signed with the keys it is given, which are the SDK's of that moment.
- Nothing is retried, no redirect followed, no answer of more than MAX_ANSWER_BYTES read. What goes wrong is
  raised as the exception that the SDK would raise.
"""

from __future__ import annotations

import calendar
import hmac
import importlib.metadata
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from botocore import exceptions as errors
from botocore.utils import normalize_url_path

from forwarder.targets.session import rehearsal

TESTED = "3.10."
"""How the versions of aiobotocore begin that this was tested with."""

MAX_ANSWER_BYTES = 1 << 20
MAX_ROUTES = 1_000
"""Routes remembered: one per operation, app monitor or project."""

_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^,]+)/\d{8}/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request, "
    r"SignedHeaders=(?P<names>[^,]+), Signature=[0-9a-f]{64}"
)
_SIGV4A = "AWS4-ECDSA-P256-SHA256 "
_DATE, _TOKEN, _AUTHORIZATION = "x-amz-date", "x-amz-security-token", "authorization"
# Of one call alone: its time and signature, its length, and the id and count of the SDK's tries.
_OF_ONE_CALL = frozenset(
    {_DATE, _TOKEN, _AUTHORIZATION, "content-length", "amz-sdk-invocation-id", "amz-sdk-request"}
)

Wall = Callable[[], float]
BySdk = Callable[[], Awaitable[object]]


class Keys(Protocol):
    """Frozen credentials of the SDK, as far as they sign."""

    @property
    def access_key(self) -> str: ...

    @property
    def secret_key(self) -> str: ...

    @property
    def token(self) -> str | None: ...


class Form(msgspec.Struct, frozen=True):
    """What all calls of a route have in common. ``signed``: what is signed of it, by lower-case names."""

    url: str
    region: str
    service: str
    headers: dict[str, str]
    signed: dict[str, str]


class Signer:
    """Signs calls of one form with one set of credentials (Signature Version 4).

    All that is signed but the body's hash is the same for a whole second, and is prepared once in it.
    """

    __slots__ = (
        "_day",
        "_form",
        "_headers",
        "_key",
        "_keys",
        "_request",
        "_second",
        "_text",
        "_words",
    )

    def __init__(self, form: Form, keys: Keys) -> None:
        self._form = form
        self._keys = keys
        self._day, self._key = "", b""
        self._second = -1

    def headers(self, second: int, body: bytes) -> dict[str, str]:
        """The headers of a call with this body in this second of the epoch."""
        if second != self._second:
            self._prepare(time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))
            self._second = second
        # A copied hash goes on where the original stopped, so that a call hashes little more than its body.
        request, text = self._request.copy(), self._text.copy()
        request.update(sha256(body).hexdigest().encode())
        text.update(request.hexdigest().encode())
        return {**self._headers, "Authorization": self._words + text.hexdigest()}

    def _prepare(self, moment: str) -> None:
        form, keys, day = self._form, self._keys, moment[:8]
        # Deriving the key takes five HMACs, and it is good for a whole day.
        if day != self._day:
            self._day, self._key = day, _key(keys.secret_key, day, form.region, form.service)
        own = {"X-Amz-Date": moment}
        if keys.token:
            own["X-Amz-Security-Token"] = keys.token
        signed = {**form.signed, **{name.lower(): value for name, value in own.items()}}
        names, scope = ";".join(sorted(signed)), f"{day}/{form.region}/{form.service}/aws4_request"
        lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
        path = quote(normalize_url_path(urlsplit(form.url).path), safe="/~")
        self._request = sha256(f"POST\n{path}\n\n{lines}\n{names}\n".encode())
        self._text = hmac.new(self._key, f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n".encode(), sha256)
        self._headers = {**form.headers, **own}
        self._words = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature="
        )


def _key(secret: str, *parts: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (*parts, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class Answer(NamedTuple):
    """``body`` is None when it was longer than any answer of AWS's."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class Route:
    """One way that calls take, and the pooled session on it."""

    __slots__ = ("_form", "_keys", "_session", "_signer", "_url", "_wall")

    def __init__(self, session: aiohttp.ClientSession, url: Any, form: Form, wall: Wall) -> None:
        self._session = session
        self._url = url
        self._form = form
        self._wall = wall
        self._keys: Keys | None = None

    def headers(self, keys: Keys, body: bytes) -> dict[str, str]:
        """The headers of a call that is made now."""
        # Compared for each call: a refresh changes the keys at any moment, and a call signed with the former
        # ones would hold the target.
        if keys != self._keys:
            self._keys, self._signer = keys, Signer(self._form, keys)
        return self._signer.headers(int(self._wall()), body)

    async def post(self, keys: Keys, body: bytes) -> Answer:
        headers = self.headers(keys, body)
        try:
            data = aiohttp.BytesPayload(body)  # what aiohttp would find out by itself
            response = await self._session.post(self._url, data=data, headers=headers, allow_redirects=False)
            try:
                return Answer(response.status, response.headers, await _read(response))
            finally:
                if not response.closed:  # else it was read, and its connection is back in the pool
                    response.close()
        except Exception as error:
            raise _as_the_sdk_says(error, self._form.url) from error


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    # Chunk by chunk: ``read`` would hold an answer of any size in memory before it can be judged.
    content = response.content
    body = await content.readany()
    while not content.at_eof():
        body += await content.readany()
        if len(body) > MAX_ANSWER_BYTES:
            return None
    return body


def _as_the_sdk_says(error: Exception, url: str) -> Exception:
    if isinstance(error, aiohttp.ClientSSLError):
        return errors.SSLError(endpoint_url=url, error=error)  # type: ignore[no-any-return]
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return errors.ConnectionClosedError(endpoint_url=url, error=error)  # type: ignore[no-any-return]
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.ConnectTimeoutError(endpoint_url=url, error=error)  # type: ignore[no-any-return]
    if isinstance(error, TimeoutError):
        return errors.ReadTimeoutError(endpoint_url=url, error=error)  # type: ignore[no-any-return]
    if isinstance(error, aiohttp.ClientConnectionError | OSError):
        return errors.EndpointConnectionError(endpoint_url=url, error=error)  # type: ignore[no-any-return]
    return errors.HTTPClientError(error=error)  # type: ignore[no-any-return]


class FastPath:
    """The fast path of one SDK client. ``unfit``: why calls are left to the SDK; "" while they are not."""

    def __init__(self, wall: Wall = time.time) -> None:
        version = importlib.metadata.version("aiobotocore")
        self.unfit = "" if version.startswith(TESTED) else f"it was not tested with aiobotocore {version}"
        self._wall = wall
        self._routes: dict[tuple[str, ...], Route | None] = {}

    async def post(self, name: tuple[str, ...], keys: Keys, body: bytes, by_sdk: BySdk) -> Answer | None:
        """Make a call; None when it was not made, and is the SDK's to make.

        ``name``: all that decides where the call goes. ``by_sdk`` would make the same call with the SDK.
        """
        if self.unfit:
            return None
        if name not in self._routes and not await self._learn(name, keys, body, by_sdk):
            return None
        route = self._routes[name]
        return None if route is None else await route.post(keys, body)

    async def _learn(self, name: tuple[str, ...], keys: Keys, body: bytes, by_sdk: BySdk) -> bool:
        """Find the route of this name, or that it is the SDK's; False when that could not be found out."""
        seen = await _rehearse(body, by_sdk)
        if seen is not None and seen.headers.get(_AUTHORIZATION, "").startswith(_SIGV4A):
            self._remember(name, None)  # this name alone: a global endpoint. Others are signed with SigV4
            return True
        if seen is None or (unusual := seen.unusual()):
            self.unfit = "the requests that the SDK prepares cannot be read" if seen is None else unusual
            return False
        route = Route(seen.session, seen.url, seen.form(), self._wall)
        if not seen.signed_with(keys):
            return False  # the SDK has others since: nothing is wrong, and the next call finds out
        # With the same moment, keys and body the signature must come out equal. If it does not, the SDK signs
        # something that we do not know of, and AWS would refuse every call.
        headers = Signer(seen.form(), keys).headers(seen.second(), body)
        if headers["Authorization"] != seen.headers[_AUTHORIZATION]:
            self.unfit = "its signature differs from the SDK's"
            return False
        self._remember(name, route)
        return True

    def _remember(self, name: tuple[str, ...], route: Route | None) -> None:
        if len(self._routes) >= MAX_ROUTES:
            self._routes.clear()  # each is found again by one rehearsal, so that no order has to be kept
        self._routes[name] = route


class _Rehearsed(Exception):
    """The SDK was about to send."""


class Seen(msgspec.Struct):
    """What the SDK was about to ask its aiohttp session. The names of ``headers`` are in lower case."""

    session: aiohttp.ClientSession
    method: str
    url: Any
    proxied: bool
    sent: dict[str, str]
    headers: dict[str, str]

    def unusual(self) -> str:
        """Why this cannot be repeated without the SDK, or ""."""
        if self.proxied:
            return "there is a proxy"
        if not _SIGNATURE.fullmatch(self.headers.get(_AUTHORIZATION, "")) or self.second() < 0:
            return "the SDK does not sign with SigV4 in a header"
        if self.method != "POST" or urlsplit(str(self.url)).query:
            return "the SDK does not send a plain POST"
        return ""

    def second(self) -> int:
        """The time of the signature, in seconds of the epoch; -1 when it has none."""
        try:
            return calendar.timegm(time.strptime(self.headers.get(_DATE, ""), "%Y%m%dT%H%M%SZ"))
        except ValueError:
            return -1

    def form(self) -> Form:
        found = _SIGNATURE.fullmatch(self.headers[_AUTHORIZATION])
        assert found is not None
        known = {"host": _host(str(self.url)), **self.headers}
        names = [name for name in found["names"].split(";") if name not in _OF_ONE_CALL]
        kept = {name: value for name, value in self.sent.items() if name.lower() not in _OF_ONE_CALL}
        signed = {name: known[name] for name in names}
        return Form(str(self.url), found["region"], found["service"], kept, signed)

    def signed_with(self, keys: Keys) -> bool:
        found = _SIGNATURE.fullmatch(self.headers[_AUTHORIZATION])
        same_key = found is not None and found["key"] == keys.access_key
        return same_key and self.headers.get(_TOKEN) == (keys.token or None)


def _host(url: str) -> str:
    """The Host header: with a port where it is not the scheme's own."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return host if parts.port in (None, {"http": 80, "https": 443}[parts.scheme]) else f"{host}:{parts.port}"


async def _rehearse(body: bytes, by_sdk: BySdk) -> Seen | None:
    """Let the SDK make a call up to where it would be sent. Raises what the SDK raises before that.

    None when the call was made after all: by a way that is not ours.
    """
    seen: list[Seen] = []

    def look(session: aiohttp.ClientSession, method: str, asked: Mapping[str, Any]) -> None:
        if asked.get("data") == body:  # else it is a call for credentials
            sent = dict(asked["headers"])
            headers = {name.lower(): value for name, value in sent.items()}
            proxied = asked.get("proxy") is not None
            seen.append(Seen(session, method, asked["url"], proxied, sent, headers))
            # Before anything is sent: there is no other way out of the SDK at this point.
            raise _Rehearsed

    token = rehearsal.set(look)
    try:
        await by_sdk()
    except Exception:  # the SDK may have wrapped ours in one of its own; what counts is what was seen
        if not seen:
            raise
    finally:
        rehearsal.reset(token)
    return seen[0] if seen else None
