"""Every metric there is: its name, labels and one sentence, in one table; and the label values that exist.

Invariants:
- Label values are closed sets: no bus, session, peer or event id, nothing that grows with what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from forwarder.model import CallStatus, Flush
from forwarder.states import REASONS, State

PREFIX = "forwarder_"
OTHER = "other"
"""The label of what is in no closed set."""

REFUSAL_REASONS = (
    "invalid",
    "too_large",
    "queue_full",
    "set_aside_full",
    "storage",
    "global_endpoint",
    "unauthenticated",
    "unknown_target",
    "browser",
    "memory",
    "too_slow",
)
RETRY_REASONS = ("entry", *(status.value for status in CallStatus if status is not CallStatus.OK))
DEATH_REASONS = ("rejected", "expired", "purged")
DROP_REASONS = ("shutdown", "damaged", "purged", "storage")
FLUSH_REASONS = tuple(flush.value for flush in Flush)
DISK_OPERATIONS = ("open", "read", "write", "sync", "other")
CALL_OUTCOMES = ("ok", "partial", "throttled", "error", "timeout")
TRANSPORTS = ("fast", "plain")
UNAUTHENTICATED_REASONS = ("missing", "malformed", "unknown", "scope", "clock", "signature", "payload")
HANDSHAKE_FAILURES = ("certificate", "timeout", OTHER)
ADMIN_REFUSALS = ("host", "version")
SECRET_FILES = ("tokens", "access_keys", "tls")
STATES = tuple(state.value for state in State)
STATE_REASONS = tuple(reason.value for reasons in REASONS.values() for reason in reasons)
QUEUE_STATES = ("waiting", "in_flight")
REFRESH_OUTCOMES = ("ok", "failed")
BUDGET_KINDS = ("used", "limit")
SET_ASIDE_REASONS = ("missing", "unknown", "uncallable", "released")
QUESTION_ANSWERS = ("exists", "missing", "denied", "unaskable", "unanswered")


class Family(msgspec.Struct, frozen=True):
    """One metric. ``core``: among the few to alarm on."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    core: bool = False


