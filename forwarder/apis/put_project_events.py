"""Evidently ``PutProjectEvents``: its events, checks, limits, and answers.

Page: CloudWatch Evidently API reference, PutProjectEvents, Event, PutProjectEventsResultEntry. AWS ended the
service on 2025-10-16; its API lives on in emulators and replacements.

Invariants:
- A call carries the events of one project, so the project is the events' key.
- Events are judged one by one, as AWS does: a bad one costs no other.
- An event's size is judged before anything looks inside its data.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec

from forwarder.apis import codes
from forwarder.apis.api import REST_JSON, Codec
from forwarder.apis.codes import EntryCodes
from forwarder.apis.schema import OBJECT, TIME, Schema, struct
from forwarder.apis.wire import (
    Native,
    ResultNames,
    interned,
    is_json_object,
    not_an_object,
    object_text,
    raw_members,
    read_entries,
    serialise,
    time_number,
    utf8_length,
)
from forwarder.model import Draft, Outcome, Refusal

MAX_EVENTS = 50
"""PutProjectEvents, events: "Minimum number of 0 items. Maximum number of 50 items."."""
MAX_PROJECT = 2048
"""PutProjectEvents, project: "Maximum length of 2048."."""
TYPES = frozenset({"aws.evidently.evaluation", "aws.evidently.custom"})
"""Event, type: valid values."""
DEFAULT_MAX_EVENT_BYTES = 1 << 20
"""Ours: AWS documents no limit."""

VALIDATION = "ValidationException"

_NAMES = ResultNames("failedEventCount", "eventResults", "eventId", "errorCode", "errorMessage")
_PROJECT_NAME = r"([-a-zA-Z0-9._]*[-a-zA-Z0-9_][-a-zA-Z0-9._]*|\.{3,})"
PROJECT_PATTERN = rf"{_PROJECT_NAME}|arn:[^:]*:[^:]*:[^:]*:[^:]*:project/{_PROJECT_NAME}"
"""Never ``.`` or ``..``: a name is a segment of a path, where these mean another path."""
_PROJECT = re.compile(PROJECT_PATTERN).fullmatch
_CONFIGURED = re.compile(
    rf"(arn:aws[\w-]*:evidently:[a-z]+-[a-z]+-[\w-]+:[0-9]{{12}}:project/)?{_PROJECT_NAME}", re.ASCII
).fullmatch
_ABSENT = msgspec.Raw(b"null")
_NO_IDS = itertools.repeat("")


def is_project(name: str) -> bool:
    """Whether this has the form of a project's name or of its complete ARN."""
    return len(name) <= MAX_PROJECT and _CONFIGURED(name) is not None


