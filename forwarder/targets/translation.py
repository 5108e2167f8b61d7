"""Turns what the SDK raises into Results.

Invariants:
- Unknown trouble is UNAVAILABLE, which means retry. REFUSED is only what AWS said about this very call.
- A certificate that is not trusted holds, since only a person can mend it; a TLS handshake that fails for
  another reason is trouble on the way.
- What failed before the call holds the target and was not called: it is never blamed on the events, the bus,
  the app monitor or the project.
- A message that tells what to do is cut before that, never in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from botocore import exceptions as errors

from forwarder.apis import wire
from forwarder.apis.codes import NO_ENTRY_CODES, OF_CREDENTIALS, OTHER, EntryCodes, call_status
from forwarder.config import without_users
from forwarder.model import CallStatus, Results, same_for_all
from forwarder.targets.source_table import BY_BUNDLE, in_words, renewal_of
from forwarder.targets.sources import CONFIGURATION, CREDENTIALS, NO_CREDENTIALS, SourceTrouble

TIMEOUT, CONNECTION, TLS = "timeout", "connection", "tls"

_TIMEOUTS = (TimeoutError, errors.ReadTimeoutError, errors.ConnectTimeoutError)
_ON_THE_WAY = (
    errors.ConnectionError,
    errors.HTTPClientError,
    errors.MetadataRetrievalError,
    errors.IncompleteReadError,
    errors.ChecksumError,
)
MAX_MESSAGE = 500
MAX_CAUSE, MAX_ADVICE = 300, 800
"""Of a message with a cure: its cause, and all of it."""


def before_call(error: Exception, count: int, hide: Callable[[str], str] = without_users) -> Results:
    """What failed before anything was sent, for so many events: the target is held for it."""
    if isinstance(error, SourceTrouble):
        code, message = error.code, str(error)
    else:
        code, message = CONFIGURATION, hide(f"{type(error).__name__}: {error}")
    results = same_for_all(CallStatus.HELD, count, code, _short(message, MAX_ADVICE))
    return msgspec.structs.replace(results, called=False)


def translate(
    error: Exception,
    count: int,
    hide: Callable[[str], str] = without_users,
    source: str = "",
    codes: EntryCodes = NO_ENTRY_CODES,
) -> Results:
    """What the SDK raised while it made a call with so many events; ``hide`` takes out what is secret.

    ``source``: of the keys that signed the call. ``codes``: of the API.
    """
    if isinstance(error, errors.ClientError):
        return _refused(error, count, hide, source, codes)
    status, code = _classify(error)
    words = hide(f"{type(error).__name__}: {error}")
    untrusted = code == TLS and status is CallStatus.HELD
    message = f"{_short(words, MAX_CAUSE)}. {BY_BUNDLE}." if untrusted else _short(words)
    return same_for_all(status, count, code, message)


def _classify(error: Exception) -> tuple[CallStatus, str]:
    if isinstance(error, _TIMEOUTS):
        return CallStatus.UNAVAILABLE, TIMEOUT
    if isinstance(error, errors.SSLError):
        handshake = isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorSSLError)
        return (CallStatus.UNAVAILABLE if handshake else CallStatus.HELD), TLS
    if isinstance(error, _ON_THE_WAY):
        return CallStatus.UNAVAILABLE, CONNECTION
    if isinstance(error, NO_CREDENTIALS):
        return CallStatus.HELD, CREDENTIALS
    if isinstance(
        error, errors.BotoCoreError
    ):  # all others are about profiles, regions, endpoints, parts missing
        return CallStatus.HELD, CONFIGURATION
    return CallStatus.UNAVAILABLE, OTHER


def _refused(
    error: errors.ClientError, count: int, hide: Callable[[str], str], source: str, codes: EntryCodes
) -> Results:
    """An answer that is an error. Where AWS does not accept the keys, the message says how to renew them."""
    metadata = error.response.get("ResponseMetadata") or {}
    headers: dict[str, str] = metadata.get("HTTPHeaders") or {}
    http_status = int(metadata.get("HTTPStatusCode") or 0)
    code, message = _words(error, http_status, headers)
    status = call_status(code, http_status, codes)
    known = codes.known(code)
    message = message if known == code else f"{code}: {message}"
    message = _short(hide(message))
    if known in OF_CREDENTIALS and (cure := renewal_of(source)):
        message = f"{_short(message, MAX_CAUSE)} (keys from {in_words(source)}). {cure}."
    return same_for_all(status, count, known, message, wire.retry_delay(headers))


def _words(error: errors.ClientError, http_status: int, headers: Mapping[str, str]) -> tuple[str, str]:
    """AWS's code and message."""
    said = error.response.get("Error") or {}
    code = str(said.get("Code") or http_status)
    if code.isdigit():  # botocore reads the code of JSON 1.1 from the body only
        code = (wire.header(headers, wire.ERROR_HEADER) or code).partition(":")[0]
    if 300 <= http_status < 400:
        return code, f"redirected to {wire.header(headers, 'Location')}; redirects are not followed"
    return code, str(said.get("Message") or f"HTTP status {http_status}")


def _short(message: str, most: int = MAX_MESSAGE) -> str:
    return message if len(message) <= most else message[: most - 1] + "…"
