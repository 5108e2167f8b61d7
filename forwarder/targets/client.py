"""One client of an AWS API: made when first needed, made anew when its credentials are no good, called once.

Invariants:
- ``call`` raises nothing but cancellation: what the SDK raises becomes Results (``translation``).
- A client that held the target is not used again, so that new credentials, profiles and roles are found;
  calls in flight on it are left to end.
- Credentials are there before a request is made, and the SDK signs with these. What fails before a call is
  made is trouble of the credentials or the configuration: it holds the target, nothing was sent, and the
  message names the source and the cure.
- One app monitor, project or bus that is denied while others get through speaks against no client.
- A 200 whose body is not an object in the API's encoding (or nothing) is no answer of AWS's: retry.
- Both call paths, the SDK's own and the fast one, end in the same words: an answer is read here, once, and
  trouble is one of the SDK's exceptions.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import structlog
from aiobotocore.credentials import AioCredentials
from botocore import exceptions as errors
from botocore import xform_name
from botocore.credentials import ReadOnlyCredentials

from forwarder.apis import wire
from forwarder.apis.api import JSON_1_1, Codec
from forwarder.apis.codes import ACCESS_DENIED, NO_ENTRY_CODES, WRONG_SHAPE, EntryCodes
from forwarder.config import without_secrets
from forwarder.model import STORED_JSON, CallStatus, Outcome, Results, same_for_all
from forwarder.targets.credentials import Credentials
from forwarder.targets.facts import Facts, examine
from forwarder.targets.fast_path import Answer, FastPath
from forwarder.targets.options import TargetOptions
from forwarder.targets.session import client_config, needed_region, open_session, read_trust, region_at_start
from forwarder.targets.sources import Keys, Progress, SourceTrouble, find_keys
from forwarder.targets.translation import before_call, translate

Read = Callable[[Mapping[str, Any], int], list[Outcome] | None]
"""Reads an answer of so many events; None when it is not what the API answers."""

FAST, PLAIN = "fast", "plain"
_MISSING = "ResourceNotFoundException"
_ANSWER = "forwarder:answer"

_body: ContextVar[bytes | None] = ContextVar("body", default=None)


class AwsClient:
    """Calls one service for one target. ``transport``: how it makes them, "" before the first. ``codec`` and
    ``codes``: of the API."""

    def __init__(
        self,
        service: str,
        options: TargetOptions,
        workers: int,
        name: str = "",
        wall: Callable[[], float] = time.time,
        codec: Codec = JSON_1_1,
        codes: EntryCodes = NO_ENTRY_CODES,
    ) -> None:
        self.transport: str = PLAIN if options.transport == PLAIN else ""
        self.region = region_at_start(options)
        """Empty when none is configured anywhere: an endpoint of the operator's own takes events of any."""
        self._service = service
        self._codec = codec
        self._codes = codes
        self._options = options
        self._wall = wall
        self._log = structlog.get_logger("target").bind(target=name)
        # one more than the workers, so that the target can ask questions of its own while all are busy
        self._config = client_config(options, workers + 1)
        # The SDK's timeouts bound the steps; this bounds name look-ups and slow drips as well.
        self._deadline = 2 * (float(options.timeouts.connect) + float(options.timeouts.read))
        self.credentials = Credentials(self._find, target=name)
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
        keys: Keys | None = None
        called = False
        try:
            keys = await self.credentials.ready()
            async with asyncio.timeout(self._deadline):
                client = await self._client()
                called = True
                client.users += 1
                try:
                    answer = await self._ask(client, keys, operation, params, body)
                finally:
                    client.users -= 1
            outcomes = None if answer is None else read(answer, count)
        except Exception as error:
            if not called or isinstance(error, SourceTrouble):  # the SDK signs by itself, on the plain path
                return before_call(error, count, self._hide)
            results = translate(error, count, self._hide, self.credentials.source, self._codes)
            if client is not None and self._speaks_against(client, results, keep_after):
                self._retire(client)
                self.credentials.drop(keys)
            return results
        finally:
            self._sweep(client)
        if outcomes is None:
            message = f"{operation} was answered with status 200, but not with a valid answer"
            return same_for_all(CallStatus.UNAVAILABLE, count, WRONG_SHAPE, message)
        client.taken = True
        return Results(CallStatus.OK, outcomes)

    @staticmethod
    def _speaks_against(client: _Open, results: Results, keep_after: Collection[str]) -> bool:
        """Whether new credentials or a new client could help. A denial between answers that are none is about
        what was named in the call."""
        if results.status is not CallStatus.HELD or results.code in keep_after:
            return False
        taken, client.taken = client.taken, client.taken and results.code not in ACCESS_DENIED
        return not (taken and results.code in ACCESS_DENIED)

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
            raise errors.InvalidConfigError(error_msg=f"transport: fast cannot be used: {client.fast.unfit}")
        self._took(client.fast.unfit)
        return await by_sdk() if answer is None else _read_fast(answer, operation, self._codec)

    def _hide(self, words: str) -> str:
        """AWS's words: that of a bad signature has all that was signed, the session token too."""
        role = self._options.role
        return without_secrets(words, (*self.credentials.secrets(), role.external_id if role else None))

    def _took(self, unfit: str) -> None:
        transport = PLAIN if unfit else FAST
        if transport != (self.transport or FAST):
            self._log.info(f"calls use the {transport} path", **({"reason": unfit} if unfit else {}))
        self.transport = transport

    async def examine(self, operation: str) -> Facts:
        """What can be found out about this operation's calls without one."""

        def tell(error: Exception) -> str:
            return before_call(error, 0, self._hide).message

        return await examine(self._options, self._service, operation, self.credentials, tell)

    async def close(self) -> None:
        """Close every connection. The client must not be called again."""
        await self.credentials.close()
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
        region = self.region or await asyncio.to_thread(needed_region, self._options)
        session = await open_session(self._options, self._service, _Held(self.credentials))
        verify = await asyncio.to_thread(read_trust, session)
        making = session.create_client(
            self._service,
            region_name=region,
            endpoint_url=self._options.endpoint_url,
            verify=verify,
            config=self._config,
        )
        sdk = await making.__aenter__()
        sdk.meta.events.register("before-call", partial(_give_body, self._codec))
        sdk.meta.events.register("before-parse", partial(_read_answer, self._codec))
        return _Open(sdk, FastPath(self._wall))

    async def _find(self, progress: Progress) -> Keys:
        return await find_keys(self._options, progress, self._hide)

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


