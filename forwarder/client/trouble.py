"""Why a daemon cannot be reached, as a sentence: what was tried, what is wrong, and what to do.

Invariants:
- No word of a library and no Python exception is in a sentence.
- Pure but for a look at the owner of a unix socket.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from forwarder.logs import one_line

ANSWER_SECONDS = 3.0
"""How long a daemon may take for an answer, from the connection to the last byte."""

ELSEWHERE = "or give its address with -c FILE, --path DIRECTORY or --url URL"


def sentence(place: str, error: BaseException) -> str:
    """``place``: the URL that was tried, ``unix:/path`` for a socket."""
    if isinstance(error, TimeoutError):
        return (
            f"the daemon at {place} does not answer: there was no complete answer within "
            f"{ANSWER_SECONDS:g}s. It may be stopped or hung: look at its log, and restart it"
        )
    cause = next((each for each in _causes(error) if isinstance(each, OSError)), None)
    if place.startswith("unix:"):
        return _of_socket(Path(place.removeprefix("unix:")), cause) or _other(place, error, cause)
    return _of_address(place, cause) or _other(place, error, cause)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        inner = getattr(error, "os_error", None)
        if isinstance(inner, BaseException) and inner is not error:
            yield from _causes(inner)
        if not isinstance(error, aiohttp.ClientError):
            yield error
        error = error.__cause__


def _of_socket(path: Path, cause: OSError | None) -> str:
    match cause.errno if cause is not None else None:
        case errno.ENOENT | errno.ENOTDIR:
            missing = path.parent if not os.path.exists(path.parent) else path
            return f"no daemon at {path}: there is no {missing}. Start the daemon, {ELSEWHERE}"
        case errno.ECONNREFUSED:
            return (
                f"no daemon at {path}: the socket exists, but nothing listens on it. The daemon has ended: "
                f"start it again, {ELSEWHERE}"
            )
        case errno.EACCES | errno.EPERM:
            owner = _owner(path)
            return (
                f"user {_name(os.geteuid())} may not use {path}, which belongs to user {owner}. Run the "
                f"command as that user, such as: sudo -u {owner} forwarder ..."
            )
        case errno.EAGAIN:
            return f"the daemon at {path} accepts no connections now: it may be stopped or hung"
    return ""


def _of_address(url: str, cause: OSError | None) -> str:
    if isinstance(cause, socket.gaierror):
        return f"no daemon at {url}: the host name cannot be resolved. Correct it, {ELSEWHERE}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {url} is not trusted: {cause.verify_message}. Use in --url the "
            "host name of the certificate, and set SSL_CERT_FILE to your CA's file"
        )
    if isinstance(cause, ssl.SSLError):
        return f"{url} answers without TLS, or with an unsupported version of TLS. Try http:// in the URL"
    if _is_refused(cause):
        return f"no daemon at {url}: nothing listens there. Start the daemon, {ELSEWHERE}"
    return ""


def _is_refused(cause: OSError | None) -> bool:
    """Also for a name with several addresses, whose errors come as one text."""
    refused = errno.ECONNREFUSED
    return cause is not None and (cause.errno == refused or f"[Errno {refused}]" in str(cause))


def _other(place: str, error: BaseException, cause: OSError | None) -> str:
    if cause is not None and cause.errno and not isinstance(error, aiohttp.ServerDisconnectedError):
        return f"no daemon at {place}: {one_line(cause.strerror or os.strerror(cause.errno))}"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionError):
        return f"{place} closed the connection without a complete answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{place} does not answer with HTTP: it is not a forwarder, or expects TLS (https://)"
    return f"no answer from {place}: the connection failed"


def _owner(path: Path) -> str:
    """The owner of the socket; of the directory that hides it, where it cannot be seen."""
    for each in (path, *path.parents):
        try:
            return _name(each.stat().st_uid)
        except OSError:
            continue
    return "root"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"  # as sudo takes it
