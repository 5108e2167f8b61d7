"""HTTP requests that both listeners refuse, because a proxy in front could read them differently.

Invariants:
- Only HTTP/1.0 and HTTP/1.1 are spoken. HTTP/0.9 has no headers, so its senders cannot authenticate.
- HTTP/1.0 has no ``Transfer-Encoding``: a proxy that does not know it takes the body for the next request
  (RFC 9112, section 6.1). Such a request is refused, and its connection closed.
"""

from __future__ import annotations

from aiohttp import HttpVersion10, HttpVersion11, web

from forwarder.aiohttp_private import answer_with, version_of


class Unspoken(Exception):
    """``status``, and a sentence for the sender."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_version(request: web.BaseRequest) -> None:
    """Raises Unspoken; the answer's own version is then HTTP/1.0, and its connection must be closed."""
    version = version_of(request)
    if version == HttpVersion11:
        return
    if version != HttpVersion10:
        answer_with(request, HttpVersion10)
        message = f"HTTP/{version.major}.{version.minor} is not supported; use HTTP/1.1 or HTTP/1.0."
        raise Unspoken(505, message)
    if "Transfer-Encoding" in request.headers:
        message = "Transfer-Encoding is not part of HTTP/1.0; send Content-Length, or use HTTP/1.1."
        raise Unspoken(400, message)