def _give_body(codec: Codec, params: dict[str, Any], **_: object) -> None:
    """Runs when the SDK has made its request, before it is signed."""
    body = _body.get()
    if body is not None:
        params["body"] = body
        if codec.stored != STORED_JSON:  # the SDK's header is that of the body it made
            params["headers"]["Content-Type"] = codec.content_type


class _Held(AioCredentials):  # type: ignore[misc]
    """What the SDK signs with: at every call the keys of the target, which it neither finds nor renews."""

    METHOD = "forwarder"

    def __init__(self, credentials: Credentials) -> None:
        super().__init__("", "", method=self.METHOD)
        self._credentials = credentials

    async def load(self) -> AioCredentials:
        """As a credential provider of the SDK."""
        return self

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        keys = await self._credentials.ready()
        return ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token, keys.account_id)


class _Open:
    """An SDK client, its fast path, and how many calls are on it. ``taken``: since AWS last denied one."""

    __slots__ = ("closed", "fast", "retired", "sdk", "taken", "users")

    def __init__(self, sdk: Any, fast: FastPath) -> None:
        self.sdk = sdk
        self.fast = fast
        self.users = 0
        self.taken = False
        self.retired = False
        self.closed = False


def _read_answer(
    codec: Codec, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Runs before botocore parses, which reads HTML and lists as answers without members, or breaks on them.

    What is read here is not read again: botocore gets an empty object to parse, or an error in plain words.
    """
    body, headers, status = response_dict["body"], response_dict["headers"], response_dict["status_code"]
    if status >= 300:
        code, message = wire.error_code(body, headers, status, codec.decode)
        response_dict["body"] = wire.error_body(code, message)
        response_dict["headers"] = {**headers, wire.ERROR_HEADER.lower(): code}
        return
    response_dict["body"] = b"{}"
    customized_response_dict[_ANSWER] = _read_object(body, codec)


def _read_fast(answer: Answer, operation: str, codec: Codec) -> dict[str, Any] | None:
    status, headers, body = answer
    if status < 300:
        return None if body is None else _read_object(body, codec)
    code, message = wire.error_code(body or b"", headers, status, codec.decode)
    lower = {name.lower(): value for name, value in headers.items()}
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {**lower, wire.ERROR_HEADER.lower(): code}}
    said = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    raise errors.ClientError(said, operation)


def _read_object(body: bytes, codec: Codec) -> dict[str, Any] | None:
    """The object of an answer, for which nothing at all will do."""
    try:
        answer = codec.decode(body) if body.strip() else {}
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors, and those of UTF-8
        return None
    return answer if isinstance(answer, dict) else None
