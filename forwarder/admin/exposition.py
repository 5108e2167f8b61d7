"""``/metrics`` in the format that the scraper asks for.

Invariants:
- prometheus-client decides which format and which encoding the headers of a request mean.
- There are two bodies, text and OpenMetrics, and each is made at most once in ``max_age`` seconds, whatever
  headers are sent. All our names are plain, so that no escaping scheme changes a body.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from gzip import compress

from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

Encoder = Callable[[Collector], bytes]

OPENMETRICS = "application/openmetrics-text"
NEWEST = f"{OPENMETRICS}; version=1.0.0"
"""For those who ask for a newer OpenMetrics, or for a version that is no number."""

COMPRESSION = 1
"""The fastest: metrics are repetitive, and the event loop waits for this."""


class MetricsAnswers:
    """``expose`` renders all metrics with one of prometheus-client's encoders."""

    def __init__(self, expose: Callable[[Encoder], bytes], max_age: float) -> None:
        self._expose = expose
        self._max_age = max_age
        self._made: dict[str, tuple[float, bytes]] = {}

    def answer(self, accept: str, accept_encoding: str) -> tuple[dict[str, str], bytes]:
        """The headers that say what it is, and the body."""
        encoder, content_type = _choose(accept)
        body = content_type.partition(";")[0]
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        plain = self._cached(body, lambda: self._expose(encoder))
        if not gzip_accepted(accept_encoding):
            return headers, plain
        packed = self._cached(f"{body} in gzip", lambda: compress(plain, COMPRESSION))
        return headers | {"Content-Encoding": "gzip"}, packed

    def _cached(self, name: str, make: Callable[[], bytes]) -> bytes:
        now = time.monotonic()
        made_at, body = self._made.get(name, (-math.inf, b""))
        if now - made_at >= self._max_age:
            body = make()
            self._made[name] = now, body
        return body


def _choose(accept: str) -> tuple[Encoder, str]:
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number
        return choose_encoder(NEWEST if OPENMETRICS in accept else "")
    if content_type.startswith(OPENMETRICS) and not content_type.startswith(f"{NEWEST};"):
        return choose_encoder(NEWEST)
    return encoder, content_type
