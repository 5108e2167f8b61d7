"""The numbers about who may send: requests by sender, requests refused, and the files that decide it.

Invariants:
- A sender is counted by its name in a file of ours, never by anything that a request says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from forwarder.metrics.families import HANDSHAKE_FAILURES, OTHER, SECRET_FILES, UNAUTHENTICATED_REASONS
from forwarder.metrics.numbers import Sample

MAX_SENDERS = 64
"""Names that are counted by themselves; more are counted together."""


class SenderMetrics:
    """``certificate_ends`` answers when ours does: None without TLS."""

    __slots__ = ("_requests", "certificate_ends", "failed_handshakes", "reads", "refused", "stale")

    def __init__(self) -> None:
        self._requests: dict[str, int] = {}
        self.refused = dict.fromkeys(UNAUTHENTICATED_REASONS, 0)
        self.failed_handshakes = dict.fromkeys(HANDSHAKE_FAILURES, 0)
        self.reads: dict[tuple[str, str], int] = {}
        self.stale: dict[str, bool] = {}
        self.certificate_ends: Callable[[], float | None] = lambda: None

    def request(self, sender: str) -> None:
        """A request showed that it is from this sender."""
        if sender not in self._requests and len(self._requests) >= MAX_SENDERS:
            sender = OTHER
        self._requests[sender] = self._requests.get(sender, 0) + 1

    def read(self, file: str, *, ok: bool) -> None:
        """One of SECRET_FILES was read, or could not be; then the last good one stays in force."""
        assert file in SECRET_FILES
        outcome = "ok" if ok else "failed"
        self.reads[file, outcome] = self.reads.get((file, outcome), 0) + 1
        self.stale[file] = not ok

    def samples(self) -> Iterator[Sample]:
        for sender, n in self._requests.items():
            yield "http_authenticated_requests_total", (sender,), n
        for reason, n in self.refused.items():
            yield "http_unauthenticated_requests_total", (reason,), n
        for reason, n in self.failed_handshakes.items():
            yield "tls_handshake_failures_total", (reason,), n
        for (file, outcome), n in self.reads.items():
            yield "secret_file_reads_total", (file, outcome), n
        for file, stale in self.stale.items():
            yield "secret_file_stale", (file,), int(stale)
        if (ends_at := self.certificate_ends()) is not None:
            yield "tls_certificate_expiry_timestamp_seconds", (), ends_at
