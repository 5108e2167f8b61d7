"""CloudWatch RUM ``PutRumEvents``: its events, envelopes, checks, and answers.

Page: CloudWatch RUM API reference, PutRumEvents, RumEvent, UserDetails, AppMonitorDetails.

Invariants:
- A call carries the events of one user session, so its envelope (all but the events) is the events' key;
  from the key alone the target can rebuild the call.
- RUM takes all of a call or nothing, so one bad event refuses the whole call, on the wire.
- A client's BatchId is part of the key: its batch stays one batch. Native events without one may be joined.
- The length of each text of an event is judged before anything looks inside it.
- With ``merge`` no BatchId is part of a key: whatever has equal envelopes but for it may be joined.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec

from forwarder.apis.api import REST_JSON, Codec
from forwarder.apis.codes import NO_ENTRY_CODES, EntryCodes
from forwarder.apis.schema import OBJECT, TEXT, TIME, Schema, struct
from forwarder.apis.wire import (
    Native,
    Number,
    escaped_length,
    interned,
    is_json_object,
    not_an_object,
    object_text,
    raw_members,
    serialise,
    time_number,
    utf8_length,
)
from forwarder.model import Draft, Kind, Outcome, Refusal

MAX_TYPE = 256
"""CloudWatch user guide, "Send custom events": a type has 1 to 256 characters."""
MAX_ALIAS = 255
"""PutRumEvents, Alias: minimum length of 1, maximum length of 255."""

DEFAULT_MAX_EVENT_BYTES = 1 << 20
"""Ours: AWS publishes no limit, and the SDKs' models have none."""

VALIDATION = "ValidationException"

UUID_PATTERN = r"[a-fA-F0-9]{8}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{4}-[a-fA-F0-9]{12}"
is_uuid = re.compile(UUID_PATTERN).fullmatch
_BATCH_IDS = uuid.UUID("6f6c5a52-6d5f-4a0b-9c43-1f0f6b0c2a77")
"""Ours, drawn once: the name space of BatchIds that are made of event ids."""
_ABSENT = msgspec.Raw(b"null")
_DELIVERED = Outcome(Kind.DELIVERED)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class AppMonitorDetails(msgspec.Struct, gc=False, omit_defaults=True):
    name: str | None = None
    id: str | None = None
    version: str | None = None


class UserDetails(msgspec.Struct, gc=False, omit_defaults=True):
    userId: str | None = None
    sessionId: str | None = None


