"""Questions about event buses, and what their answers mean. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Literal, NamedTuple

from forwarder.apis import codes
from forwarder.model import CallStatus, Results
from forwarder.targets.turns import Turn

DOUBTS = 3
"""So many answers in a row are believed that one alone is not."""


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

_REFUSES_NAME = frozenset({"ValidationException", "ValidationError", "SerializationException"})
"""Codes by which AWS refuses the question itself. 413 (too large) is not among them: a question is small,
so a proxy says it."""


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
    return Answer.DENIED if results.code in _REFUSES_NAME else Answer.UNANSWERED


class Judge:
    """Decides whether an endpoint cannot be asked: by AWS's own code at once; by a page or a status without a
    code, which may come from anybody on the way, only by the third in a row, and never once it answered."""

    def __init__(self) -> None:
        self._doubts = 0

    def __call__(self, results: Results, *, has_answered: bool) -> Answer:
        answer = answer_of(results)
        if answer is not Answer.UNASKABLE:
            self._doubts = 0
        elif results.code == codes.WRONG_SHAPE or results.code.isdigit():
            self._doubts += 1
            if has_answered or self._doubts < DOUBTS:
                return Answer.UNANSWERED
        return answer


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
