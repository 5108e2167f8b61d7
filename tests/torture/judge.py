"""The outside judge: compares what senders were promised with what arrived and what lies in the dead letters.

Imports nothing of the forwarder: it reads the senders' record, the sandbox's record as JSON lines, and the
export of the dead letters.

What must hold, per target:
- On disk nothing that was promised is missing, however its life ended.
- In memory, what is missing was promised by a life that was killed, at most as many events as the queue
  holds; or by one that stopped and said in its ledger that it lost so many.
- What AWS rejects is in the dead letters, once, and nothing else is.
- What arrived was sent, and arrived where it was to.
- An event that came twice within one life was in a call whose answer a fault swallowed.
- An event that came again in a later life was in flight when the earlier one was killed, or had arrived less
  than ``SETTLED_SECONDS`` before. A stop that left nothing in its queue causes none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec

from tests.torture.events import TARGETS, Target, must_die, target_of
from tests.torture.senders import read_promises
from tests.torture.stage import MEMORY_EVENTS, Life

SETTLED_SECONDS = 1.0
"""What was settled is written 50 ms later with a commit; the rest is for a machine that is busy. The report
says how old they really were."""

IMPORT_SECONDS = 0.2
"""A life sends nothing in its first moments, in which the last calls of the one before may still arrive."""

LOST_CODE = 3
"""The exit code of a stop with losses."""

SHOWN = 10


class _Number(msgspec.Struct):
    number: int


class _Entry(msgspec.Struct):
    Detail: str = ""
    details: str = ""
    data: str = ""


class _Line(msgspec.Struct):
    at: float
    name: str
    entry: _Entry


class _Letter(msgspec.Struct):
    target: str
    reason: str
    event: _Entry


_line = msgspec.json.Decoder(_Line).decode
_letter = msgspec.json.Decoder(_Letter).decode
_number = msgspec.json.Decoder(_Number).decode


def _number_of(entry: _Entry) -> int:
    return _number(entry.Detail or entry.details or entry.data).number


@dataclass
class Record:
    """What is known of one round. Numbers of events lead to lives, moments and counts."""

    promised: dict[int, int]
    late: set[int]
    """Promised after the power was off."""
    arrived: dict[int, list[float]]
    dead: Counter[int]
    misplaced: list[str]

    @staticmethod
    def read(promises: Path, lives: Sequence[Life], arrivals: bytes, letters: bytes) -> Record:
        promised, late = {}, set()
        for number, life, moment in read_promises(promises):
            if moment < lives[life - 1].late_from:
                promised[number] = life
            else:
                late.add(number)
        arrived: defaultdict[int, list[float]] = defaultdict(list)
        dead: Counter[int] = Counter()
        misplaced = []
        for line in map(_line, arrivals.splitlines()):
            number = _number_of(line.entry)
            arrived[number].append(line.at)
            if target_of(number).bound != line.name:
                misplaced.append(f"event {number} of {target_of(number).name} arrived at {line.name}")
        for letter in map(_letter, letters.splitlines()):
            number = _number_of(letter.event)
            dead[number] += 1
            if (target_of(number).name, "rejected") != (letter.target, letter.reason):
                misplaced.append(f"event {number} is a dead letter of {letter.target}, {letter.reason}")
        return Record(promised, late, dict(arrived), dead, misplaced)


@dataclass
class Account:
    """What became of the events of one target."""

    promised: int = 0
    arrived: int = 0
    dead: int = 0
    lost: int = 0
    unpromised: int = 0
    """Arrived, though their sender never read a promise: its connection broke first."""
    late: int = 0
    late_lost: int = 0
    """Promised after the power was off, and of these lost: no violation, but worth a look."""
    repeated_in_life: int = 0
    repeated_later: Counter[str] = field(default_factory=Counter)
    """Arrivals of an event again in a later life, by how the life before ended."""
    by_life: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    """The same by the earlier life: seconds from the first arrival to that life's end."""


@dataclass
class Verdict:
    accounts: dict[str, Account]
    violations: list[str]


