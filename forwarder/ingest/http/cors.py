"""What pages of other origins are told (CORS, Fetch standard): whether they may send, and read the answer.

Only paths for web pages (``is_for_pages``) answer so. It is no access control: a browser sends a beacon
without asking, and who is no browser asks nobody.

Invariants:
- A preflight is answered before anything is asked of the request: a browser sends no credentials with it, and
  the answer is the same whether or not the app monitor is known.
- Every answer to an allowed origin can be read by the page, errors and their Retry-After among them.
- An origin is written into an answer only as a configured one matched it; of the headers that a preflight
  asks for, only what is a list of header names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web

from forwarder.config import CorsConfig
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http.answers import REQUEST_ID, SERVER

ANY = "*"
DENIED = "AccessDeniedException"
EXPOSED = f"{REQUEST_ID}, x-amzn-ErrorType, Retry-After"

_SUBDOMAINS = re.escape("*.")
_is_names = re.compile(
    r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:\s*,\s*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*", re.ASCII
).fullmatch
_TO_OTHERS: Mapping[str, str] = {"Vary": "Origin"}


class Cors:
    """The configured origins, and what their pages are told."""

    def __init__(self, settings: CorsConfig) -> None:
        self._any = ANY in settings.origins
        self._is_allowed = re.compile("|".join(map(_pattern, settings.origins)), re.ASCII).fullmatch
        self._max_age = str(int(settings.max_age))

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may send."""
        return bool(self._allowed(origin))

    def headers(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        """What belongs into the answer to a request with these headers, whatever it says."""
        origin = self._allowed(asked.get("Origin", ""))
        if not origin:
            return _TO_OTHERS
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a preflight, but for ``headers``; None when the request is none.

        BadRequest: the page may not send. Its browser says only that; our sentence is for who looks there.
        """
        asked = request.headers
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in asked:
            return None
        if not self._allowed(asked.get("Origin", "")):
            raise BadRequest(403, DENIED, "This origin is not among ingest.cors.origins.", events=0)
        told = {"Access-Control-Allow-Methods": "POST", "Access-Control-Max-Age": self._max_age}
        names = asked.get("Access-Control-Request-Headers", "")
        if _is_names(names):
            told["Access-Control-Allow-Headers"] = names
        if asked.get("Access-Control-Request-Private-Network") == "true":  # Chromium, towards loopback
            told["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers={**told, "Server": SERVER})

    def _allowed(self, origin: str) -> str:
        """How the answer names this origin; "" when it is not allowed."""
        if self._any:
            return ANY
        return origin if self._is_allowed(origin) else ""


def _pattern(origin: str) -> str:
    return re.escape(origin).replace(_SUBDOMAINS, r"[a-z0-9._-]+\.")
