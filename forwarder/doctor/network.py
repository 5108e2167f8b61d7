"""The way to an endpoint: its name, its certificate, an answer, and the time on its clock.

Invariants:
- One GET of the endpoint's root, without a signature and without a body: no API takes that for an event.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from forwarder.doctor.findings import Finding
from forwarder.logs import one_line
from forwarder.targets.session import tls_context
from forwarder.targets.source_table import BUNDLES, BY_BUNDLE

REFUSED_SECONDS, ODD_SECONDS = 300.0, 30.0
"""AWS refuses signatures of a clock that is five minutes off; half a minute shows that nobody sets it."""


class Answered(NamedTuple):
    """``date``: of the answer, as it was written. ``asked_at`` and ``answered_at`` by our wall clock."""

    status: int
    date: str
    location: str
    asked_at: float
    answered_at: float


async def examine(
    url: str,
    authorities: tuple[str, str],
    connect: float,
    read: float,
    wall: Callable[[], float] = time.time,
) -> list[Finding]:
    """``authorities``: the setting that names them, "" for none, and their file. ``connect``, ``read``:
    seconds to wait for."""
    setting, ca_file = authorities
    place = urlsplit(url)
    findings = [await _name(place, connect + read)]
    if findings[0].level == "FAIL":
        return findings
    try:
        trust = await asyncio.to_thread(tls_context, ca_file)
    except OSError as error:
        return [*findings, _untrusting(setting, ca_file, error)]
    try:
        bounds = aiohttp.ClientTimeout(total=connect + read, connect=connect)
        answered = await _get(url, trust, bounds, wall)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [*findings, _unreachable(place, error)]
    return [*findings, _secured(place, setting), *_answer(place, answered)]


async def _get(
    url: str, trust: ssl.SSLContext, bounds: aiohttp.ClientTimeout, wall: Callable[[], float]
) -> Answered:
    async with aiohttp.ClientSession(timeout=bounds, trust_env=True) as session:
        asked_at = wall()
        async with session.get(url, ssl=trust, allow_redirects=False) as answer:
            headers = answer.headers
            return Answered(
                answer.status, headers.get("Date", ""), headers.get("Location", ""), asked_at, wall()
            )


async def _name(place: SplitResult, seconds: float) -> Finding:
    host, about = place.hostname or "", "name"
    if _address(host) is not None:
        return Finding("ok", about, f"{host} is an address and needs no DNS look-up")
    if place.scheme in getproxies() and not proxy_bypass(host):
        return Finding(
            "ok", about, f"{host} is resolved by the proxy (HTTPS_PROXY), and was not checked here"
        )
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        return Finding(
            "FAIL",
            about,
            f"{host} cannot be resolved on this host: "
            f"{error.strerror if isinstance(error, OSError) else 'no answer'}",
            "Correct the region or endpoint_url, or this host's DNS.",
        )
    addresses = dict.fromkeys(str(address[0]) for *_, address in found)
    return Finding("ok", about, f"{host} is {', '.join(addresses)}")


def _untrusting(setting: str, ca_file: str, error: OSError) -> Finding:
    return Finding(
        "FAIL",
        "TLS",
        f"the CA certificates of {setting or 'certifi'} cannot be read from {ca_file}: "
        f"{error.strerror or error}",
        f"Name a readable file of PEM certificates in {BUNDLES}.",
    )


def _unreachable(place: SplitResult, error: Exception) -> Finding:
    cause = getattr(error, "os_error", error)  # aiohttp's own sentence has an object's address in it
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Finding(
            "FAIL",
            "TLS",
            f"the certificate of {place.hostname} is not trusted: {one_line(str(cause))}",
            f"Correct the certificate or endpoint_url. {BY_BUNDLE}.",
        )
    said = getattr(cause, "strerror", None) or str(error) or "no answer in time"
    return Finding(
        "FAIL",
        "endpoint",
        f"{place.netloc} cannot be reached: {one_line(said)}",
        "Check routes, security groups, proxies and endpoint_url.",
    )


def _secured(place: SplitResult, setting: str) -> Finding:
    about = "TLS"
    by = f", by {setting}" if setting else ""
    if place.scheme == "https":
        return Finding("ok", about, f"the certificate of {place.hostname} is trusted{by}")
    if _is_here(place.hostname or ""):
        return Finding("ok", about, "not used, and not needed on this host")
    return Finding(
        "warn",
        about,
        "not used: events and the session token can be read on the network",
        "Use https:// in endpoint_url.",
    )


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _answer(place: SplitResult, answered: Answered) -> Iterator[Finding]:
    about = "endpoint"
    if 300 <= answered.status < 400:
        to = urlsplit(answered.location).hostname or "elsewhere"
        yield Finding(
            "warn",
            about,
            f"{place.hostname} redirects to {to}, but redirects are never followed",
            "Correct endpoint_url, or the proxy that redirects.",
        )
    else:
        yield Finding("ok", about, f"{place.hostname} answers (status {answered.status} to a test request)")
    yield clock(answered)


def clock(answered: Answered) -> Finding:
    """How far our clock is from AWS's, which is told in whole seconds."""
    about = "clock"
    try:
        theirs = parsedate_to_datetime(answered.date).timestamp()
    except ValueError:
        return Finding(
            "warn", about, "the answer has no Date header to compare with", "Check the clock of this host."
        )
    early, late = answered.asked_at - (theirs + 1), theirs - answered.answered_at
    off = max(early, late, 0.0)
    if off <= ODD_SECONDS:
        return Finding("ok", about, "this host's clock agrees with the endpoint's")
    side = "ahead of" if early > late else "behind"
    sentence = f"this host's clock is {off:.0f} seconds {side} the endpoint's"
    remedy = "Set the clock, and keep it right with NTP or chrony."
    if off < REFUSED_SECONDS:
        return Finding("warn", about, sentence, remedy)
    return Finding("FAIL", about, f"{sentence}, and AWS rejects signatures made with such a clock", remedy)