def judge(record: Record, lives: Sequence[Life], unknown: Mapping[str, int]) -> Verdict:
    """``unknown``: by API, the events in calls that were taken and not answered."""
    violations = list(record.misplaced)
    violations += _ends(lives)
    violations += _letters(record)
    accounts = {}
    for target in TARGETS:
        account = accounts[target.name] = _account(target, record)
        violations += _losses(target, account, record, lives)
        _count_repeats(target, account, record, lives)
        violations += _repeats(target, account, lives, unknown[target.kind])
    return Verdict(accounts, violations)


def _ends(lives: Sequence[Life]) -> Iterator[str]:
    for life in lives:
        yield from life.unbalanced
        if life.how == "term" and life.code not in (0, LOST_CODE):
            yield f"life {life.number} was told to stop and ended with {life.code}"
        for target in TARGETS:
            dropped = life.ledgers.get(target.name, {}).get("dropped", 0)
            if target.queue == "disk" and dropped:
                yield f"life {life.number}: {target.name} dropped {dropped} events"


def _letters(record: Record) -> Iterator[str]:
    for number, count in record.dead.items():
        name = target_of(number).name
        if not must_die(number):
            yield f"event {number} of {name} is a dead letter, and nothing was wrong with it"
        if count > 1:
            yield f"event {number} of {name} is a dead letter {count} times"
        if number in record.arrived:
            yield f"event {number} of {name} is a dead letter and arrived"


def _account(target: Target, record: Record) -> Account:
    arrived = [number for number in record.arrived if target_of(number) is target]
    promised = [number for number in record.promised if target_of(number) is target]
    late = [number for number in record.late if target_of(number) is target]
    return Account(
        promised=len(promised),
        arrived=len(arrived),
        dead=sum(target_of(number) is target for number in record.dead),
        lost=sum(1 for number in promised if _is_lost(number, record)),
        unpromised=sum(1 for number in arrived if number not in record.promised),
        late=len(late),
        late_lost=sum(1 for number in late if _is_lost(number, record)),
    )


def _is_lost(number: int, record: Record) -> bool:
    return number not in record.arrived and number not in record.dead


def _losses(target: Target, account: Account, record: Record, lives: Sequence[Life]) -> Iterator[str]:
    if not account.lost:
        return
    lost = [n for n in record.promised if target_of(n) is target and _is_lost(n, record)]
    if target.queue == "disk":
        yield f"{target.name}: LOST {len(lost)} promised events on disk: {_some(lost)}"
        return
    for number, count in Counter(record.promised[n] for n in lost).items():
        life = lives[number - 1]
        most = life.ledgers[target.name]["dropped"] if life.how == "term" else MEMORY_EVENTS
        if count > most:
            yield f"{target.name}: LOST {count} events of life {number} ({life.how}), over {most}"


def _count_repeats(target: Target, account: Account, record: Record, lives: Sequence[Life]) -> None:
    begins = [life.began + IMPORT_SECONDS for life in lives]
    for number, moments in record.arrived.items():
        if len(moments) == 1 or target_of(number) is not target:
            continue
        for first, again in pairwise(sorted(moments)):
            earlier = max(1, bisect_right(begins, first))
            life = lives[earlier - 1]
            if earlier == max(1, bisect_right(begins, again)):
                account.repeated_in_life += 1
                continue
            account.repeated_later[life.how] += 1
            account.by_life[earlier].append(life.asked - first)


def _repeats(target: Target, account: Account, lives: Sequence[Life], unknown: int) -> Iterator[str]:
    """What came more than once without a reason. ``unknown`` events may come again at any time."""
    without_reason = account.repeated_in_life
    for number, ages in account.by_life.items():
        life = lives[number - 1]
        left = life.ledgers.get(target.name, {}).get("in_queue", 0)
        if life.how == "term":
            excess = len(ages) - min(left, target.in_flight)
        else:
            excess = sum(age > SETTLED_SECONDS for age in ages) - target.in_flight
        without_reason += max(0, excess)
    if without_reason > unknown:
        yield f"{target.name}: {without_reason} came again without a reason, at most {unknown} have one"


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:SHOWN])) + (" ..." if len(numbers) > SHOWN else "")
