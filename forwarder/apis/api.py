"""An AWS API as one object: all that the forwarder knows of one operation that carries events.

Whoever handles events iterates over Apis, or is given the one of its target; nobody else names a kind.

Invariants:
- Pure: no I/O and no clock. Class attributes describe the API; an instance has the settings of one target.
- A body on disk is in the encoding that its row names (``Codec.stored``), whatever its kind uses today.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import msgspec

from forwarder.apis.codes import EntryCodes
from forwarder.apis.schema import Schema
from forwarder.apis.wire import Native, error_body
from forwarder.model import STORED_JSON, Draft, Outcome, Refusal

_capital = re.compile(r"(?<=[a-z0-9])(?=[A-Z])").sub


class Codec(msgspec.Struct, frozen=True):
    """How an API's requests and answers are encoded.

    ``stored``: the number that rows on disk have for this encoding of bodies; see ``model.STORED_JSON``.
    ``decode``: raises ValueError. ``error``: an error's body, from its code and message. ``rest``: each error
    has its own HTTP status; otherwise it is 400 for all of them.
    """

    name: str
    stored: int
    content_type: str
    decode: Callable[[bytes], Any]
    error: Callable[[str, str], bytes]
    rest: bool


_decode_json = msgspec.json.Decoder().decode

JSON_1_1 = Codec("json-1.1", STORED_JSON, "application/x-amz-json-1.1", _decode_json, error_body, rest=False)
REST_JSON = Codec("rest-json", STORED_JSON, "application/json", _decode_json, error_body, rest=True)


class Api(Protocol):
    """One API. An instance is the API as one target uses it; without arguments it has the API's defaults.

    ``kind``: of the targets. ``service``: what requests are signed for, and the SDK's name of the service.
    ``title``: the service's name in messages; ``sdk_id``: in the SDKs' endpoint variables. ``calls``: which
    of its calls are accepted, in words. ``noun``: what a name of an event is the name of (event bus), and
    ``bound_by`` the option that lists such names. ``target``: the value of X-Amz-Target, "" for an API
    that is found by its path. ``takes_cloudevents``: CloudEvents can become entries of this API.
    """

    kind: ClassVar[str]
    operation: ClassVar[str]
    service: ClassVar[str]
    title: ClassVar[str]
    sdk_id: ClassVar[str]
    calls: ClassVar[str]
    noun: ClassVar[str]
    bound_by: ClassVar[str]
    target: ClassVar[str]
    codec: ClassVar[Codec]
    codes: ClassVar[EntryCodes]
    native_type: ClassVar[type[msgspec.Struct]]
    native_schema: ClassVar[Schema]
    takes_cloudevents: ClassVar[bool]

    @staticmethod
    def locate(path: str) -> str | None:
        """The name that the path of a request gives; None when it is no path of this API."""

    @staticmethod
    def owns(path: str) -> bool:
        """Whether a path is of this service, though not of this API: other operations' paths."""

    def admit_native(self, event: Any, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an event of our own API (a ``native_type``), or say why not.

        ``arrived_at``: wall clock. ``id``: the event's, which its entry may contain.
        """

    def name_of(self, body: bytes, key: bytes) -> str:
        """The name of an admitted event: its bus, app monitor or project; "" where nothing must exist."""

    @staticmethod
    def batch_of(key: bytes) -> str:
        """What is equal for events that must leave together; "" where each may leave by itself."""

    @staticmethod
    def as_native(body: bytes, key: bytes) -> Native | None:
        """The native event that would be admitted as this one; None when this is no event of this API."""

    def read_results(self, answer: Mapping[str, Any], count: int) -> list[Outcome] | None:
        """One Outcome per event from a parsed 200 answer; None when it is not what the API answers."""

    def render_results(self, results: Sequence[str | Refusal]) -> bytes:
        """The body of an answered call: an id, or a refusal, per event."""


class WireCall(msgspec.Struct):
    """The events of one call, not admitted yet, and the name that all of them are for."""

    name: str
    events: list[Any]


class WireApi(Api, Protocol):
    """An API whose calls are for one name each and are judged event by event: ingest and the sandbox need
    nothing else to take them."""

    @staticmethod
    def read_call(name: str, body: bytes) -> WireCall | Refusal:
        """A request's call, or why it is refused as a whole. ``name``: as the path gives it."""

    def admit(self, event: Any, name: str, arrived_at: float, id: str = "") -> Draft | Refusal:
        """Take an event of a call, or say why not."""

    @staticmethod
    def content(event: Any) -> str:
        """The text in which the sandbox looks for its markers."""


def endpoint_variable(api: type[Api]) -> str:
    """The environment variable that moves every call of the API's service."""
    return f"AWS_ENDPOINT_URL_{api.sdk_id}"


def label(api: type[Api]) -> str:
    """The operation's name in metrics: ``put_events``."""
    return _capital("_", api.operation).lower()
