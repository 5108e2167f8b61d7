"""From a CloudEvent to an entry of PutEvents.

Invariants:
- ``envelope``: Detail is the whole event in the JSON format, so that nothing of it is lost. ``data``: Detail
  is the event's data alone, which must then be a JSON object, in whichever member it came.
- Source is ``source``, DetailType ``type``, Time ``time``; both forms have the same entry beside Detail.
"""

from __future__ import annotations

import binascii
from typing import Literal

import msgspec

from forwarder.apis import surrogates, utf8
from forwarder.apis.put_events import MAX_DETAIL_TYPE, MAX_RESOURCE, MAX_RESOURCES, Entry, PutEvents
from forwarder.apis.trace_header import TRACEPARENT, from_traceparent
from forwarder.apis.wire import object_text
from forwarder.ingest.dialects.broken import BROKEN
from forwarder.ingest.dialects.cloudevents.attributes import Attributes, InvalidEvent, moment
from forwarder.ingest.dialects.cloudevents.modes import CloudEvent, is_json, plain_media, starts_with

Form = Literal["envelope", "data"]
BUS, RESOURCES = "eventbusname", "resources"
"""Extensions that are ours: the event's bus, and its resources with commas between."""

_any = msgspec.json.Decoder(msgspec.Raw)


def entry_of(
    event: CloudEvent, form: Form, default_bus: str, traced: bool, trace: str | None, longest: int
) -> Entry:
    """The entry; InvalidEvent if AWS would refuse it. ``trace``: for an event without one of its own.

    A Detail of more than ``longest`` characters is not looked at: whoever admits the entry refuses it.
    """
    attributes = event.attributes
    type_ = str(attributes["type"])
    if len(type_) > MAX_DETAIL_TYPE:
        raise InvalidEvent(
            f"type has {len(type_)} characters; {PutEvents.title} accepts at most {MAX_DETAIL_TYPE} in a "
            "DetailType."
        )
    return Entry(
        Time=moment(attributes),
        Source=str(attributes["source"]),
        Resources=_resources(attributes),
        DetailType=type_,
        Detail=_detail(event, form, longest),
        EventBusName=_bus(attributes) or default_bus or None,
        TraceHeader=(_own_trace(attributes) or trace) if traced else None,
    )


def _detail(event: CloudEvent, form: Form, longest: int) -> str:
    raw = msgspec.Raw(event.envelope()) if form == "envelope" else _json_data(event)
    if raw is None or not starts_with(raw, b"{"):
        raise InvalidEvent("data must be a JSON object, because this target sends only the data of an event.")
    detail = object_text(raw, longest)
    if detail is None:
        fault = utf8.fault(raw)
        raise InvalidEvent(f"data is {fault}." if fault else "data or an attribute is nested too deeply.")
    return detail


def _json_data(event: CloudEvent) -> msgspec.Raw | None:
    """The data as JSON: also of bytes that are declared to be JSON, as SDKs send it in ``data_base64``."""
    if event.base64 is None or not is_json(plain_media(event.attributes.get("datacontenttype", ""))):
        return event.data
    try:
        return surrogates.decode(_any, binascii.a2b_base64(event.base64))
    except BROKEN:
        return None


def _bus(attributes: Attributes) -> str:
    named = attributes.get(BUS)
    if named is None:
        return ""
    if not isinstance(named, str) or not named:
        raise InvalidEvent(f"{BUS} must be the name or ARN of a bus.")
    return named


def _resources(attributes: Attributes) -> list[str] | None:
    """What ``resources`` lists; else the subject, if it is an ARN."""
    listed = attributes.get(RESOURCES)
    if listed is not None:
        if not isinstance(listed, str):
            raise InvalidEvent(f"{RESOURCES} must be a string: the entry's resources, separated by commas.")
        if listed.count(",") >= MAX_RESOURCES:
            raise InvalidEvent(f"{RESOURCES} must not list more than {MAX_RESOURCES} resources.")
        return [each for each in map(str.strip, listed.split(",")) if each] or None
    subject = attributes.get("subject")
    if not isinstance(subject, str) or not subject.startswith("arn:") or len(subject) > MAX_RESOURCE:
        return None
    return [subject] if subject.count(":") >= 5 else None


def _own_trace(attributes: Attributes) -> str | None:
    parent = attributes.get(TRACEPARENT)
    return from_traceparent(parent) if isinstance(parent, str) else None
