"""EventBridge ``PutEvents``: its entries, checks, byte formula, limits, and answers.

Page: EventBridge API reference, PutEvents, PutEventsRequestEntry, PutEventsResultEntry.

Invariants:
- What is admitted, AWS takes: its limits and forms are checked here, with its words where they are known,
  those included that AWS would break silently (it drops a DetailType that is too long and says success).
- An admitted event carries a Time, so that a delayed one keeps its moment; unless there is no room for it.
- An entry's size and the number of its resources are judged before anything looks inside its Detail.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from forwarder.apis import codes
from forwarder.apis.api import JSON_1_1, Codec
from forwarder.apis.codes import EntryCodes
from forwarder.apis.scan import elements
from forwarder.apis.schema import OBJECT, TIME, Schema, struct
from forwarder.apis.wire import (
    Native,
    Number,
    ResultNames,
    interned,
    is_json_object,
    not_an_object,
    object_text,
    raw_members,
    read_entries,
    region_of_arn,
    serialise,
    time_number,
    utf8_length,
)
from forwarder.model import Draft, Outcome, Refusal

MAX_ENTRIES = 10
"""PutEvents, Entries: "Minimum number of 1 item. Maximum number of 10 items."."""
DEFAULT_MAX_REQUEST_BYTES = 1_048_575
"""User guide, "Calculating PutEvents event entry size": the sum of all entries must be less than 1 MB."""
TIME_BYTES = 14
"""The same page: a Time counts 14 bytes."""
MAX_DETAIL_TYPE = 128
"""PutEventsRequestEntry, DetailType: "with a maximum of 128 characters allowed"."""
MAX_RESOURCE = 2048
MAX_RESOURCES = 1000
"""Ours: AWS documents no count. Each is the ARN of something that one event is about. 1,000 of 100 characters
are a tenth of all that an entry may have, so no sender needs more; 200,000 of one character would be the
dearest way to fill an entry."""
MAX_BUS = 1600
MAX_TRACE_HEADER = 500
MAX_ENDPOINT_ID = 50
RESERVED_SOURCES = "aws."
DEFAULT_BUS = "default"
ENDPOINT_NAME = "endpoint:"
"""What the name of an event begins with whose global endpoint cannot be called here, in place of its bus."""

NO_GLOBAL_ENDPOINTS = (
    "EndpointId names a global endpoint, whose calls need the package awscrt (SigV4A). It is not installed "
    "where the forwarder runs. Install it there (pip install awscrt), or send without EndpointId."
)

INVALID_ARGUMENT = "InvalidArgument"
MALFORMED_DETAIL = "MalformedDetail"
NOT_AUTHORIZED_FOR_SOURCE = "NotAuthorizedForSourceException"
ENTRY_TOO_LARGE = "EntryTooLarge"
VALIDATION = "ValidationException"
OVER_THE_LIMIT = "Total size of the entries in the request is over the limit."

_NAMES = ResultNames("FailedEntryCount", "Entries", "EventId", "ErrorCode", "ErrorMessage")
BUS_PATTERN = r"(arn:aws[\w-]*:events:[a-z]+-[a-z]+-[\w-]+:[0-9]{12}:event-bus/)?[.\-_A-Za-z0-9]+"
ENDPOINT_ID_PATTERN = r"[A-Za-z0-9\-]+\.[A-Za-z0-9\-]+"
_BUS = re.compile(BUS_PATTERN, re.ASCII).fullmatch
_ENDPOINT_ID = re.compile(ENDPOINT_ID_PATTERN).fullmatch
_ABSENT = msgspec.Raw(b"null")
_DEFAULT_BUS = msgspec.Raw(b'"default"')


class Entry(msgspec.Struct, gc=False, omit_defaults=True, kw_only=True):
    """PutEventsRequestEntry. Nothing is required here: entries are judged one by one, by ``admit``."""

    Time: int | float | str | None = None
    Source: str | None = None
    Resources: list[str] | None = None
    DetailType: str | None = None
    Detail: str | None = None
    EventBusName: str | None = None
    TraceHeader: str | None = None


class Request(msgspec.Struct, kw_only=True):
    """A PutEvents call."""

    Entries: list[Entry] = []
    EndpointId: str | None = None


class NativeEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """An entry, with its call's EndpointId, as our own API takes it; Detail may be an object or its text."""

    Time: int | float | str | None = None
    Source: str | None = None
    Resources: list[str] | None = None
    DetailType: str | None = None
    Detail: msgspec.Raw = _ABSENT
    EventBusName: str | None = None
    TraceHeader: str | None = None
    EndpointId: str = ""


