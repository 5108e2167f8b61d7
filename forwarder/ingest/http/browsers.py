"""Refuses events from web pages unless the configuration allows them: any page can make a browser send.

A page of a foreign origin needs no permission to post a simple request to a loopback address; with one, the
page would use the AWS credentials of the user who runs the daemon. Every browser marks such requests, by
``Origin`` or by ``Sec-Fetch-Site`` (Fetch standard; Fetch Metadata), and a page can remove neither.

Invariants:
- Pure: decides from headers alone, before anything else of a request is looked at.
- The paths of some APIs exist for web pages (``is_for_pages``): there the configured origins decide, not
  ``Sec-Fetch-Site``.
- Programs that are not browsers send neither header and are never refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from forwarder.ingest.errors import BadRequest

DENIED = "AccessDeniedException"
MISDIRECTED = "MisdirectedRequestException"
REASON = "browser"
MAX_SHOWN = 100
"""Characters of an origin that an answer repeats."""

_FOREIGN = frozenset({"cross-site", "same-site"})


def check_page(headers: Mapping[str, str], for_pages: str) -> None:
    """Refuse a web page on a path that is not meant for web pages. Raises BadRequest (403).

    ``for_pages``: the services whose paths are.
    """
    origin = headers.get("Origin")
    if origin is None and headers.get("Sec-Fetch-Site") not in _FOREIGN:
        return
    message = (
        f"Web pages{_of(origin)} must not send events to this path. Send to a {for_pages} path from "
        "an origin in ingest.cors.origins, or set ingest.browsers: allow."
    )
    raise BadRequest(403, DENIED, message, reason=REASON, close=True)


def check_origin(headers: Mapping[str, str], is_allowed: Callable[[str], bool]) -> None:
    """Refuse, on paths for web pages, origins that are not configured. Raises BadRequest (403)."""
    origin = headers.get("Origin")
    if origin is None or is_allowed(origin):
        return
    message = f"Web pages{_of(origin)} must not send events here. Add the origin to ingest.cors.origins."
    raise BadRequest(403, DENIED, message, reason=REASON, close=True)


def misdirected(host: str) -> BadRequest:
    """The answer to a GET request for a host name that this listener does not answer to (421)."""
    message = f"This listener does not answer to the host {host[:MAX_SHOWN]!r}. Add the name to ingest.hosts."
    return BadRequest(421, MISDIRECTED, message, reason=REASON, events=0)


def _of(origin: str | None) -> str:
    return "" if origin is None else f" of origin {origin[:MAX_SHOWN]!r}"
