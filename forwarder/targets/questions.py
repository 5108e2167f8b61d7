"""Questions about event buses, and what their answers mean. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Literal, NamedTuple

from forwarder.apis import codes
from forwarder.model import CallStatus, Results
from forwarder.targets.turns import Turn


class Answer(enum.StrEnum):
    """What became of one question."""

    EXISTS = "exists"
    MISSING = "missing"
    DENIED = "denied"
    UNASKABLE = "unaskable"
    UNANSWERED = "unanswered"


_UNASKABLE = frozenset(
    {
        *("UnknownOperation", "UnknownOperationException", "InvalidAction", "wrong_shape"),
        *("400", "404", "405", "406", "410", "415", "422", "426", "501"),
    }
)
"""What endpoints answer that do not know the question: stubs, and gateways that only take events."""


def answer_of(results: Results) -> Answer:
    """What DescribeEventBus was answered. A refusal on the way to credentials is no answer.

    AWS's word that it refuses this very question (a name it would not take) is as good as a denial: AWS says
    the same of the events then.
    """
    if results.status is CallStatus.OK:
        return Answer.EXISTS
    if not results.called:
        return Answer.UNANSWERED
    if results.code == "ResourceNotFoundException":
        return Answer.MISSING
    if results.code in codes.ACCESS_DENIED:
        return Answer.DENIED
    if results.code in _UNASKABLE:
        return Answer.UNASKABLE
    return Answer.DENIED if results.status is CallStatus.REFUSED else Answer.UNANSWERED


class Question(NamedTuple):
    """One name to ask about. ``turn``: whose it is, of a name that was unknown or missing."""

    name: str
    kind: Literal["again", "unknown", "missing"]
    turn: Turn | None = None


class Learned(NamedTuple):
    """What an answer changed. ``all``: every name may be open now."""

    opened: Collection[str] = ()
    closed: Collection[str] = ()
    all: bool = False


NOTHING = Learned()
