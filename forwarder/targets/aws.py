"""One client of an AWS API: made when first needed, made anew when its credentials are no good, called once.

Invariants:
- ``call`` raises nothing but cancellation: what the SDK raises becomes Results here, and nowhere else.
- Unknown trouble is UNAVAILABLE, which means retry. REFUSED is only what AWS said about this very operation:
  trouble on the way to credentials is never blamed on the events.
- A client that held the target is not used again, so that new credentials, profiles and roles are found;
  calls in flight on it are left to end.
- Credentials are there before a request is made; when they are not, the results say that nothing was sent.
- A 200 whose body is not a JSON object (or nothing) is no answer of AWS's: retry.
- Both call paths, the SDK's own and the fast one, end in the same words: an answer is read here, once, and
  trouble is one of the SDK's exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog
from aiobotocore.session import AioSession
from botocore import exceptions as errors
from botocore import xform_name

from forwarder.apis import wire
from forwarder.apis.codes import OTHER, WRONG_SHAPE, call_status, known_code
from forwarder.config import without_secrets, without_users
from forwarder.model import CallStatus, Outcome, Results, same_for_all
from forwarder.targets.credentials import CredentialsWatch
from forwarder.targets.examining import Facts, examine
from forwarder.targets.fast_path import Answer, FastPath, Keys
from forwarder.targets.options import TargetOptions
from forwarder.targets.session import STAND_IN_REGION, client_config, configured_region, open_session

Read = Callable[[Mapping[str, Any], int], list[Outcome] | None]
"""Reads an answer of so many events; None when it is not what the API answers."""

decode = msgspec.json.Decoder().decode

FAST, PLAIN = "fast", "plain"
TIMEOUT, CONNECTION = "timeout", "connection"
CREDENTIALS, CONFIGURATION, TLS = "credentials", "configuration", "tls"

_TIMEOUTS = (TimeoutError, errors.ReadTimeoutError, errors.ConnectTimeoutError)
_ON_THE_WAY = (
    errors.ConnectionError,
    errors.HTTPClientError,
    errors.MetadataRetrievalError,
    errors.IncompleteReadError,
    errors.ChecksumError,
)
_NO_CREDENTIALS = (
    errors.NoCredentialsError,
    errors.PartialCredentialsError,
    errors.CredentialRetrievalError,
    errors.TokenRetrievalError,
    errors.NoAuthTokenError,
    errors.SSOError,
    errors.LoginError,
)
MAX_MESSAGE = 500
_MISSING = "ResourceNotFoundException"
_ANSWER = "forwarder:answer"

_body: ContextVar[bytes | None] = ContextVar("body", default=None)


class AwsClient:
    """Calls one service for one target. ``transport``: how it makes them, "" before the first."""

    def __init__(
        self,
        service: str,
        options: TargetOptions,
        workers: int,
        name: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.transport: str = PLAIN if options.transport == PLAIN else ""
        self.region = configured_region(options)
        """Empty when none is configured anywhere: an endpoint of the operator's own takes events of any."""
        self._service = service
        self._options = options
        self._wall = wall
        self._log = structlog.get_logger("target").bind(target=name)
        # one more than the workers, so that the target can ask questions of its own while all are busy
        self._config = client_config(options, workers + 1)
        # The SDK's timeouts bound the steps; this bounds name look-ups, credentials and slow drips as well.
        self._deadline = 2 * (float(options.timeouts.connect) + float(options.timeouts.read))
        self.credentials = CredentialsWatch()
        self._opening = asyncio.Lock()
        self._open: _Open | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def call(
        self,
        operation: str,
        params: Mapping[str, Any],
        count: int,
        read: Read,
        body: bytes | None = None,
        *,
        keep_after: Collection[str] = (_MISSING,),
    ) -> Results:
        """Call once and read the answer; trouble of the call is the same for each of the ``count`` events.

        ``body``: what to send in place of the body the SDK makes of ``params``, so that what was serialised
        at ingest is neither parsed nor serialised again. ``params`` are then what decides where the call
        goes, and strings. ``keep_after``: codes that hold, and do not speak against the client.
        """
        client: _Open | None = None
        called = False
        try:
            async with asyncio.timeout(self._deadline):
                client = await self._client()
                keys = await self.credentials.ready(client.session)
                called = True
                client.users += 1
                try:
                    answer = await self._ask(client, keys, operation, params, body)
                finally:
                    client.users -= 1
            outcomes = None if answer is None else read(answer, count)
        except Exception as error:
            results = translate(error, count, operation, self._hide)
            is_no_good = not called or results.code not in keep_after
            if client is not None and results.status is CallStatus.HELD and is_no_good:
                self._retire(client)
            return results if called else msgspec.structs.replace(results, called=False)
        finally:
            self._sweep(client)
        if outcomes is None:
            message = f"{operation} was answered with 200, but not with what it answers"
            return same_for_all(CallStatus.UNAVAILABLE, count, WRONG_SHAPE, message)
        return Results(CallStatus.OK, outcomes)

    async def _ask(
        self, client: _Open, keys: Keys, operation: str, params: Mapping[str, Any], body: bytes | None
    ) -> dict[str, Any] | None:
        """AWS's answer, or None when it is none; raises what the SDK raises."""

        async def by_sdk() -> dict[str, Any] | None:
            with _sending(body):
                response = await getattr(client.sdk, xform_name(operation))(**params)
            answer: dict[str, Any] | None = response[_ANSWER]
            return answer

        if body is None or self._options.transport == PLAIN:
            return await by_sdk()
        answer = await client.fast.post((operation, *params.values()), keys, body, by_sdk)
        if answer is None and client.fast.unfit and self._options.transport == FAST:
            raise errors.InvalidConfigError(error_msg=f"transport is fast, but {client.fast.unfit}")
        self._took(client.fast.unfit)
        return await by_sdk() if answer is None else _read_fast(answer, operation)

    def _hide(self, words: str) -> str:
        """AWS's words: that of a bad signature has all that was signed, the session token too."""
        role = self._options.role
        return without_secrets(words, (*self.credentials.secrets(), role.external_id if role else None))

    def _took(self, unfit: str) -> None:
        transport = PLAIN if unfit else FAST
        if transport != (self.transport or FAST):
            self._log.info(f"calls take the {transport} path", **({"reason": unfit} if unfit else {}))
        self.transport = transport

    async def examine(self, operation: str) -> Facts:
        """What can be found out about this operation's calls without one."""

        def tell(error: Exception) -> str:
            return translate(error, 0, operation, self._hide).message

        return await examine(self._options, self._service, self.region, operation, self.credentials, tell)

    async def close(self) -> None:
        """Close every connection. The client must not be called again."""
        if self._open is not None:
            self._retire(self._open)
        while self._closing:
            await asyncio.wait(self._closing)

    async def _client(self) -> _Open:
        if self._open is None:
            async with self._opening:
                if self._open is None:
                    self._open = await self._new_client()
        return self._open

    async def _new_client(self) -> _Open:
        region = self.region or await asyncio.to_thread(configured_region, self._options)
        region = region or (STAND_IN_REGION if self._options.endpoint_url else "")
        if not region:
            raise errors.NoRegionError
        session = await open_session(self._options, self._service, region)
        await self.credentials.ready(session)
        making = session.create_client(
            self._service, region_name=region, endpoint_url=self._options.endpoint_url, config=self._config
        )
        sdk = await making.__aenter__()
        sdk.meta.events.register("before-call", _give_body)
        sdk.meta.events.register("before-parse", _read_answer)
        return _Open(sdk, session, FastPath(self._wall))

    def _retire(self, client: _Open) -> None:
        """Use this client no more; it is closed when the last call on it has ended."""
        client.retired = True
        if self._open is client:
            self._open = None
        self._sweep(client)

    def _sweep(self, client: _Open | None) -> None:
        if client is not None and client.retired and not client.users and not client.closed:
            client.closed = True
            task = asyncio.create_task(client.sdk.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


@contextlib.contextmanager
def _sending(body: bytes | None) -> Iterator[None]:
    token = _body.set(body)
    try:
        yield
    finally:
        _body.reset(token)


def _give_body(params: dict[str, Any], **_: object) -> None:
    """Runs when the SDK has made its request, before it is signed."""
    body = _body.get()
    if body is not None:
        params["body"] = body


class _Open:
    """An SDK client, the session it is of, its fast path, and how many calls are on it."""

    __slots__ = ("closed", "fast", "retired", "sdk", "session", "users")

    def __init__(self, sdk: Any, session: AioSession, fast: FastPath) -> None:
        self.sdk = sdk
        self.session = session
        self.fast = fast
        self.users = 0
        self.retired = False
        self.closed = False


def translate(
    error: Exception, count: int, operation: str, hide: Callable[[str], str] = without_users
) -> Results:
    """What the SDK raised while it should do ``operation`` with so many events; ``hide`` what is secret."""
    if isinstance(error, errors.ClientError):
        return _refused(error, count, operation, hide)
    status, code = _classify(error)
    return same_for_all(status, count, code, _short(hide(f"{type(error).__name__}: {error}")))


def _classify(error: Exception) -> tuple[CallStatus, str]:
    if isinstance(error, _TIMEOUTS):
        return CallStatus.UNAVAILABLE, TIMEOUT
    if isinstance(error, errors.SSLError):
        return CallStatus.HELD, TLS
    if isinstance(error, _ON_THE_WAY):
        return CallStatus.UNAVAILABLE, CONNECTION
    if isinstance(error, _NO_CREDENTIALS):
        return CallStatus.HELD, CREDENTIALS
    if isinstance(
        error, errors.BotoCoreError
    ):  # all others are about profiles, regions, endpoints, parts missing
        return CallStatus.HELD, CONFIGURATION
    return CallStatus.UNAVAILABLE, OTHER


def _refused(error: errors.ClientError, count: int, operation: str, hide: Callable[[str], str]) -> Results:
    """An answer that is an error, of our operation or of one that should have given us credentials."""
    metadata = error.response.get("ResponseMetadata") or {}
    headers: dict[str, str] = metadata.get("HTTPHeaders") or {}
    http_status = int(metadata.get("HTTPStatusCode") or 0)
    code, message = _words(error, http_status, headers)
    status = call_status(code, http_status)
    if error.operation_name != operation:
        message = f"{error.operation_name}: {message}"
        if status is CallStatus.REFUSED:
            status = CallStatus.HELD
    known = known_code(code)
    message = message if known == code else f"{code}: {message}"
    return same_for_all(status, count, known, _short(hide(message)), wire.retry_delay(headers))


def _words(error: errors.ClientError, http_status: int, headers: Mapping[str, str]) -> tuple[str, str]:
    """AWS's code and message."""
    said = error.response.get("Error") or {}
    code = str(said.get("Code") or http_status)
    if code.isdigit():  # botocore reads the code of JSON 1.1 from the body only
        code = (wire.header(headers, wire.ERROR_HEADER) or code).partition(":")[0]
    if 300 <= http_status < 400:
        return code, f"redirected to {wire.header(headers, 'Location')}; redirects are not followed"
    return code, str(said.get("Message") or f"HTTP status {http_status}")


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"


def _read_answer(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Runs before botocore parses, which reads HTML and lists as answers without members, or breaks on them.

    What is read here is not read again: botocore gets an empty object to parse, or an error in plain words.
    """
    body, headers, status = response_dict["body"], response_dict["headers"], response_dict["status_code"]
    if status >= 300:
        code, message = wire.error_code(body, headers, status)
        response_dict["body"] = wire.error_body(code, message)
        response_dict["headers"] = {**headers, wire.ERROR_HEADER.lower(): code}
        return
    response_dict["body"] = b"{}"
    customized_response_dict[_ANSWER] = _read_object(body)


def _read_fast(answer: Answer, operation: str) -> dict[str, Any] | None:
    status, headers, body = answer
    if status < 300:
        return None if body is None else _read_object(body)
    code, message = wire.error_code(body or b"", headers, status)
    lower = {name.lower(): value for name, value in headers.items()}
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {**lower, wire.ERROR_HEADER.lower(): code}}
    said = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    raise errors.ClientError(said, operation)


def _read_object(body: bytes) -> dict[str, Any] | None:
    """The object of a JSON answer, for which nothing at all will do."""
    try:
        answer = decode(body) if body.strip() else {}
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, and those of UTF-8
        return None
    return answer if isinstance(answer, dict) else None