BUS_SCHEMA: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_BUS,
    "pattern": f"^{BUS_PATTERN}$",
}
RESERVED_PATTERN = RESERVED_SOURCES.replace(".", r"\.")
_RULES: dict[str, Schema] = {
    "Time": TIME,
    "Source": {
        "type": "string",
        "minLength": 1,
        "pattern": f"^(?!{RESERVED_PATTERN})",
        "description": f"Must not begin with {RESERVED_SOURCES}, which is reserved for AWS.",
    },
    "Resources": {
        "type": "array",
        "items": {"type": "string", "maxLength": MAX_RESOURCE},
    },
    "DetailType": {"type": "string", "minLength": 1, "maxLength": MAX_DETAIL_TYPE},
    "Detail": OBJECT,
    "EventBusName": BUS_SCHEMA,
    "TraceHeader": {"type": "string", "minLength": 1, "maxLength": MAX_TRACE_HEADER},
    "EndpointId": {
        "type": "string",
        "description": "A global endpoint. The daemon needs the package awscrt to call it.",
        "maxLength": MAX_ENDPOINT_ID,
        "pattern": f"^({ENDPOINT_ID_PATTERN})?$",
    },
}


class _Bus(msgspec.Struct, gc=False):
    """The only member of an admitted entry that is looked at again."""

    EventBusName: str | None = None


_bus = msgspec.json.Decoder(_Bus)


class _Lists(msgspec.Struct, gc=False):
    """The only list of an entry, before anything is made of it."""

    Resources: msgspec.Raw = _ABSENT


_lists = msgspec.json.Decoder(_Lists)


def _name(bus: str | None) -> str:
    """One object for equal names, as thousands of events may hold it."""
    return "" if bus is None or bus == DEFAULT_BUS else sys.intern(bus)


class _Result(msgspec.Struct, gc=False, omit_defaults=True):
    """PutEventsResultEntry."""

    EventId: str = ""
    ErrorCode: str = ""
    ErrorMessage: str = ""


class _Answer(msgspec.Struct, gc=False):
    FailedEntryCount: int
    Entries: list[_Result]


def is_bus(name: str) -> bool:
    """Whether this has the form of an event bus's name or ARN."""
    return len(name) <= MAX_BUS and _BUS(name) is not None


def size(entry: Entry) -> int:
    """Bytes that AWS counts for an entry; its bus, its trace header and JSON's own signs are free."""
    counted = utf8_length(entry.Source or "") + utf8_length(entry.DetailType or "")
    counted += utf8_length(entry.Detail or "")
    if entry.Resources:
        counted += sum(map(utf8_length, entry.Resources))
    return counted if entry.Time is None else counted + TIME_BYTES


def too_many_resources(event: bytes | msgspec.Raw) -> Generator[None, None, Refusal | None]:
    """Why an entry is refused before it is decoded: one with a long list of resources, in steps."""
    try:
        listed = bytes(_lists.decode(event).Resources)
    except (ValueError, RecursionError):
        return None  # whoever decodes it says so
    count = yield from elements(listed, MAX_RESOURCES)
    return _resources_refusal() if count > MAX_RESOURCES else None


def check_call(entries: Sequence[Entry], max_bytes: int = DEFAULT_MAX_REQUEST_BYTES) -> Refusal | None:
    """Why AWS would refuse the call as a whole, if it would. ``max_bytes`` is the most it takes."""
    return check_count(len(entries)) or check_size(entries, max_bytes)


def check_count(count: int) -> Refusal | None:
    if count < 1:
        return _count_refusal(count, "greater than or equal to 1")
    return too_many_entries(count) if count > MAX_ENTRIES else None


def check_size(entries: Sequence[Entry], max_bytes: int) -> Refusal | None:
    if sum(map(size, entries)) > max_bytes:
        return Refusal(VALIDATION, OVER_THE_LIMIT, "too_large")
    return None


def check_endpoint(endpoint_id: str | None) -> Refusal | None:
    """Why AWS would refuse a call to this global endpoint as a whole, if it would; None names none."""
    if endpoint_id is None or (endpoint_id and _endpoint_key(endpoint_id) is not None):
        return None
    return Refusal(
        VALIDATION,
        f"1 validation error detected: Value '{endpoint_id[: MAX_ENDPOINT_ID + 10]}' at 'endpointId' failed "
        "to satisfy constraint: Member must satisfy regular expression pattern: "
        r"^[A-Za-z0-9\-]+[\.][A-Za-z0-9\-]+$",
    )