_T = ("target",)
FAMILIES = tuple(
    Family(*row)
    for row in (
        ("events_accepted_total", "counter", _T, "Events accepted into the queue.", True),
        (
            "event_bytes_accepted_total",
            "counter",
            _T,
            "Bytes of accepted events, as the API counts them.",
            True,
        ),
        (
            "events_refused_total",
            "counter",
            (*_T, "reason"),
            "Events refused at ingest; a request whose body was not read counts as 1.",
            True,
        ),
        ("events_delivered_total", "counter", _T, "Events delivered to AWS.", True),
        ("events_retried_total", "counter", (*_T, "reason"), "Times an event went back to the queue.", True),
        ("events_dead_lettered_total", "counter", (*_T, "reason"), "Events kept as dead letters.", True),
        (
            "events_dropped_total",
            "counter",
            (*_T, "reason"),
            "Events lost without a dead letter; must stay 0.",
            True,
        ),
        (
            "events_unconfirmed_total",
            "counter",
            _T,
            "Events counted as delivered to an event bus that was then found to be missing.",
            True,
        ),
        (
            "events_unverified_total",
            "counter",
            _T,
            "Events counted as delivered to an event bus that could not be verified.",
            False,
        ),
        ("events_recovered_total", "counter", _T, "Events found in the queue at start.", False),
        ("events_replayed_total", "counter", _T, "Dead letters put back into the queue.", False),
        ("queue_events", "gauge", (*_T, "state"), "Events in the queue.", True),
        ("queue_bytes", "gauge", (*_T, "state"), "Bytes of the events in the queue.", True),
        (
            "set_aside_events",
            "gauge",
            (*_T, "reason"),
            "Events set aside until their event bus, app monitor, project or endpoint is available.",
            False,
        ),
        (
            "name_questions_total",
            "counter",
            (*_T, "answer"),
            "Calls to verify that an event bus exists, by answer.",
            False,
        ),
        ("queue_capacity_events", "gauge", _T, "Maximum events in the queue.", False),
        ("queue_capacity_bytes", "gauge", _T, "Maximum bytes in the queue.", False),
        ("queue_oldest_event_age_seconds", "gauge", _T, "Age of the oldest event in the queue.", True),
        ("calls_total", "counter", (*_T, "outcome"), "Calls to AWS, by outcome.", True),
        ("batch_events", "summary", _T, "Events per call.", True),
        ("batch_bytes", "summary", _T, "Bytes per call, as the API counts them.", True),
        ("batch_flushes_total", "counter", (*_T, "reason"), "Batches sent, by what triggered them.", False),
        ("send_duration_seconds", "histogram", _T, "Duration of calls to AWS.", True),
        (
            "event_failures_total",
            "counter",
            (*_T, "code"),
            "Failed attempts of single events, by code.",
            False,
        ),
        ("event_attempts", "summary", _T, "Attempts that a delivered event needed.", False),
        ("delivery_latency_seconds", "histogram", _T, "Time from accepted to delivered.", False),
        (
            "target_state",
            "gauge",
            (*_T, "state", "reason"),
            "1 for the target's present state and reason.",
            True,
        ),
        (
            "transport",
            "gauge",
            (*_T, "transport"),
            "1 for the transport in use (fast or plain); absent before the first call.",
            True,
        ),
        (
            "target_last_success_timestamp_seconds",
            "gauge",
            _T,
            "Time when events were last delivered.",
            False,
        ),
        ("send_in_flight", "gauge", _T, "Calls in flight.", False),
        ("send_concurrency_limit", "gauge", _T, "Calls that may be in flight at once.", False),
        ("throttle_wait_seconds_total", "counter", _T, "Time the target spent backing off.", False),
        (
            "credentials_expiry_timestamp_seconds",
            "gauge",
            _T,
            "Time when the credentials expire; absent if they do not.",
            True,
        ),
        (
            "credentials_refresh_total",
            "counter",
            (*_T, "outcome"),
            "Refreshes of credentials: new ones found (ok), or none (failed).",
            True,
        ),
        ("dead_letters_events", "gauge", _T, "Dead letters kept.", False),
        ("dead_letters_bytes", "gauge", _T, "Bytes of the dead letters kept.", False),
        ("dead_letters_dropped_total", "counter", _T, "Dead letters deleted because of size or age.", False),
        (
            "queue_disk_bytes",
            "gauge",
            (),
            "Bytes on disk: the storage file, its write-ahead log and the ballast.",
            False,
        ),
        ("queue_disk_capacity_bytes", "gauge", (), "Limit of the storage file.", False),
        ("queue_disk_errors_total", "counter", ("op",), "Failed or refused disk operations.", False),
        ("queue_disk_commit_duration_seconds", "histogram", (), "Duration of commits, with fsync.", False),
        ("http_requests_total", "counter", ("route", "code"), "Requests answered by ingest.", False),
        ("http_request_duration_seconds", "histogram", ("route",), "Duration of requests to ingest.", False),
        (
            "http_repeated_requests_total",
            "counter",
            ("route",),
            "Requests that repeat an earlier one.",
            False,
        ),
        (
            "http_authenticated_requests_total",
            "counter",
            ("sender",),
            "Authenticated requests, by sender.",
            False,
        ),
        (
            "http_unauthenticated_requests_total",
            "counter",
            ("reason",),
            "Requests refused because they were not authenticated.",
            True,
        ),
        ("tls_handshake_failures_total", "counter", ("reason",), "Failed TLS handshakes.", False),
        (
            "tls_certificate_expiry_timestamp_seconds",
            "gauge",
            (),
            "Time when the listener's certificate expires.",
            True,
        ),
        (
            "secret_file_reads_total",
            "counter",
            ("file", "outcome"),
            "Files of tokens, access keys and certificates read.",
            False,
        ),
        (
            "secret_file_stale",
            "gauge",
            ("file",),
            "1 while a file is invalid and its last valid version is used.",
            True,
        ),
        (
            "http_connections_refused_total",
            "counter",
            (),
            "Connections refused because ingest.max_connections were in use.",
            False,
        ),
        (
            "http_connections_displaced_total",
            "counter",
            (),
            "Idle connections closed because the connection limit was reached and a new client connected.",
            False,
        ),
        (
            "http_unread_answers_total",
            "counter",
            (),
            "Connections closed because the client did not read the response.",
            False,
        ),
        (
            "open_files_exhausted_total",
            "counter",
            (),
            "Seconds in which the limit of open files was reached.",
            False,
        ),
        ("events_awaited", "gauge", (), "Events whose request waits for delivery confirmation.", False),
        ("event_loop_lag_seconds", "histogram", (), "Delay of timers in the event loop.", False),
        (
            "log_lines_dropped_total",
            "counter",
            (),
            "Log lines dropped because stderr was blocked or not writable.",
            False,
        ),
        (
            "admin_requests_refused_total",
            "counter",
            ("reason",),
            "Requests refused by the admin listener because of their host or HTTP version.",
            False,
        ),
        (
            "memory_budget_bytes",
            "gauge",
            ("kind",),
            "Memory for bodies and queues: used, and the limit.",
            False,
        ),
        ("draining", "gauge", (), "1 while the daemon is stopping.", False),
        ("build_info", "gauge", ("version", "python", "aiobotocore"), "Versions in use; always 1.", False),
    )
)