class Event(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """Event; ``data`` is the text of a JSON object. All are required, which ``admit`` checks."""

    timestamp: int | float | str | None = None
    type: str | None = None
    data: str | None = None


class Request(msgspec.Struct, kw_only=True):
    """A PutProjectEvents call, but for the project, which is in its path."""

    events: list[Event]


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """An event with its project, as our own API takes it: data may be an object or the text of one."""

    timestamp: int | float | str | None = None
    type: str | None = None
    data: msgspec.Raw = _ABSENT
    project: str | None = None


_PATH = "/events/projects/"
_other_paths = re.compile(r"/(?:projects|segments|test-segment-pattern)(?:/|$)").search
_RULES: dict[str, Schema] = {
    "timestamp": TIME,
    "type": {"type": "string", "enum": sorted(TYPES)},
    "data": OBJECT,
    "project": {
        "type": "string",
        "maxLength": MAX_PROJECT,
        "pattern": f"^({PROJECT_PATTERN})$",
        "description": "A name or an ARN. If omitted: the target's project, if it has exactly one.",
    },
}


class _Result(msgspec.Struct, gc=False, omit_defaults=True):
    """PutProjectEventsResultEntry."""

    eventId: str = ""
    errorCode: str = ""
    errorMessage: str = ""


class _Answer(msgspec.Struct, gc=False):
    failedEventCount: int
    eventResults: list[_Result]


def size(body: bytes) -> int:
    """Bytes an event adds to a call's body: itself and the comma after it."""
    return len(body) + 1


def too_many_events(count: int | str) -> Refusal:
    return Refusal(
        VALIDATION,
        f"1 validation error detected: Value '[{count} x Event(...)]' at 'events' failed to "
        f"satisfy constraint: Member must have length less than or equal to {MAX_EVENTS}",
    )


def check_call(project: str, events: Sequence[Event]) -> Refusal | None:
    """Why AWS would refuse the call as a whole, if it would."""
    if len(events) > MAX_EVENTS:
        return too_many_events(len(events))
    return _wrong_project(project)


@dataclass(frozen=True, slots=True)
class PutProjectEvents:
    """The API as one target uses it. A single project is the default of native events."""

    kind: ClassVar[str] = "evidently"
    operation: ClassVar[str] = "PutProjectEvents"
    service: ClassVar[str] = "evidently"
    title: ClassVar[str] = "Evidently"
    sdk_id: ClassVar[str] = "EVIDENTLY"
    calls: ClassVar[str] = "PutProjectEvents (POST /events/projects/<project>)"
    noun: ClassVar[str] = "project"
    bound_by: ClassVar[str] = "projects"
    target: ClassVar[str] = ""
    codec: ClassVar[Codec] = REST_JSON
    codes: ClassVar[EntryCodes] = codes.PUT_PROJECT_EVENTS
    native_type: ClassVar[type[msgspec.Struct]] = NativeEvent
    native_schema: ClassVar[Schema] = struct(NativeEvent, _RULES, ("type", "data"))
    takes_cloudevents: ClassVar[bool] = False

    projects: tuple[str, ...] = ()
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES

    @staticmethod
    def locate(path: str) -> str | None:
        """The project of ``/events/projects/<project>``, after any prefix."""
        return unquote(path.partition(_PATH)[2].removesuffix("/")) or None

    @staticmethod
    def owns(path: str) -> bool:
        return _other_paths(path) is not None

    def admit_call(
        self, project: str, request: Request, arrived_at: float, ids: Iterable[str] = _NO_IDS
    ) -> list[Draft | Refusal] | Refusal:
        """Take the events of a call one by one, or refuse it whole. ``project``: a name or ARN, decoded."""
        refusal = check_call(project, request.events)
        if refusal is not None:
            return refusal
        key = interned(project.encode())
        return [self._admit(event, key, id) for event, id in zip(request.events, ids, strict=False)]

    def admit_native(self, event: NativeEvent, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an event of our own API, or say why not. ``arrived_at``: wall clock."""
        project = event.project
        if project is None:
            if len(self.projects) != 1:
                return _required("project", f" as the target has {len(self.projects)} projects")
            project = self.projects[0]
        refusal = _wrong_project(project)
        if refusal is not None:
            return refusal
        data = object_text(event.data, self.max_event_bytes)
        if data is None and bytes(event.data).strip() not in (b"", b"null"):
            return Refusal(VALIDATION, f"data {not_an_object(event.data)}.")
        timestamp = event.timestamp if event.timestamp is not None else round(arrived_at, 3)
        wire_event = Event(timestamp=timestamp, type=event.type, data=data)
        return self._admit(wire_event, interned(project.encode()), id)

    @staticmethod
    def name_of(body: bytes, key: bytes) -> str:
        """The project of an admitted event."""
        return sys.intern(key.decode())

    @staticmethod
    def batch_of(key: bytes) -> str:
        """Events of this API may share a call, and need not."""
        return ""

    @staticmethod
    def as_native(body: bytes, key: bytes) -> Native | None:
        """The native event that would be admitted as this one; None when it is of another API."""
        event = raw_members(body)
        if event is None or "data" not in event:
            return None
        return Native(msgspec.json.encode({**event, "project": key.decode()}))

    def read_results(self, answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
        """One Outcome per event from a parsed 200 answer; None when it is not what the API answers."""
        return read_entries(answer, count, _NAMES, self.codes)

    def render_results(self, results: Sequence[str | Refusal]) -> bytes:
        return render_results(results)

    def _admit(self, event: Event, key: bytes, id: str) -> Draft | Refusal:
        if event.data is not None and len(event.data) > self.max_event_bytes:
            return self._too_large(utf8_length(event.data))
        refusal = _wrong_event(event)
        if refusal is not None:
            return refusal
        body = serialise(event)
        if size(body) > self.max_event_bytes:
            return self._too_large(size(body))
        return Draft(body, size(body), key, sys.intern(key.decode()), id)

    def _too_large(self, counted: int) -> Refusal:
        message = f"The event has {counted} bytes by AWS's formula; the limit is {self.max_event_bytes}."
        return Refusal(VALIDATION, message, "too_large")


def render_results(results: Sequence[str | Refusal]) -> bytes:
    """The answer's body: an event id, or a refusal, for each event of the call."""
    entries = [
        _Result("", result.code, result.message) if isinstance(result, Refusal) else _Result(result)
        for result in results
    ]
    failed = sum(isinstance(result, Refusal) for result in results)
    return serialise(_Answer(failed, entries))


def _wrong_event(event: Event) -> Refusal | None:
    """What is wrong with an event. Its timestamp is turned into a number here."""
    if event.timestamp is None:
        return _required("timestamp")
    if event.type is None:
        return _required("type")
    if event.data is None:
        return _required("data")
    if event.type not in TYPES:
        return Refusal(VALIDATION, f"type must be one of {', '.join(sorted(TYPES))}.")
    if not is_json_object(event.data):
        return Refusal(VALIDATION, "data must be a string that holds a JSON object.")
    try:
        event.timestamp = time_number(event.timestamp)
    except ValueError as problem:
        return Refusal(VALIDATION, f"timestamp is {problem}.")
    return None


def _wrong_project(project: str) -> Refusal | None:
    if len(project) <= MAX_PROJECT and _PROJECT(project):
        return None
    message = f"project must be the name or ARN of a project, of 1 to {MAX_PROJECT} characters."
    return Refusal(VALIDATION, message)


def _required(field: str, why: str = "") -> Refusal:
    return Refusal(VALIDATION, f"{field} is required{why}.")