@dataclass(frozen=True, slots=True)
class PutEvents:
    """The API as one target uses it. ``default_bus`` is for native events that name none.

    ``region``: the target's; a bus that is named by an ARN of another is refused, since AWS would not send
    there either. "" takes any. ``cloudevents``: what of a CloudEvent becomes the Detail.
    ``fill_trace_header``: an entry without a TraceHeader gets that of its request. ``global_endpoints``:
    whether calls to them can be signed here.
    """

    kind: ClassVar[str] = "eventbridge"
    operation: ClassVar[str] = "PutEvents"
    service: ClassVar[str] = "events"
    title: ClassVar[str] = "EventBridge"
    sdk_id: ClassVar[str] = "EVENTBRIDGE"
    calls: ClassVar[str] = "PutEvents, and it answers DescribeEventBus"
    noun: ClassVar[str] = "event bus"
    bound_by: ClassVar[str] = "buses"
    target: ClassVar[str] = "AWSEvents.PutEvents"
    codec: ClassVar[Codec] = JSON_1_1
    codes: ClassVar[EntryCodes] = codes.PUT_EVENTS
    native_type: ClassVar[type[msgspec.Struct]] = NativeEvent
    native_schema: ClassVar[Schema] = struct(NativeEvent, _RULES, ("Source", "DetailType", "Detail"))
    takes_cloudevents: ClassVar[bool] = True

    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    default_bus: str = ""
    region: str = ""
    cloudevents: Literal["envelope", "data"] = "envelope"
    fill_trace_header: bool = False
    global_endpoints: bool = True

    @staticmethod
    def locate(path: str) -> str | None:
        """No path is this API's: its calls are known by ``target``."""
        return None

    @staticmethod
    def owns(path: str) -> bool:
        return False

    def admit(self, entry: Entry, arrived_at: float, endpoint_id: str = "", id: str = "") -> Draft | Refusal:
        """Take an entry of a call, or say why not. The entry's Time is set in place.

        ``arrived_at``: wall clock. ``endpoint_id``: the call's, which its entries keep.
        """
        if not entry.Source or not entry.DetailType or not entry.Detail:
            return _missing(entry)
        if len(entry.Detail) <= self.max_request_bytes and not is_json_object(entry.Detail):
            return Refusal(MALFORMED_DETAIL, "Detail is malformed.")
        return self._admit(entry, arrived_at, endpoint_id, id)

    def admit_native(self, event: NativeEvent, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an event of our own API, or say why not."""
        detail = object_text(event.Detail, self.max_request_bytes)
        bus = event.EventBusName if event.EventBusName is not None else self.default_bus or None
        entry = Entry(
            Time=event.Time,
            Source=event.Source,
            Resources=event.Resources,
            DetailType=event.DetailType,
            Detail=detail,
            EventBusName=bus,
            TraceHeader=event.TraceHeader,
        )
        if detail and event.Source and event.DetailType:
            return self._admit(entry, arrived_at, event.EndpointId, id)
        if event.Source and event.DetailType and bytes(event.Detail).strip() not in (b"", b"null", b'""'):
            return Refusal(MALFORMED_DETAIL, f"Detail is malformed: it {not_an_object(event.Detail)}.")
        return _missing(entry)

    def admit_formed(self, entry: Entry, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an entry that has all it must have, its Detail the text of a JSON object, or say why not."""
        return self._admit(entry, arrived_at, "", id)

    @staticmethod
    def judge(event: bytes | msgspec.Raw) -> Generator[None, None, Refusal | None]:
        """What can be said against a long native event before it is decoded, in steps."""
        return too_many_resources(event)

    def name_of(self, body: bytes, key: bytes) -> str:
        """The bus of an admitted event, "" for the default bus, which every account has; its global endpoint,
        where that cannot be called."""
        if key and not self.global_endpoints:
            return sys.intern(ENDPOINT_NAME + key.decode())
        return _name(_bus.decode(body).EventBusName) if b'"EventBusName"' in body else ""

    @staticmethod
    def batch_of(key: bytes) -> str:
        """Events of this API may share a call, and need not."""
        return ""

    @staticmethod
    def as_native(body: bytes, key: bytes) -> Native | None:
        """The native event that would be admitted as this one; None when it is of another API.

        An entry without a bus is for the bus ``default``, and says so: a target may mean another one.
        """
        entry = raw_members(body)
        if entry is None or "Detail" not in entry:
            return None
        entry.setdefault("EventBusName", _DEFAULT_BUS)
        if key:
            entry["EndpointId"] = msgspec.Raw(msgspec.json.encode(key.decode()))
        return Native(msgspec.json.encode(entry))

    def read_results(self, answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
        """One Outcome per event from a parsed 200 answer; None when it is not what PutEvents answers."""
        return read_entries(answer, count, _NAMES, self.codes)

    def render_results(self, results: Sequence[str | Refusal]) -> bytes:
        return render_results(results)

    def _admit(self, entry: Entry, arrived_at: float, endpoint_id: str, id: str) -> Draft | Refusal:
        key = _endpoint_key(endpoint_id)
        if key is None:
            return _invalid("EndpointId", f"it must be an endpoint ID of 1 to {MAX_ENDPOINT_ID} characters")
        if key and not self.global_endpoints:
            return Refusal(VALIDATION, NO_GLOBAL_ENDPOINTS, "global_endpoint")
        refusal = _wrong_form(entry) or self._wrong_region(entry.EventBusName)
        if refusal is not None:
            return refusal
        counted = size(entry)
        if counted > self.max_request_bytes:
            message = (
                f"The entry has {counted} bytes by AWS's formula; the limit is {self.max_request_bytes}."
            )
            return Refusal(ENTRY_TOO_LARGE, message, "too_large")
        if entry.Time is None and counted + TIME_BYTES <= self.max_request_bytes:
            entry.Time = int(arrived_at)  # EventBridge keeps whole seconds
            counted += TIME_BYTES
        return Draft(serialise(entry), counted, key, _name(entry.EventBusName), id)

    def _wrong_region(self, bus: str | None) -> Refusal | None:
        if not self.region or bus is None or not bus.startswith("arn:"):
            return None
        region = region_of_arn(bus)
        if region == self.region:
            return None
        message = f"EventBusName is an ARN of region {region}, but the target is in {self.region}."
        return Refusal(VALIDATION, message)


def render_results(results: Sequence[str | Refusal]) -> bytes:
    """The answer's body: an event id, or a refusal, for each entry of the call."""
    entries = [
        _Result("", result.code, result.message) if isinstance(result, Refusal) else _Result(result)
        for result in results
    ]
    failed = sum(isinstance(result, Refusal) for result in results)
    return serialise(_Answer(failed, entries))


def _wrong_form(entry: Entry) -> Refusal | None:
    """What is wrong with an entry that has all it must have. Times are turned into numbers here."""
    source, detail_type, bus, trace = entry.Source, entry.DetailType, entry.EventBusName, entry.TraceHeader
    if source and source.startswith(RESERVED_SOURCES):
        message = f"Not authorized for the source: {RESERVED_SOURCES} is reserved for AWS services."
        return Refusal(NOT_AUTHORIZED_FOR_SOURCE, message)
    if detail_type and len(detail_type) > MAX_DETAIL_TYPE:
        return _invalid("DetailType", f"DetailType is longer than {MAX_DETAIL_TYPE} characters")
    if bus is not None and not is_bus(bus):
        return _invalid(
            "EventBusName", (f"it must be the name or ARN of an event bus, of 1 to {MAX_BUS} characters")
        )
    if trace is not None and not 0 < len(trace) <= MAX_TRACE_HEADER:
        return _invalid("TraceHeader", f"TraceHeader must have 1 to {MAX_TRACE_HEADER} characters")
    if entry.Resources:
        if len(entry.Resources) > MAX_RESOURCES:
            return _resources_refusal()
        if max(map(len, entry.Resources)) > MAX_RESOURCE:
            return _invalid("Resources", f"a resource is longer than {MAX_RESOURCE} characters")
    return None if entry.Time is None else _fix_time(entry, entry.Time)


def _fix_time(entry: Entry, time: Number | str) -> Refusal | None:
    try:
        entry.Time = time_number(time)
    except ValueError as problem:
        return _invalid("Time", f"it is {problem}")
    return None


def _missing(entry: Entry) -> Refusal:
    """AWS's words, in AWS's order."""
    field = "Source" if not entry.Source else "DetailType" if not entry.DetailType else "Detail"
    return _invalid(field, f"{field} is a required argument")


def _invalid(field: str, why: str) -> Refusal:
    return Refusal(INVALID_ARGUMENT, f"Parameter {field} is not valid. Reason: {why}.")


def _resources_refusal() -> Refusal:
    return _invalid("Resources", f"an entry must have at most {MAX_RESOURCES} resources")


def too_many_entries(count: int | str) -> Refusal:
    return _count_refusal(count, f"less than or equal to {MAX_ENTRIES}")


def _count_refusal(count: int | str, constraint: str) -> Refusal:
    """AWS's sentence, but for the value: AWS says every entry back."""
    value = "[]" if count == 0 else f"[{count} x PutEventsRequestEntry(...)]"
    return Refusal(
        VALIDATION,
        f"1 validation error detected: Value '{value}' at 'entries' failed to satisfy constraint: "
        f"Member must have length {constraint}",
    )


def _endpoint_key(endpoint_id: str) -> bytes | None:
    """The envelope of a call: its EndpointId, one object for equal ones. None when it has the wrong form."""
    if endpoint_id and (len(endpoint_id) > MAX_ENDPOINT_ID or not _ENDPOINT_ID(endpoint_id)):
        return None
    return interned(endpoint_id.encode())