VALUES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("events_refused_total", "reason"): REFUSAL_REASONS,
    ("events_retried_total", "reason"): RETRY_REASONS,
    ("events_dead_lettered_total", "reason"): DEATH_REASONS,
    ("events_dropped_total", "reason"): DROP_REASONS,
    ("queue_events", "state"): QUEUE_STATES,
    ("queue_bytes", "state"): QUEUE_STATES,
    ("batch_flushes_total", "reason"): FLUSH_REASONS,
    ("calls_total", "outcome"): CALL_OUTCOMES,
    ("target_state", "state"): STATES,
    ("target_state", "reason"): STATE_REASONS,
    ("transport", "transport"): TRANSPORTS,
    ("credentials_refresh_total", "outcome"): REFRESH_OUTCOMES,
    ("queue_disk_errors_total", "op"): DISK_OPERATIONS,
    ("memory_budget_bytes", "kind"): BUDGET_KINDS,
    ("set_aside_events", "reason"): SET_ASIDE_REASONS,
    ("name_questions_total", "answer"): QUESTION_ANSWERS,
    ("http_unauthenticated_requests_total", "reason"): UNAUTHENTICATED_REASONS,
    ("tls_handshake_failures_total", "reason"): HANDSHAKE_FAILURES,
    ("secret_file_stale", "file"): SECRET_FILES,
    ("admin_requests_refused_total", "reason"): ADMIN_REFUSALS,
}
"""The values of a family's label, where they are few and known before anything happens."""

SINCE_FIRST: Mapping[str, tuple[str, ...]] = {
    "events_refused_total": ("queue_full", "storage", "memory", "set_aside_full"),
    "events_dead_lettered_total": ("rejected", "expired"),
    "events_dropped_total": ("shutdown", "damaged", "storage"),
    "events_unverified_total": (),
    "events_retried_total": (),
    "calls_total": ("throttled", "error", "timeout"),
    "batch_flushes_total": (),
    "name_questions_total": (),
    "set_aside_events": (),
    "credentials_refresh_total": ("failed",),
    "batch_events": (),
    "batch_bytes": (),
    "event_attempts": (),
    "send_duration_seconds": (),
    "delivery_latency_seconds": (),
}
"""Families of a target whose series begin when they first count, so that many targets do not make
``/metrics`` large. Each has the values of its last label that have a series from the start, with 0: those
that alerts take a rate of. A rate misses the first time of a series that begins with it."""