class RumEvent(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """RumEvent; ``details`` and ``metadata`` are texts of JSON objects. Admission checks what is required."""

    id: str | None = None
    timestamp: int | float | str | None = None
    type: str | None = None
    details: str | None = None
    metadata: str | None = None


class Envelope(msgspec.Struct, kw_only=True):
    """What a PutRumEvents call says beside its events."""

    BatchId: str | None = None
    AppMonitorDetails: AppMonitorDetails | None = None
    UserDetails: UserDetails | None = None
    Alias: str | None = None
    SessionMetadata: str | None = None


class Request(Envelope, kw_only=True):
    """A PutRumEvents call, but for the app monitor's id, which is in its path."""

    RumEvents: list[RumEvent]


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """An event with its envelope, as our own API takes it; JSON texts may be objects instead."""

    id: str | None = None
    timestamp: int | float | str | None = None
    type: str | None = None
    details: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    AppMonitorId: str | None = None
    AppMonitorDetails: AppMonitorDetails | None = None
    UserDetails: UserDetails | None = None
    Alias: str | None = None
    SessionMetadata: msgspec.Raw = _ABSENT
    BatchId: str | None = None


_PATH = "/appmonitors/"
_other_paths = re.compile(r"/(?:appmonitors?|rummetrics)(?:/|$)").search
UUID_SCHEMA: Schema = {"type": "string", "pattern": f"^{UUID_PATTERN}$"}
_RULES: dict[str, Schema] = {
    "id": {**UUID_SCHEMA, "description": "By default a new UUID."},
    "timestamp": TIME,
    "type": {"type": "string", "minLength": 1, "maxLength": MAX_TYPE},
    "details": OBJECT,
    "metadata": OBJECT,
    "AppMonitorId": {
        **UUID_SCHEMA,
        "description": "If omitted: the target's app monitor, if it has exactly one.",
    },
    "AppMonitorDetails": struct(AppMonitorDetails, {"name": TEXT, "id": TEXT, "version": TEXT}),
    "UserDetails": struct(UserDetails, {"userId": UUID_SCHEMA, "sessionId": UUID_SCHEMA}),
    "Alias": {"type": "string", "minLength": 1, "maxLength": MAX_ALIAS},
    "SessionMetadata": OBJECT,
    "BatchId": {**UUID_SCHEMA, "description": "Events with the same value are sent in one call."},
}


class _Envelope(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """The parameters of a call but for its events, in the order they are written into keys."""

    Id: str
    BatchId: str | None = None
    AppMonitorDetails: AppMonitorDetails
    UserDetails: UserDetails
    Alias: str | None = None
    SessionMetadata: str | None = None


class _Monitor(msgspec.Struct, gc=False):
    Id: str


_decode_monitor = msgspec.json.Decoder(_Monitor).decode


def size(body: bytes) -> int:
    """Bytes an event adds to a call's body: itself and the comma after it."""
    return len(body) + 1


def read_envelope(key: bytes) -> dict[str, Any]:
    """The call's parameters but for RumEvents; BatchId is among them when the client gave one."""
    return _decode(key)


def read_monitor(key: bytes) -> str:
    """The id of the app monitor that a call with this envelope is for."""
    return _decode_monitor(key).Id


def batch_id(ids: Sequence[str]) -> str:
    """A BatchId for these events: the same for the same ids in the same order."""
    return str(uuid.uuid5(_BATCH_IDS, "\n".join(ids)))


@dataclass(frozen=True, slots=True)
class PutRumEvents:
    """The API as one target uses it. A single app monitor is the default of native events.

    ``merge``: the batches of one session may be joined, so a BatchId is checked and then forgotten.
    ``max_event_bytes``: of one event, and of a call's SessionMetadata.
    """

    kind: ClassVar[str] = "rum"
    operation: ClassVar[str] = "PutRumEvents"
    service: ClassVar[str] = "rum"
    title: ClassVar[str] = "CloudWatch RUM"
    sdk_id: ClassVar[str] = "RUM"
    calls: ClassVar[str] = "PutRumEvents (POST /appmonitors/<id>)"
    noun: ClassVar[str] = "app monitor"
    bound_by: ClassVar[str] = "app_monitors"
    target: ClassVar[str] = ""
    codec: ClassVar[Codec] = REST_JSON
    codes: ClassVar[EntryCodes] = NO_ENTRY_CODES
    native_type: ClassVar[type[msgspec.Struct]] = NativeEvent
    native_schema: ClassVar[Schema] = struct(NativeEvent, _RULES, ("type", "details"))
    takes_cloudevents: ClassVar[bool] = False

    app_monitors: tuple[str, ...] = ()
    merge: bool = False
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES

    @staticmethod
    def locate(path: str) -> str | None:
        """The app monitor of ``/appmonitors/<id>``, after any prefix."""
        monitor = path.rpartition(_PATH)[2].removesuffix("/") if _PATH in path else ""
        return unquote(monitor) if monitor and "/" not in monitor else None

    @staticmethod
    def owns(path: str) -> bool:
        return _other_paths(path) is not None

    def admit_batch(
        self, app_monitor: str, request: Request, arrived_at: float
    ) -> list[Draft | Refusal] | Refusal:
        """Take all events of a call, or say why not: RUM refuses calls as a whole."""
        key = self.call_key(app_monitor, request)
        if isinstance(key, Refusal):
            return key
        drafts: list[Draft | Refusal] = []
        for i, event in enumerate(request.RumEvents):
            draft = self.admit_one(event, key, app_monitor, i)
            if isinstance(draft, Refusal):
                return draft
            drafts.append(draft)
        return drafts

    def call_key(self, app_monitor: str, request: Envelope) -> bytes | Refusal:
        """What the events of a call have for a key, or why RUM would refuse the call whatever they are."""
        if request.BatchId is None:
            return _required("BatchId")
        if request.AppMonitorDetails is None:
            return _required("AppMonitorDetails")
        if request.UserDetails is None:
            return _required("UserDetails")
        envelope = _Envelope(
            Id=app_monitor,
            BatchId=request.BatchId,
            AppMonitorDetails=request.AppMonitorDetails,
            UserDetails=request.UserDetails,
            Alias=request.Alias,
            SessionMetadata=request.SessionMetadata,
        )
        key = self._wrong_envelope(envelope, "Id") or self._key(envelope)
        if isinstance(key, Refusal):
            return key
        return interned(key) if self.merge else key  # else a key with its BatchId comes once

    def admit_one(
        self, event: RumEvent, key: bytes, app_monitor: str, index: int, id: str = ""
    ) -> Draft | Refusal:
        """Take the event that a call has at this index, or say why not."""
        return self._admit(event, key, sys.intern(app_monitor), f"RumEvents[{index}].", id)

    def admit_native(self, event: NativeEvent, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an event of our own API, or say why not. ``arrived_at``: wall clock."""
        key = self._native_key(event)
        if isinstance(key, Refusal):
            return key
        beside = sum(map(_length, (event.details, event.metadata, event.SessionMetadata)))
        details = self._native_text(event.details, "details", beside - _length(event.details))
        if isinstance(details, Refusal):
            return details
        metadata = self._native_text(event.metadata, "metadata", beside - _length(event.metadata))
        if isinstance(metadata, Refusal):
            return metadata
        rum_event = RumEvent(
            id=event.id if event.id is not None else str(uuid.uuid4()),
            timestamp=event.timestamp if event.timestamp is not None else round(arrived_at, 3),
            type=event.type,
            details=details,
            metadata=metadata,
        )
        return self._admit(rum_event, key, sys.intern(read_monitor(key)), "", id, are_objects=True)

    @staticmethod
    def name_of(body: bytes, key: bytes) -> str:
        """The app monitor of an admitted event."""
        return sys.intern(read_monitor(key))

    @staticmethod
    def batch_of(key: bytes) -> str:
        """The BatchId that a client gave: its events leave together, as AWS may know it; "" for none."""
        return str(read_envelope(key).get("BatchId") or "")

    @staticmethod
    def as_native(body: bytes, key: bytes) -> Native | None:
        """The native event that would be admitted as this one; None when it is of another API."""
        event, envelope = raw_members(body), raw_members(key)
        if event is None or envelope is None or "details" not in event or "Id" not in envelope:
            return None
        event["AppMonitorId"] = envelope.pop("Id")
        return Native(msgspec.json.encode({**event, **envelope}), PutRumEvents.batch_of(key))

    def read_results(self, answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
        """One Outcome per event: RUM answers a call it took with nothing, or an empty object."""
        return [_DELIVERED] * count

    def render_results(self, results: Sequence[str | Refusal]) -> bytes:
        return b"{}"

    def _native_key(self, event: NativeEvent) -> bytes | Refusal:
        monitor = event.AppMonitorId
        if monitor is None:
            if len(self.app_monitors) != 1:
                return _required("AppMonitorId", f" as the target has {len(self.app_monitors)} app monitors")
            monitor = self.app_monitors[0]
        beside = _length(event.details) + _length(event.metadata)
        metadata = self._native_text(event.SessionMetadata, "SessionMetadata", beside)
        if isinstance(metadata, Refusal):
            return metadata
        envelope = _Envelope(
            Id=monitor,
            BatchId=event.BatchId,
            AppMonitorDetails=event.AppMonitorDetails or AppMonitorDetails(),
            UserDetails=event.UserDetails or UserDetails(),
            Alias=event.Alias,
            SessionMetadata=metadata,
        )
        return self._wrong_envelope(envelope, "AppMonitorId", is_object=True) or interned(self._key(envelope))

    def _key(self, envelope: _Envelope) -> bytes:
        if self.merge:
            envelope.BatchId = None
        return serialise(envelope)

    def _admit(
        self, event: RumEvent, key: bytes, monitor: str, where: str, id: str, *, are_objects: bool = False
    ) -> Draft | Refusal:
        """``where`` names the event before the field, where there are several. The timestamp is set here.

        ``are_objects``: its texts have been judged.
        """
        details, metadata, most = event.details, event.metadata, self.max_event_bytes
        if details is not None and _is_longer(details, most):
            return self._too_large(f"{where}details", details)
        if metadata is not None and _is_longer(metadata, most):
            return self._too_large(f"{where}metadata", metadata)
        if event.id is None or not is_uuid(event.id):
            return _uuid_refusal(f"{where}id", event.id)
        if event.type is None or not 0 < len(event.type) <= MAX_TYPE:
            return Refusal(VALIDATION, f"{where}type must have 1 to {MAX_TYPE} characters.")
        if details is None or not (are_objects or is_json_object(details, len(metadata or ""))):
            return _text_refusal(f"{where}details", details)
        if metadata is not None and not (are_objects or is_json_object(metadata, len(details))):
            return _text_refusal(f"{where}metadata", metadata)
        timestamp = _timestamp(event.timestamp, f"{where}timestamp")
        if isinstance(timestamp, Refusal):
            return timestamp
        event.timestamp = timestamp
        body = serialise(event)
        return Draft(body, size(body), key, monitor, id)

    def _wrong_envelope(
        self, envelope: _Envelope, monitor_field: str, *, is_object: bool = False
    ) -> Refusal | None:
        """``is_object``: its SessionMetadata has been judged."""
        user = envelope.UserDetails
        ids = {
            monitor_field: envelope.Id,
            "BatchId": envelope.BatchId,
            "UserDetails.userId": user.userId,
            "UserDetails.sessionId": user.sessionId,
        }
        for field, value in ids.items():
            if value is not None and not is_uuid(value):
                return _uuid_refusal(field, value)
        if envelope.Alias is not None and not 0 < len(envelope.Alias) <= MAX_ALIAS:
            return Refusal(VALIDATION, f"Alias must have 1 to {MAX_ALIAS} characters.")
        metadata = envelope.SessionMetadata
        if metadata is None:
            return None
        if _is_longer(metadata, self.max_event_bytes):
            return self._too_large("SessionMetadata", metadata)
        return None if is_object or is_json_object(metadata) else _text_refusal("SessionMetadata", metadata)

    def _native_text(self, raw: msgspec.Raw, field: str, beside: int) -> str | Refusal | None:
        if bytes(raw).strip() in (b"", b"null"):
            return None
        text = object_text(raw, self.max_event_bytes, beside)
        return text or Refusal(VALIDATION, f"{field} {not_an_object(raw)}.")

    def _too_large(self, field: str, text: str) -> Refusal:
        counted, most, bytes_ = utf8_length(text), self.max_event_bytes, "bytes"
        if counted <= most:
            counted, bytes_ = escaped_length(text), "bytes as a JSON string"
        message = (
            f"{field} has {counted} {bytes_}, more than the limit of {most} for an "
            "event (batch.max_event_bytes)."
        )
        return Refusal(VALIDATION, message, "too_large")


def _length(raw: msgspec.Raw) -> int:
    return memoryview(raw).nbytes


def _is_longer(text: str, most: int) -> bool:
    """Whether the text alone makes the event too large, judged before it is escaped: 8 MiB take 33 ms."""
    return len(text) > most or (2 * len(text) > most and escaped_length(text) > most)


def _timestamp(value: int | float | str | None, field: str) -> Number | Refusal:
    if value is None:
        return _required(field)
    try:
        return time_number(value)
    except ValueError as problem:
        return Refusal(VALIDATION, f"{field} is {problem}.")


def _text_refusal(field: str, value: str | None) -> Refusal:
    if value is None:
        return _required(field)
    return Refusal(VALIDATION, f"{field} must be a string that holds a JSON object.")


def _uuid_refusal(field: str, value: str | None) -> Refusal:
    return _required(field) if value is None else Refusal(VALIDATION, f"{field} must be a UUID.")


def _required(field: str, why: str = "") -> Refusal:
    return Refusal(VALIDATION, f"{field} is required{why}.")
